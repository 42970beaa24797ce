"""Ports that a cluster opens to the world."""

from __future__ import annotations

import re
from typing import Any

from stix.model.problems import Problem, refuse_all, shown

__all__ = ["parse_ports"]

_RANGE = re.compile(r"\s*([0-9]{1,5})\s*(?:-\s*([0-9]{1,5})\s*)?", re.ASCII)
_HINT = 'Write 8080, "8080-8090", "80,443" or a list of those; ports are 1 to 65535.'


def parse_ports(value: Any) -> tuple[str, ...]:
    """``8080``, ``"8080-8090"``, ``"80,443"`` or a list of them as distinct ports and ranges, sorted."""
    if value is None:
        return ()
    found: set[tuple[int, int]] = set()
    problems = []
    for index, one in enumerate(value if isinstance(value, (list, tuple)) else [value]):
        try:
            found |= _ranges(one)
        except _NotPortsError as error:
            path = (index,) if isinstance(value, (list, tuple)) else ()
            problems.append(Problem(path, str(error), _HINT, shown(one)))
    if problems:
        raise refuse_all(problems)
    return tuple(str(low) if low == high else f"{low}-{high}" for low, high in sorted(found))


class _NotPortsError(Exception):
    """Says which text is not a port."""


def _ranges(value: Any) -> set[tuple[int, int]]:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise _NotPortsError(f"{shown(value)} is not a port.")
    found = set()
    for part in str(value).split(",") if isinstance(value, str) else [shown(value)]:
        match = _RANGE.fullmatch(part)
        low = int(match[1]) if match else 0
        high = int(match[2] or match[1]) if match else 0
        if not 1 <= low <= high <= 65535:
            raise _NotPortsError(f"{shown(value)} is not a port or a range of ports.")
        found.add((low, high))
    return found
