"""Loading state machine files: substitution, JSON, preparation, graph checks.

The same ``*.asl.json`` files run on AWS; placeholders like ``${ProvisionFunctionArn}`` are given a value here
as the deployment gives them one there.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path as FilePath
from typing import Any

from .errors import DefinitionError
from .preparation import Preparation
from .states import Block, MapState, ParallelState, State

__all__ = ["Definition", "load_definitions"]

_PLACEHOLDER = re.compile(r"\$\{([A-Za-z0-9_]+)\}")
_SUFFIX = ".asl.json"


@dataclass(frozen=True)
class Definition:
    """A state machine that is ready to run. ``text`` is its source after substitution."""

    name: str
    text: str
    root: Block
    timeout: float | None = None
    blocks: Mapping[str, Block] = field(default_factory=dict, repr=False)

    @classmethod
    def from_text(
        cls, name: str, text: str, substitutions: Mapping[str, str] | None = None, *, source: str = ""
    ) -> Definition:
        """Raises ``DefinitionError`` with every problem that was found."""
        source = source or name
        text = _substitute(text, substitutions or {}, source)
        try:
            document = json.loads(text, object_pairs_hook=_unique_keys)
        except ValueError as exc:
            raise DefinitionError([f"{source}: this is not JSON: {exc}"]) from exc
        preparation = Preparation(source)
        root, timeout = preparation.machine(document)
        if preparation.problems or root is None:
            raise DefinitionError(preparation.problems)
        blocks: dict[str, Block] = {}
        _collect(root, "", blocks)
        return cls(name=name, text=text, root=root, timeout=timeout, blocks=blocks)

    @classmethod
    def from_file(cls, path: FilePath, substitutions: Mapping[str, str] | None = None) -> Definition:
        """Named after the file: ``launch.asl.json`` is ``launch``. Raises ``DefinitionError``."""
        return cls.from_text(
            path.name.removesuffix(_SUFFIX), path.read_text(encoding="utf-8"), substitutions, source=path.name
        )

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()[:32]

    def state(self, scope: str, name: str) -> State:
        return self.blocks[scope].states[name]


def load_definitions(
    directory: FilePath, substitutions: Mapping[str, str] | None = None
) -> dict[str, Definition]:
    """Every ``*.asl.json`` of a folder by name. Raises ``DefinitionError`` with all problems of all files."""
    definitions: dict[str, Definition] = {}
    problems: list[str] = []
    for path in sorted(directory.glob("*" + _SUFFIX)):
        try:
            definition = Definition.from_file(path, substitutions)
        except DefinitionError as exc:
            problems.extend(exc.problems)
        else:
            definitions[definition.name] = definition
    if problems:
        raise DefinitionError(problems)
    return definitions


def _substitute(text: str, substitutions: Mapping[str, str], source: str) -> str:
    missing = sorted(set(_PLACEHOLDER.findall(text)) - set(substitutions))
    if missing:
        raise DefinitionError([f"{source}: no value was given for ${{{name}}}" for name in missing])
    return _PLACEHOLDER.sub(lambda match: json.dumps(substitutions[match.group(1)])[1:-1], text)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} is given twice")
    return document


def _collect(block: Block, scope: str, blocks: dict[str, Block]) -> None:
    blocks[scope] = block
    for name, state in block.states.items():
        inner: tuple[Block, ...] = ()
        if isinstance(state, ParallelState):
            inner = state.branches
        elif isinstance(state, MapState):
            inner = (state.processor,)
        for index, child in enumerate(inner):
            _collect(child, f"{scope}/{name}/{index}", blocks)
