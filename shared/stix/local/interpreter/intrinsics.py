"""The eighteen ``States.*`` intrinsic functions, compiled once per text.

Failures raise ``States.IntrinsicFailure``; limits are those that AWS documents.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import random
import re
import uuid
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from .errors import StateError
from .paths import PathSyntaxError, Scope, compile_path

__all__ = ["Expression", "compile_intrinsic"]

Expression = Callable[[Scope], Any]
_NAME = re.compile(r"\s*(States\.[A-Za-z0-9]+)\s*\(")
_LITERAL = re.compile(r"\s*(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null)\s*")
_HASHES = {
    "MD5": hashlib.md5,
    "SHA-1": hashlib.sha1,
    "SHA-256": hashlib.sha256,
    "SHA-384": hashlib.sha384,
    "SHA-512": hashlib.sha512,
}


def _fail(message: str) -> StateError:
    return StateError("States.IntrinsicFailure", message)


def _need(condition: bool, message: str) -> None:
    if not condition:
        raise _fail(message)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(value: Any, name: str) -> int:
    _need(_number(value), f"{name} takes numbers, not {value!r}")
    whole: int = round(value)
    return whole


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _format(template: str, *values: Any) -> str:
    _need(isinstance(template, str), "States.Format takes a string first")
    parts, rest = [], list(values)
    for piece in re.findall(r"\\.|\{\}|.", template, re.DOTALL):
        if piece == "{}":
            _need(bool(rest), f"States.Format has fewer arguments than {{}} in {template!r}")
            parts.append(_text(rest.pop(0)))
        else:
            parts.append(piece[1] if piece in ("\\{", "\\}", "\\\\", "\\'") else piece)
    _need(not rest, f"States.Format has more arguments than {{}} in {template!r}")
    return "".join(parts)


def _string_to_json(text: Any) -> Any:
    _need(isinstance(text, str), "States.StringToJson takes a string")
    try:
        return json.loads(text) if text.strip() else None
    except ValueError as exc:
        raise _fail(f"States.StringToJson: {text[:200]!r} is not JSON") from exc


def _partition(items: Any, size: Any) -> list[Any]:
    _need(isinstance(items, list), "States.ArrayPartition takes an array")
    step = _whole(size, "States.ArrayPartition")
    _need(step > 0, "States.ArrayPartition takes a positive chunk size")
    return [items[start : start + step] for start in range(0, len(items), step)]


def _same(left: Any, right: Any) -> bool:
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def _contains(items: Any, wanted: Any) -> bool:
    _need(isinstance(items, list), "States.ArrayContains takes an array")
    return any(_same(item, wanted) for item in items)


def _range(first: Any, last: Any, step: Any) -> list[int]:
    start, end, pace = (_whole(value, "States.ArrayRange") for value in (first, last, step))
    _need(pace != 0, "States.ArrayRange takes a step other than 0")
    numbers = range(start, end + (1 if pace > 0 else -1), pace)
    _need(len(numbers) <= 1000, "States.ArrayRange makes at most 1000 elements")
    return list(numbers)


def _item(items: Any, index: Any) -> Any:
    _need(isinstance(items, list), "States.ArrayGetItem takes an array")
    position = _whole(index, "States.ArrayGetItem")
    _need(0 <= position < len(items), f"States.ArrayGetItem: no element {position}")
    return items[position]


def _length(items: Any) -> int:
    _need(isinstance(items, list), "States.ArrayLength takes an array")
    return len(items)


def _unique(items: Any) -> list[Any]:
    _need(isinstance(items, list), "States.ArrayUnique takes an array")
    kept: dict[str, Any] = {}
    for item in items:
        kept.setdefault(json.dumps(item, sort_keys=True), item)
    return list(kept.values())


def _encode(text: Any) -> str:
    _need(isinstance(text, str) and len(text) <= 10_000, "States.Base64Encode takes up to 10000 characters")
    return base64.b64encode(text.encode()).decode()


def _decode(text: Any) -> str:
    _need(isinstance(text, str) and len(text) <= 10_000, "States.Base64Decode takes up to 10000 characters")
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as exc:
        raise _fail("States.Base64Decode: the text is no Base64 of UTF-8") from exc


def _hash(value: Any, algorithm: Any) -> str:
    _need(algorithm in _HASHES, f"States.Hash knows {', '.join(_HASHES)}, not {algorithm!r}")
    text = _text(value)
    _need(len(text) <= 10_000, "States.Hash takes up to 10000 characters")
    return _HASHES[algorithm](text.encode(), usedforsecurity=False).hexdigest()


def _merge(left: Any, right: Any, deep: Any) -> Any:
    _need(isinstance(left, dict) and isinstance(right, dict), "States.JsonMerge takes two objects")
    _need(deep is False, "States.JsonMerge takes false as its third argument: deep merging is not supported")
    return {**left, **right}


def _add(left: Any, right: Any) -> int:
    return _whole(left, "States.MathAdd") + _whole(right, "States.MathAdd")


def _split(text: Any, separators: Any) -> list[str]:
    _need(isinstance(text, str) and isinstance(separators, str), "States.StringSplit takes two strings")
    if not separators:
        return [text]
    return [part for part in re.split("[" + re.escape(separators) + "]", text) if part]


def _random(source: random.Random, first: Any, last: Any, seed: Any = None) -> int:
    start, end = _whole(first, "States.MathRandom"), _whole(last, "States.MathRandom")
    _need(start < end, "States.MathRandom takes a start below the end")
    chooser = source if seed is None else random.Random(_whole(seed, "States.MathRandom"))
    return chooser.randrange(start, end)


def _uuid(source: random.Random) -> str:
    return str(uuid.UUID(int=source.getrandbits(128), version=4))


# name -> (fewest arguments, most arguments, function)
_FUNCTIONS: dict[str, tuple[int, int, Callable[..., Any]]] = {
    "States.Format": (1, 99, _format),
    "States.StringToJson": (1, 1, _string_to_json),
    "States.JsonToString": (
        1,
        1,
        lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False),
    ),
    "States.Array": (0, 999, lambda *values: list(values)),
    "States.ArrayPartition": (2, 2, _partition),
    "States.ArrayContains": (2, 2, _contains),
    "States.ArrayRange": (3, 3, _range),
    "States.ArrayGetItem": (2, 2, _item),
    "States.ArrayLength": (1, 1, _length),
    "States.ArrayUnique": (1, 1, _unique),
    "States.Base64Encode": (1, 1, _encode),
    "States.Base64Decode": (1, 1, _decode),
    "States.Hash": (2, 2, _hash),
    "States.JsonMerge": (3, 3, _merge),
    "States.MathAdd": (2, 2, _add),
    "States.StringSplit": (2, 2, _split),
}
_RANDOM: dict[str, tuple[int, int, Callable[..., Any]]] = {
    "States.MathRandom": (2, 3, _random),
    "States.UUID": (0, 0, _uuid),
}


@lru_cache(maxsize=4096)
def compile_intrinsic(text: str) -> Expression:
    """Raises ``PathSyntaxError``."""
    expression, position = _call(text, 0)
    if text[position:].strip():
        raise PathSyntaxError(
            f"unexpected {text[position:].strip()!r} after the intrinsic function in {text!r}"
        )
    return expression


def _call(text: str, start: int) -> tuple[Expression, int]:
    match = _NAME.match(text, start)
    if match is None:
        raise PathSyntaxError(f"{text[start:]!r} is no intrinsic function call")
    name = match.group(1)
    if name not in _FUNCTIONS and name not in _RANDOM:
        raise PathSyntaxError(f"there is no intrinsic function {name}; see the Amazon States Language")
    arguments, position = _arguments(text, match.end(), name)
    fewest, most, function = _FUNCTIONS.get(name) or _RANDOM[name]
    if not fewest <= len(arguments) <= most:
        expected = str(fewest) if fewest == most else f"{fewest} to {most}"
        raise PathSyntaxError(f"{name} takes {expected} arguments, not {len(arguments)}, in {text!r}")
    if name in _FUNCTIONS:
        return (lambda scope: function(*(argument(scope) for argument in arguments))), position
    return (lambda scope: function(scope.chance, *(argument(scope) for argument in arguments))), position


def _arguments(text: str, position: int, name: str) -> tuple[list[Expression], int]:
    arguments: list[Expression] = []
    while True:
        position = _skip(text, position)
        if text[position : position + 1] == ")" and not arguments:
            return arguments, position + 1
        argument, position = _argument(text, position, name)
        arguments.append(argument)
        position = _skip(text, position)
        closing = text[position : position + 1]
        if closing == ")":
            return arguments, position + 1
        if closing != ",":
            raise PathSyntaxError(f"a comma or closing parenthesis is missing in {text!r}")
        position += 1


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def _argument(text: str, start: int, name: str) -> tuple[Expression, int]:
    if text.startswith("States.", start):
        return _call(text, start)
    if text.startswith("'", start):
        match = re.compile(r"'((?:[^'\\]|\\.)*)'", re.DOTALL).match(text, start)
        if match is None:
            raise PathSyntaxError(f"a string is not closed in {text!r}")
        raw = match.group(1)
        # Format gives \{ and \} their own meaning, so it undoes the escapes itself.
        value: Any = raw if name == "States.Format" else re.sub(r"\\([\\'{}])", r"\1", raw)
        return (lambda _scope: value), match.end()
    if text.startswith("$", start):
        end = _path_end(text, start)
        path = compile_path(text[start:end].strip())
        return path.read, end
    match = _LITERAL.match(text, start)
    if match is None:
        raise PathSyntaxError(f"{text[start:]!r} is no string, number, path or function in {text!r}")
    value = json.loads(match.group(1))
    return (lambda _scope: value), match.end()


def _path_end(text: str, start: int) -> int:
    depth, quote = 0, ""
    for position in range(start, len(text)):
        char = text[position]
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "[(":
            depth += 1
        elif char in "])" and depth:
            depth -= 1
        elif char in ",)" and depth == 0:
            return position
    raise PathSyntaxError(f"a closing parenthesis is missing in {text!r}")
