"""Parsers of plain shapes (a flag, a number, a list, a mapping with named fields), put together into those
of whole sections.

A parser takes what YAML gave and returns the parsed value, or raises ``refuse`` or ``refuse_all`` with paths
below its field. Null means "not given": ``mapping`` leaves such a field out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic import ValidationError
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from stix.model.fields import Section
from stix.model.names import did_you_mean
from stix.model.problems import FieldPath, Problem, problems_in, refuse, refuse_all, shown

__all__ = [
    "Parser",
    "ReadBy",
    "at_path",
    "choice",
    "each",
    "flag",
    "free_mapping",
    "mapping",
    "named",
    "number",
    "one_or_many",
    "text",
    "whole",
]

Parser: TypeAlias = Callable[[Any], Any]

LONGEST_TEXT = 4096


@dataclass(frozen=True, slots=True)
class ReadBy:
    """``Annotated[T, ReadBy(parser)]``: a field of a model that ``parser`` alone reads. As pydantic's
    ``PlainValidator``, without the schema of ``T`` that it builds at import and never uses."""

    parser: Parser

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.parser)


def at_path(parser: Parser, value: Any, path: FieldPath) -> tuple[Any, list[Problem]]:
    """The parsed value, or None and the problems with it, seen from above ``path``."""
    try:
        return parser(value), []
    except ValidationError as error:
        return None, [one.below(*path) for one in problems_in(error)]
    except PydanticCustomError as error:
        context = error.context or {}
        return None, [Problem(path, context["text"], context["hint"], context["value"])]


def flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise refuse(
        f"{shown(value)} is neither true nor false.", "Write true or false without quotes.", value=value
    )


def whole(least: int, most: int | None = None) -> Parser:
    """A whole number from ``least`` to ``most``."""
    accepted = f"from {least} to {most}" if most is not None else f"of {least} or more"

    def parse(value: Any) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= (most or 10**9):
            hint = f"Write a whole number {accepted}, without quotes."
            raise refuse(f"{shown(value)} is not a whole number {accepted}.", hint, value=value)
        return value

    return parse


def number(least: float = 0, *, above: bool = False, unit: str = "") -> Parser:
    """A finite number of ``least`` or more, or with ``above`` only more; at most 1e9."""
    accepted = f"{'above' if above else 'of at least'} {least:g}{' ' * bool(unit)}{unit}"

    def parse(value: Any) -> float:
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= 1e9
        if not good or not math.isfinite(value) or value < least or (above and value == least):
            hint = f"Write a number {accepted}, without quotes."
            raise refuse(f"{shown(value)} is not a number {accepted}.", hint, value=value)
        return float(value)

    return parse


def text(what: str, hint: str = "Write text.", *, longest: int = LONGEST_TEXT) -> Parser:
    """Text that is not blank."""

    def parse(value: Any) -> str:
        if not isinstance(value, str) or not value.strip() or "\0" in value:
            raise refuse(f"{shown(value)} is not {what}.", hint, value=value)
        try:
            length = len(value.encode())
        except UnicodeEncodeError:
            raise refuse(f"{what} holds a character that is not valid Unicode.", hint) from None
        if length > longest:
            raise refuse(f"{shown(value)} is {length} bytes long.", f"At most {longest} fit.", value=value)
        return value

    return parse


def choice(what: str, names: Collection[str]) -> Parser:
    """One of ``names`` in any capitalisation; the result is as in ``names``."""
    by_folded = {name.lower(): name for name in names}

    def parse(value: Any) -> str:
        folded = value.strip().lower() if isinstance(value, str) else ""
        if folded not in by_folded:
            raise refuse(f"{shown(value)} is not {what}.", did_you_mean(folded, names), value=value)
        return by_folded[folded]

    return parse


def each(parser: Parser, what: str, *, least: int = 0, most: int = 1000) -> Parser:
    """A list, as a tuple of parsed items; every wrong item is told."""

    def parse(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)):
            raise refuse(f"{shown(value)} is not a list.", f"Write a list of {what}.", value=value)
        if not least <= len(value) <= most:
            raise refuse(f"the list has {len(value)} items.", f"Write {least} to {most} {what}.", value=value)
        parsed, problems = [], []
        for index, item in enumerate(value):
            one, wrong = at_path(parser, item, (index,))
            parsed.append(one)
            problems += wrong
        if problems:
            raise refuse_all(problems)
        return tuple(parsed)

    return parse


def one_or_many(parser: Parser, what: str) -> Parser:
    """One item or a list of them, as a tuple."""
    many = each(parser, what, least=1)
    return lambda value: many(value) if isinstance(value, (list, tuple)) else (parser(value),)


def named(
    parser: Parser, what: str, *, key: Parser | None = None, least: int = 0, most: int = 1000
) -> Parser:
    """A mapping of any names to parsed values; ``key`` parses the names. Null values go to ``parser``."""

    def parse(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise refuse(f"{shown(value)} is not a mapping.", f"Write {what}.", value=value)
        if not least <= len(value) <= most:
            accepted = str(most) if least == most else f"{least} to {most}"
            raise refuse(f"the mapping has {len(value)} entries.", f"Write {accepted}: {what}.", value=value)
        parsed: dict[str, Any] = {}
        problems: list[Problem] = []
        for name, item in value.items():
            path = (name if isinstance(name, str) else shown(name),)
            if not isinstance(name, str):
                problems.append(Problem(path, "a name must be text.", "Quote it."))
                continue
            label, wrong = at_path(key, name, path) if key else (name, [])
            one, below = at_path(parser, item, path)
            problems += wrong or below
            parsed[label] = one
        if problems:
            raise refuse_all(problems)
        return parsed

    return parse


def mapping(
    what: str,
    fields: Mapping[str, Parser],
    *,
    required: Iterable[str] = (),
    aliases: Mapping[str, str] | None = None,
    ignored: Collection[str] = (),
    others: bool = False,
) -> Parser:
    """A mapping of named fields, as a dict of those that were given.

    ``ignored`` fields may be there and are left out. ``others`` keeps unknown fields as they are, but refuses
    those that look like a misspelt known one.
    """
    section = Section(what, tuple(fields), aliases or {}, frozenset(ignored), others)
    must = tuple(required)

    def parse_fields(kept: Mapping[str, Any]) -> dict[str, Any]:
        parsed: dict[str, Any] = {}
        problems = []
        for name, value in kept.items():
            if value is None:
                continue
            one, wrong = at_path(fields.get(name, _as_is), value, (name,))
            problems += wrong
            parsed[name] = one
        for name in must:
            if kept.get(name) is None:
                problems.append(Problem((), f'{what} needs "{name}".', f"Add {name}:."))
        if problems:
            raise refuse_all(problems)
        return parsed

    return lambda value: section.read(value, parse_fields)


def free_mapping(what: str) -> Parser:
    """A mapping that is handed on as it is: plain values, mappings and lists of them, named by text."""

    def parse(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise refuse(f"{shown(value)} is not a mapping.", f"Write {what} as name: value.", value=value)
        found: dict[str, Any] = _as_is(value)
        return found

    return parse


def _as_is(value: Any) -> Any:
    """A copy of plain values. Raises when something else is in it."""
    if isinstance(value, Mapping):
        return named(_as_is, "name: value", most=10_000)(value)
    if isinstance(value, (list, tuple)):
        return list(each(_as_is, "values", most=10_000)(value))
    if isinstance(value, float) and not math.isfinite(value):
        raise refuse(f"{shown(value)} is not a number.", "Write a finite one.", value=value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str) and value.isprintable():
        return value
    return value if value == "" else text("a plain value", longest=128 * 1024)(value)
