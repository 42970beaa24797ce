"""Task YAML text to plain values, with the line and column of every field.

The only module of the model that imports PyYAML. Differences from ``yaml.safe_load``: a duplicate key is
an error; keys are always text; dates and sexagesimal numbers (``22:30``) stay text; values below the
``verbatim`` paths stay as they were written (``1.10``, ``yes``); tags that make objects are refused; size,
nesting and alias expansion are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.reader import Reader

from stix.model.errors import TaskError
from stix.model.names import nearest
from stix.model.problems import FieldPath, Problem, shown, task_error

__all__ = ["Document", "dump_yaml", "read_document", "read_documents", "read_task_file"]

MOST_BYTES = 1024 * 1024
MOST_DEPTH = 50
MOST_NODES = 20_000

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Document:
    """One mapping as written.

    ``marks`` holds the 1-based line and column where each path begins. ``problems`` are those that do not
    keep the rest from being checked (duplicate keys); whoever checks the rest tells them together.
    """

    config: dict[str, Any]
    source: str = ""
    marks: Mapping[FieldPath, tuple[int, int]] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    start: tuple[int, int] | None = None

    def line_of(self, path: FieldPath) -> tuple[int, int] | None:
        """Of the path, or of the nearest mapping that holds it."""
        while path and path not in self.marks:
            path = path[:-1]
        return self.marks.get(path)


def read_task_file(path: str | Path) -> str:
    """The text of a task file. Raises ``TaskError`` when it cannot be read, naming the fix."""
    file = Path(path).expanduser()
    try:
        with file.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
    except IsADirectoryError as exc:
        inside = sorted(one.name for one in file.iterdir() if one.suffix in (".yaml", ".yml"))[:3]
        hint = f"Name the file in it: {', '.join(inside)}." if inside else "It holds no .yaml file."
        raise TaskError(f"{path}: a directory, not a task file.", hint=hint) from exc
    except FileNotFoundError as exc:
        near = nearest(file.name, (one.name for one in file.parent.glob("*.y*ml")))
        hint = f"Did you mean {file.parent / near}?" if near else "Check the path."
        raise TaskError(f"{path}: no such file.", hint=hint) from exc
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        raise TaskError(f"{path}: cannot be read: {reason}.", hint="Check the path and its rights.") from exc
    if len(data) > MOST_BYTES:
        raise TaskError(f"{path}: more than 1 MiB.", hint="Put long scripts in files of the workdir.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data[: exc.start].count(b"\n") + 1
        message = f"{path}:{line}: byte {exc.start} is not UTF-8 text."
        raise TaskError(message, hint="Save the file as UTF-8.") from exc


def read_document(text: str, *, source: str = "", verbatim: frozenset[FieldPath] = frozenset()) -> Document:
    """Parse one YAML document that is a mapping. Raises ``TaskError`` when it is not one."""
    documents = read_documents(text, source=source, verbatim=verbatim)
    if len(documents) > 1:
        text = f"this is a pipeline of {len(documents)} documents, and one task is wanted."
        hint = (
            "Keep one task. Pipelines are not supported by `launch` yet; in Python, Dag.from_yaml reads them."
        )
        raise _stop(source, text, hint, documents[1].start)
    return documents[0]


def read_documents(
    text: str, *, source: str = "", verbatim: frozenset[FieldPath] = frozenset()
) -> list[Document]:
    """Parse YAML documents that are mappings, at least one; empty ones are left out. Raises ``TaskError``."""
    _check_text(text, source)
    try:
        _check_nesting(text, source)
        loader = _Loader(text)
        try:
            nodes = _documents(loader)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as exc:
        raise _syntax_error(exc, text, source) from exc
    if not nodes:
        raise _stop(source, "no task in it.", "Write at least run: and a command.")
    documents = []
    count = 0
    for node in nodes:
        if not isinstance(node, MappingNode):
            kind = "a list" if isinstance(node, SequenceNode) else "plain text"
            text = f"a task is a mapping of fields, and this is {kind}."
            raise _stop(source, text, "Write, say, run: echo hello.", _position(node))
        reader = _Reader(source, verbatim, count)
        config = reader.value(node, ())
        count = reader.nodes
        documents.append(
            Document(config or {}, source, reader.marks, tuple(reader.problems), _position(node))
        )
    return documents


def dump_yaml(config: Mapping[str, Any]) -> str:
    """``config`` as YAML text, fields in their order."""
    return str(yaml.dump(dict(config), Dumper=_Dumper, sort_keys=False, default_flow_style=False))


def _position(node: Any) -> tuple[int, int] | None:
    """1-based line and column of a node or event, where it has them."""
    mark = node.start_mark
    return (mark.line + 1, mark.column + 1) if mark else None


def _stop(source: str, text: str, hint: str, position: tuple[int, int] | None = None) -> TaskError:
    return task_error([Problem((), text, hint)], source=source, line_of=lambda path: position)


def _check_text(text: str, source: str) -> None:
    if len(text) > MOST_BYTES:
        raise _stop(source, "more than 1 MiB of YAML.", "Put long scripts in files of the workdir.")
    found = Reader.NON_PRINTABLE.search(text)
    if found:
        start = found.start()
        position = (text.count("\n", 0, start) + 1, start - text.rfind("\n", 0, start))
        raise _stop(
            source, f"character U+{ord(found[0]):04X} is not allowed in YAML.", "Remove it.", position
        )


def _check_nesting(text: str, source: str) -> None:
    """Bound the nesting before composing: the C composer recurses on the native stack without a limit."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MOST_DEPTH:
            raise _stop(source, f"nested more than {MOST_DEPTH} deep.", "Flatten it.", _position(event))


def _documents(loader: Any) -> list[Node]:
    """All documents but empty ones (a trailing ``---`` makes one)."""
    nodes = []
    while loader.check_node():
        node = loader.get_node()
        if not (isinstance(node, ScalarNode) and node.tag == f"{_TAG}null"):
            nodes.append(node)
    return nodes


def _syntax_error(error: yaml.MarkedYAMLError, source_text: str, source: str) -> TaskError:
    mark = error.problem_mark or error.context_mark
    problem = (error.problem or error.context or "not YAML").strip()
    hint = "Check the indentation, quotes and colons around it."
    lines = source_text.split("\n")
    if mark and mark.line < len(lines) and "\t" in lines[mark.line][: mark.column + 1] and "token" in problem:
        problem, hint = "a tab where YAML wants spaces", "Indent with spaces: YAML does not allow tabs."
    elif "tab" in problem:
        hint = "Indent with spaces: YAML does not allow tabs."
    elif "alias" in problem:
        problem, hint = "an alias (*name) without its anchor (&name)", "Quote text that begins with *."
    elif "mapping values are not allowed" in problem:
        hint = "Quote a value that holds a colon and a space, or put its block on the next lines after |."
    text = f"not valid YAML: {re.sub(r'[.]$', '', problem)}."
    position = (mark.line + 1, mark.column + 1) if mark else None
    return _stop(source, text, hint, position)


class _Reader:
    """Nodes to values. One per document: collects marks and problems as it goes."""

    def __init__(self, source: str, verbatim: frozenset[FieldPath], nodes: int = 0):
        self.source = source
        self.verbatim = verbatim
        self.marks: dict[FieldPath, tuple[int, int]] = {}
        self.problems: list[Problem] = []
        self.nodes = nodes
        self.open: set[int] = set()
        self.constructor = SafeConstructor()

    def value(self, node: Node, path: FieldPath) -> Any:
        self.nodes += 1
        if self.nodes > MOST_NODES or id(node) in self.open or len(path) > 2 * MOST_DEPTH:
            raise _stop(
                self.source,
                "aliases expand without end or to too much.",
                "Write the values out.",
                _position(node),
            )
        if isinstance(node, ScalarNode):
            return self.scalar(node, path)
        self.open.add(id(node))
        try:
            if isinstance(node, SequenceNode) and node.tag == f"{_TAG}seq":
                return self.sequence(node, path)
            if isinstance(node, MappingNode) and node.tag == f"{_TAG}map":
                return self.mapping(node, path)
        finally:
            self.open.discard(id(node))
        return self.refuse_tag(node, path)

    def refuse_tag(self, node: Node, path: FieldPath) -> None:
        tag = node.tag.replace(_TAG, "!!")
        self.problems.append(Problem(path, f"the tag {shown(tag)} is not allowed.", "Write a plain value."))

    def scalar(self, node: ScalarNode, path: FieldPath) -> Any:
        kind = node.tag.removeprefix(_TAG)
        text = str(node.value)
        if kind == "null":
            return None
        if kind in ("str", "timestamp", "value", "merge") or (kind in ("int", "float") and ":" in text):
            return text
        if kind not in ("bool", "int", "float"):
            return self.refuse_tag(node, path)
        if path[:-1] in self.verbatim:
            return text
        try:
            return getattr(self.constructor, f"construct_yaml_{kind}")(node)
        except (ValueError, KeyError, IndexError):
            # An explicit tag on something else (`!!int x`), or more digits than Python converts.
            self.problems.append(Problem(path, f"the value is not a valid {kind}.", "Quote it."))
            return None

    def sequence(self, node: SequenceNode, path: FieldPath) -> list[Any]:
        values = []
        for index, item in enumerate(node.value):
            self.mark((*path, index), item)
            values.append(self.value(item, (*path, index)))
        return values

    def mapping(self, node: MappingNode, path: FieldPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == f"{_TAG}merge":
                values = {**self.merge(value_node, path), **values}
        for key_node, value_node in node.value:
            if key_node.tag == f"{_TAG}merge":
                continue
            if not isinstance(key_node, ScalarNode):
                text = "a field's name must be text, not a list or a mapping."
                raise _stop(self.source, text, "Quote it.", _position(key_node))
            key = str(key_node.value)
            below = (*path, key)
            self.mark(below, key_node)
            if key in lines:
                self.problems.append(Problem(below, f"given twice, first on line {lines[key]}.", "Keep one."))
            lines.setdefault(key, key_node.start_mark.line + 1)
            values[key] = self.value(value_node, below)
        return values

    def merge(self, node: Node, path: FieldPath) -> dict[str, Any]:
        """What ``<<`` brings in; the first of a list wins, as YAML says."""
        merged: dict[str, Any] = {}
        for one in node.value if isinstance(node, SequenceNode) else [node]:
            if not isinstance(one, MappingNode):
                raise _stop(
                    self.source,
                    "<< takes a mapping or a list of mappings.",
                    "Write the fields out.",
                    _position(one),
                )
            merged = {**self.value(one, path), **merged}
        return merged

    def mark(self, path: FieldPath, node: Node) -> None:
        self.marks[path] = _position(node) or (1, 1)
