"""RFC 3339 timestamps as the Amazon States Language uses them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

__all__ = ["format_timestamp", "parse_timestamp"]

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def parse_timestamp(text: str) -> datetime:
    """Aware, to the microsecond. Raises ``ValueError``."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no timestamp like 2026-01-31T09:30:00Z")
    fraction = match.group(1) or ""
    return datetime.fromisoformat(text.replace(fraction, fraction[:7].ljust(7, "0"), 1) if fraction else text)


def format_timestamp(epoch: float) -> str:
    """Milliseconds and ``Z``, as in the context object."""
    moment = datetime.fromtimestamp(epoch, tz=UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
