"""The part of Compute Engine's filter language that its clients here use: ``(a = "x") OR (b : "y")``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["FilterError", "matcher"]

_CLAUSE = re.compile(r'\(?\s*([A-Za-z][\w.-]*)\s*(=|:)\s*"([^"]*)"\s*\)?')


class FilterError(Exception):
    pass


def matcher(text: str) -> Callable[[Mapping[str, Any]], bool]:
    """``=`` is equality, ``:`` that a part of the field is equal. Raises ``FilterError``."""
    if not text:
        return lambda thing: True
    clauses = []
    for part in text.split(" OR "):
        found = _CLAUSE.fullmatch(part.strip())
        if found is None:
            raise FilterError(f"Invalid value for field 'filter': '{text}'. Invalid list filter expression.")
        clauses.append(found.groups())

    def matches(thing: Mapping[str, Any]) -> bool:
        return any(_holds(thing, *clause) for clause in clauses)

    return matches


def _holds(thing: Mapping[str, Any], field: str, operator: str, value: str) -> bool:
    # A label's key may have no dot, so that the first one ends the field's name.
    name, _, rest = field.partition(".")
    found: Any = thing.get(name)
    if rest:
        found = found.get(rest) if isinstance(found, dict) else None
    if found is None:
        return False
    return value in str(found) if operator == ":" else str(found) == value
