"""What a launch tried and what it passed over, for ``stix status -v`` and ``stix explain``."""

from __future__ import annotations

from collections.abc import Sequence

from stix.cli.amounts import age, price_text
from stix.cli.session import Session
from stix.cli.tables import Column, table
from stix.sdk.responses import Attempt

__all__ = ["print_attempts"]

_ATTEMPTS = [
    Column("  AGO", right=True),
    Column("PLACE", shrinks=True),
    Column("INSTANCE", shrinks=True),
    Column("PRICE", right=True),
    Column("OUTCOME"),
    Column("REASON", shrinks=True),
]


def print_attempts(session: Session, attempts: Sequence[Attempt], now: float) -> None:
    """One line an attempt; refusals below it in full, since they name the fix."""
    session.say("  tried:")
    rows = [
        (
            f"  {age(now - attempt['at'])}",
            attempt["place"],
            attempt["instance_type"] + (" spot" if attempt.get("spot") else ""),
            price_text(attempt.get("price") or None),
            attempt["outcome"],
            _reason(attempt, now),
        )
        for attempt in attempts
    ]
    table(session, _ATTEMPTS, rows)


def _reason(attempt: Attempt, now: float) -> str:
    until = attempt.get("until") or 0.0
    if attempt["outcome"] == "skipped" and until > now:
        return f"not before {age(until - now)}: {attempt['reason']}"
    return attempt["reason"] or "-"
