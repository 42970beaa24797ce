"""Names that people give to things, and the nearest valid name when they miss one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

__all__ = ["CLUSTER_NAME", "ENV_NAME", "MAX_NAME", "TASK_NAME", "did_you_mean", "nearest"]

MAX_NAME = 63
"""Longest cluster and task name: what fits a DNS label and a tag on every cloud."""

TASK_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", re.ASCII)
CLUSTER_NAME = re.compile(r"[A-Za-z]([A-Za-z0-9._-]*[A-Za-z0-9])?", re.ASCII)
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def nearest(given: str, valid: Iterable[str]) -> str | None:
    """The valid name that ``given`` most likely meant, or None when nothing is close; case does not count."""
    by_folded = {name.casefold(): name for name in valid}
    folded = given.casefold()[:100]
    found = difflib.get_close_matches(folded, by_folded, n=1, cutoff=0.6)
    if not found and len(folded) > 2:
        found = [name for name in by_folded if name.startswith(folded)][:1]
    return by_folded[found[0]] if found else None


def did_you_mean(given: str, accepted: Iterable[str], *, known: Iterable[str] = ()) -> str:
    """``Did you mean "x"?`` for the nearest accepted or known name, or else the list of what is accepted."""
    names = list(accepted)
    near = nearest(given, [*names, *known])
    return f'Did you mean "{near}"?' if near else f"Accepted: {', '.join(names)}."
