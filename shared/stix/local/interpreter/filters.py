"""The filters of JSONPath: ``[?(@.price < 10 && @.name == 'x')]``."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable
from typing import Any, Protocol

from .errors import StateError

__all__ = ["compile_filter", "split_quoted"]

Test = Callable[[Any], bool]
_TOKEN = re.compile(
    r"""\s*(?:(?P<operator>&&|\|\||==|!=|<=|>=|=~|<|>|!|\(|\))
        |(?P<path>@(?:\.\.?[\w*-]+|\[[^\]]*\])*)
        |(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
        |(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
        |(?P<word>true|false|null))""",
    re.VERBOSE,
)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ABSENT = object()


class _Findable(Protocol):
    def find(self, root: Any) -> Any: ...


def split_quoted(text: str, separator: str) -> list[str]:
    """``text`` cut at every ``separator`` outside quotes and brackets."""
    parts, depth, quote, start, position = [], 0, "", 0, 0
    while position < len(text):
        char = text[position]
        if quote:
            if char == "\\":
                position += 1
            elif char == quote:
                quote = ""
        elif char in "'\"":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char == separator and depth == 0:
            parts.append(text[start:position])
            start = position + 1
        position += 1
    return [*parts, text[start:]]


def compile_filter(text: str, compile_path: Callable[[str], _Findable]) -> Test:
    """The text inside ``?``. Raises ``ValueError``."""
    tokens, position = [], 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"unexpected {text[position:].strip()!r}")
        tokens.append((match.lastgroup or "", match.group().strip()))
        position = match.end()
    reader = _Reader(tokens, compile_path)
    test = reader.either()
    if reader.tokens:
        raise ValueError(f"unexpected {reader.tokens[0][1]!r}")
    return test


class _Reader:
    """Recursive descent over the tokens of one filter; ``||`` binds weaker than ``&&``."""

    def __init__(self, tokens: list[tuple[str, str]], compile_path: Callable[[str], _Findable]):
        self.tokens = tokens
        self.compile_path = compile_path

    def _take(self, *symbols: str) -> str:
        if self.tokens and self.tokens[0][0] == "operator" and self.tokens[0][1] in symbols:
            return self.tokens.pop(0)[1]
        return ""

    def either(self) -> Test:
        tests = [self.both()]
        while self._take("||"):
            tests.append(self.both())
        return tests[0] if len(tests) == 1 else lambda item: any(test(item) for test in tests)

    def both(self) -> Test:
        tests = [self.single()]
        while self._take("&&"):
            tests.append(self.single())
        return tests[0] if len(tests) == 1 else lambda item: all(test(item) for test in tests)

    def single(self) -> Test:
        if self._take("!"):
            negated = self.single()
            return lambda item: not negated(item)
        if self._take("("):
            inner = self.either()
            if not self._take(")"):
                raise ValueError("a closing parenthesis is missing")
            return inner
        left = self._operand()
        symbol = self._take("==", "!=", "<", "<=", ">", ">=")
        if not symbol:
            return lambda item: left(item) is not _ABSENT
        right = self._operand()
        if symbol == "==":
            return lambda item: _equal(left(item), right(item))
        if symbol == "!=":
            return lambda item: not _equal(left(item), right(item))
        compare = _COMPARE[symbol]
        return lambda item: _ordered(compare, left(item), right(item))

    def _operand(self) -> Callable[[Any], Any]:
        if not self.tokens:
            raise ValueError("it ends too early")
        kind, text = self.tokens.pop(0)
        if kind == "path":
            path = self.compile_path("$" + text[1:])
            return lambda item: _read(path, item)
        if kind == "text":
            literal: Any = re.sub(r"\\(.)", r"\1", text[1:-1])
        elif kind in ("number", "word"):
            literal = json.loads(text)
        else:
            raise ValueError(f"unexpected {text!r}")
        return lambda _item: literal


def _read(path: _Findable, item: Any) -> Any:
    try:
        return path.find(item)
    except StateError:
        return _ABSENT


def _equal(left: Any, right: Any) -> bool:
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def _ordered(compare: Callable[[Any, Any], bool], left: Any, right: Any) -> bool:
    numbers = all(isinstance(side, (int, float)) and not isinstance(side, bool) for side in (left, right))
    texts = isinstance(left, str) and isinstance(right, str)
    return (numbers or texts) and compare(left, right)
