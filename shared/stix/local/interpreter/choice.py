"""The rules of Choice states."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from .errors import StateError
from .intrinsics import Expression
from .paths import PathSyntaxError, Scope, compile_path
from .templates import compile_expression
from .timestamps import parse_timestamp

__all__ = ["Rule", "compile_rule"]

Rule = Callable[[Scope], bool]
Compare = Callable[[Any, Any], bool]
_ORDERS: dict[str, Compare] = {
    "Equals": operator.eq,
    "LessThan": operator.lt,
    "LessThanEquals": operator.le,
    "GreaterThan": operator.gt,
    "GreaterThanEquals": operator.ge,
}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_timestamp(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        parse_timestamp(value)
    except ValueError:
        return False
    return True


_KINDS: dict[str, tuple[Callable[[Any], bool], Callable[[Any], Any], str]] = {
    "String": (lambda value: isinstance(value, str), lambda value: value, "a string"),
    "Numeric": (_is_number, lambda value: value, "a number"),
    "Boolean": (lambda value: isinstance(value, bool), lambda value: value, "true or false"),
    "Timestamp": (_is_timestamp, parse_timestamp, "a timestamp like 2026-01-31T09:30:00Z"),
}
_IS: dict[str, Callable[[Any], bool]] = {
    "IsNull": lambda value: value is None,
    "IsNumeric": _is_number,
    "IsString": lambda value: isinstance(value, str),
    "IsBoolean": lambda value: isinstance(value, bool),
    "IsTimestamp": _is_timestamp,
}
_COMPARISON = re.compile(r"(String|Numeric|Boolean|Timestamp)(\w*?)(Path)?")


def compile_rule(rule: Any, *, top: bool = True) -> Rule:
    """Raises ``PathSyntaxError`` (also for anything else that is wrong with the rule)."""
    if not isinstance(rule, Mapping):
        raise PathSyntaxError(f"a choice rule is an object, not {rule!r}")
    operators = [key for key in rule if key not in ("Variable", "Next", "Comment")]
    if "Next" in rule and not top:
        raise PathSyntaxError("only the outermost rule has Next")
    if len(operators) != 1:
        raise PathSyntaxError(f"a choice rule has one operator, not {', '.join(operators) or 'none'}")
    name = operators[0]
    given = rule[name]
    if name == "Not":
        negated = compile_rule(given, top=False)
        return lambda scope: not negated(scope)
    if name in ("And", "Or"):
        if not isinstance(given, list) or not given:
            raise PathSyntaxError(f"{name} takes a list of at least one rule")
        rules = [compile_rule(each, top=False) for each in given]
        if name == "And":
            return lambda scope: all(each(scope) for each in rules)
        return lambda scope: any(each(scope) for each in rules)
    if not isinstance(rule.get("Variable"), str):
        raise PathSyntaxError(f"the rule with {name} needs a Variable")
    return _comparison(name, given, compile_path(rule["Variable"]).read)


def _comparison(name: str, given: Any, variable: Expression) -> Rule:
    if name == "IsPresent" or name in _IS:
        if not isinstance(given, bool):
            raise PathSyntaxError(f"{name} takes true or false, not {given!r}")
        if name == "IsPresent":
            return lambda scope: _present(scope, variable) is given
        check = _IS[name]
        return lambda scope: check(variable(scope)) is given
    if name == "StringMatches":
        if not isinstance(given, str):
            raise PathSyntaxError(f"StringMatches takes a string, not {given!r}")
        pattern = re.compile(_wildcards(given), re.DOTALL)
        return lambda scope: isinstance(value := variable(scope), str) and bool(pattern.fullmatch(value))
    match = _COMPARISON.fullmatch(name)
    kind, order, by_path = match.groups() if match else ("", "", None)
    if order not in _ORDERS or (kind == "Boolean" and order != "Equals"):
        raise PathSyntaxError(f"there is no choice operator {name}")
    accepts, convert, wanted = _KINDS[kind]
    compare = _ORDERS[order]
    if by_path:
        other = compile_expression(given)

        def dynamic(scope: Scope) -> bool:
            left, right = variable(scope), other(scope)
            return accepts(left) and accepts(right) and compare(convert(left), convert(right))

        return dynamic
    if not accepts(given):
        raise PathSyntaxError(f"{name} takes {wanted}, not {given!r}")
    constant = convert(given)
    return lambda scope: accepts(left := variable(scope)) and compare(convert(left), constant)


def _present(scope: Scope, variable: Expression) -> bool:
    try:
        variable(scope)
    except StateError:
        return False
    return True


def _wildcards(pattern: str) -> str:
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    return "".join(
        ".*" if part == "*" else re.escape(part[-1] if part[0] == "\\" else part) for part in parts
    )
