"""JSONPath: reading paths, reference paths, and writing through a reference path.

Supported: ``$`` (data) and ``$$`` (context object), names, indices, slices, unions, wildcards, recursive
descent, filters, and ``length()`` as the last step. A definite path that is absent raises ``States.Runtime``;
an indefinite path answers a list, empty when nothing matches.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Protocol

from .errors import RUNTIME, StateError
from .filters import compile_filter, split_quoted

__all__ = ["Path", "PathSyntaxError", "Scope", "compile_path"]

Step = Callable[[Any], Iterator[Any]]
_STOP = ".[ \t\n(),'\""


class PathSyntaxError(ValueError):
    """The text is no path that we run; the message says what is wrong."""


class Scope(Protocol):
    """What an expression may read."""

    @property
    def data(self) -> Any: ...

    @property
    def context(self) -> dict[str, Any]: ...

    @property
    def chance(self) -> random.Random:
        """Of ``States.UUID`` and ``States.MathRandom``: a visit repeated after a crash repeats them."""
        ...


class Path:
    """A compiled path. ``keys`` are the names and indices of a reference path, None for an indefinite one."""

    __slots__ = ("in_context", "keys", "length", "steps", "text")

    def __init__(self, text: str, in_context: bool, steps: list[str | int | Step], length: bool):
        self.text = text
        self.in_context = in_context
        self.steps = steps
        self.length = length
        definite = not length and not any(callable(step) for step in steps)
        self.keys: tuple[str | int, ...] | None = (
            tuple(step for step in steps if isinstance(step, (str, int))) if definite else None
        )

    def read(self, scope: Scope) -> Any:
        """The value, or the list of values of an indefinite path. Raises ``StateError``."""
        return self.find(scope.context if self.in_context else scope.data)

    def find(self, root: Any) -> Any:
        """As ``read``, on a plain value."""
        value = root
        if self.keys is not None:
            for key in self.keys:
                value = _child(value, key, self.text)
            return value
        values: list[Any] | None = None
        for step in self.steps:
            if not callable(step):
                if values is None:
                    value = _child(value, step, self.text)
                else:
                    values = [item[step] for item in values if _has(item, step)]
            else:
                values = [found for item in ([value] if values is None else values) for found in step(item)]
        if not self.length:
            return values
        counted = value if values is None else values
        return len(counted) if isinstance(counted, (list, dict, str)) else 0

    def write(self, root: Any, value: Any) -> Any:
        """A copy of ``root`` with ``value`` at this reference path; missing objects are made on the way.

        Raises ``States.ResultPathMatchFailure`` when something else than an object is in the way.
        """
        if self.keys is None:
            raise StateError(RUNTIME, f"{self.text} is not a reference path")
        return _write(root, self.keys, value, self.text)


def _has(item: Any, key: str | int) -> bool:
    if isinstance(key, str):
        return isinstance(item, dict) and key in item
    return isinstance(item, list) and -len(item) <= key < len(item)


def _child(value: Any, key: str | int, text: str) -> Any:
    if not _has(value, key):
        raise StateError(
            RUNTIME, f"The JSONPath '{text}' could not be found in the input: there is no {key!r}"
        )
    return value[key]


def _write(root: Any, keys: tuple[str | int, ...], value: Any, text: str) -> Any:
    if not keys:
        return value
    key, rest = keys[0], keys[1:]
    if isinstance(key, str) and isinstance(root, dict):
        return {**root, key: _write(root.get(key, {}), rest, value, text)}
    if isinstance(key, int) and _has(root, key):
        copy = list(root)
        copy[key] = _write(root[key], rest, value, text)
        return copy
    raise StateError(
        "States.ResultPathMatchFailure",
        f"Unable to apply the ResultPath '{text}': {key!r} has no place to go",
    )


@lru_cache(maxsize=4096)
def compile_path(text: str) -> Path:
    """Raises ``PathSyntaxError``."""
    if not text.startswith("$"):
        raise PathSyntaxError(f"the path {text!r} must start with $")
    position = 2 if text.startswith("$$") else 1
    in_context = position == 2
    steps: list[str | int | Step] = []
    length = False
    while position < len(text):
        if length:
            raise PathSyntaxError(f"nothing may follow length() in {text!r}")
        if text.startswith("..", position):
            steps.append(_descendants)
            position += 2
            if text[position : position + 1] != "[":
                position, step = _dotted(text, position)
                steps.append(step)
        elif text[position] == ".":
            position, step = _dotted(text, position + 1)
            if text.startswith("()", position):
                if step != "length":
                    raise PathSyntaxError(
                        f"the function {step}() in {text!r} is not supported; only length() is"
                    )
                position, length = position + 2, True
            else:
                steps.append(step)
        elif text[position] == "[":
            end = _closing(text, position)
            steps.append(_bracket(text[position + 1 : end].strip(), text))
            position = end + 1
        else:
            raise PathSyntaxError(
                f"unexpected {text[position]!r} at character {position + 1} of the path {text!r}"
            )
    return Path(text, in_context, steps, length)


def _dotted(text: str, start: int) -> tuple[int, str | Step]:
    end = start
    while end < len(text) and text[end] not in _STOP:
        end += 1
    name = text[start:end]
    if not name:
        raise PathSyntaxError(f"a name is missing at character {start + 1} of the path {text!r}")
    return end, (_children if name == "*" else name)


def _closing(text: str, start: int) -> int:
    depth, quote, position = 0, "", start
    while position < len(text):
        char = text[position]
        if quote:
            if char == "\\":
                position += 1
            elif char == quote:
                quote = ""
        elif char in "'\"":
            quote = char
        elif char in "[(":
            depth += 1
        elif char in "])":
            depth -= 1
            if depth == 0:
                return position
        position += 1
    raise PathSyntaxError(f"the bracket at character {start + 1} of the path {text!r} is not closed")


def _bracket(inner: str, text: str) -> str | int | Step:
    if inner == "*":
        return _children
    if inner.startswith("?"):
        try:
            keep = compile_filter(inner[1:].strip(), compile_path)
        except ValueError as exc:
            raise PathSyntaxError(f"the filter of the path {text!r} is wrong: {exc}") from exc
        return lambda item: (each for each in _children(item) if keep(each))
    try:
        if ":" in inner and inner[0] not in "'\"":
            parts = [int(part) if part.strip() else None for part in inner.split(":")]
            section = slice(*parts)
            return lambda item: iter(item[section] if isinstance(item, list) else ())
        keys = [_key(part) for part in split_quoted(inner, ",")]
    except (ValueError, TypeError) as exc:
        raise PathSyntaxError(f"[{inner}] in the path {text!r} is no name, index, slice or filter") from exc
    if len(keys) == 1:
        return keys[0]
    return lambda item: (item[key] for key in keys if _has(item, key))


def _key(part: str) -> str | int:
    part = part.strip()
    if len(part) >= 2 and part[0] in "'\"" and part[-1] == part[0]:
        return part[1:-1].replace("\\" + part[0], part[0]).replace("\\\\", "\\")
    return int(part)


def _children(item: Any) -> Iterator[Any]:
    if isinstance(item, dict):
        yield from item.values()
    elif isinstance(item, list):
        yield from item


def _descendants(item: Any) -> Iterator[Any]:
    if isinstance(item, (dict, list)):
        yield item
        for each in _children(item):
            yield from _descendants(each)
