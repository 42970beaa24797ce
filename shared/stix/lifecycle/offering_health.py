"""What is remembered of an offering (a machine type in a place and market), and whether to try it now.

No I/O, no clock. The rules, so that one launch's failure saves the next thousand the same call:

* A refusal blocks: for ``_FIRST_BLOCK`` seconds of its kind, three times longer with each one in a row, an
  hour at most. A block ends half open: one launch may probe it, and its outcome decides.
* Only so many creations are under way at once (the budget): two where nothing is known, twice as many after
  every success, half as many after a refusal. Who finds the budget used up waits for an outcome instead of
  making the same call; within seconds it either goes ahead or knows that it need not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

__all__ = [
    "CLAIM_SECONDS",
    "Health",
    "Judgement",
    "Verdict",
    "after_failure",
    "after_success",
    "claimed",
    "judge",
    "released",
]

CLAIM_SECONDS = 150.0
"""Above the time-out of a create call: then its outcome is known, or its caller died."""

_FIRST_BUDGET = 2.0
_MOST_BUDGET = 64.0
_FACTOR = 3.0
_LONGEST_BLOCK = 3600.0
_FIRST_BLOCK: Mapping[str, float] = {
    # Measured by others: Karpenter forgets missing capacity after three minutes.
    "no_capacity": 180.0,
    # A person has to raise it.
    "quota_exceeded": 1800.0,
    "credentials": 600.0,
    # The machines were accepted and did not come up, or nobody knows what became of the call.
    "boot_failed": 120.0,
    "unavailable": 60.0,
}
_OTHER_BLOCK = 60.0


class Verdict(StrEnum):
    TRY = "try"
    PROBE = "probe"
    """It was refused lately; one launch may ask again."""
    BUSY = "busy"
    """Others are asking: their outcome is known within seconds."""
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Judgement:
    """``until``: epoch seconds at which it may be another; 0 for at once."""

    verdict: Verdict
    reason: str = ""
    until: float = 0.0


@dataclass(frozen=True, slots=True)
class Health:
    """Epoch seconds; ``failures`` are those in a row; ``claims`` maps a creation's token to its expiry."""

    failures: int = 0
    successes: int = 0
    budget: float = _FIRST_BUDGET
    blocked_until: float = 0.0
    kind: str = ""
    words: str = ""
    changed_at: float = 0.0
    claims: Mapping[str, float] = field(default_factory=dict)


def judge(health: Health, token: str, now: float) -> Judgement:
    """Whether the creation ``token`` may ask now. A creation that holds a claim already may go on."""
    if now < health.blocked_until:
        return Judgement(Verdict.BLOCKED, health.words, health.blocked_until)
    live = {claim for claim, expires in health.claims.items() if expires > now}
    allowed = 1 if health.failures else int(health.budget)
    if token not in live and len(live) >= allowed:
        soonest = min(expires for expires in health.claims.values() if expires > now)
        return Judgement(Verdict.BUSY, "other launches are asking there", soonest)
    return Judgement(Verdict.PROBE if health.failures else Verdict.TRY, health.words)


def claimed(health: Health, token: str, now: float) -> Health:
    """``token`` is about to ask."""
    live = {claim: expires for claim, expires in health.claims.items() if expires > now}
    return replace(health, claims={**live, token: now + CLAIM_SECONDS}, changed_at=now)


def released(health: Health, token: str, now: float) -> Health:
    """``token`` asked, and its outcome says nothing of this offering."""
    return replace(health, claims=_without(health, token, now), changed_at=now)


def after_success(health: Health, token: str, now: float) -> Health:
    """``token`` got its machines."""
    return replace(
        health,
        failures=0,
        successes=health.successes + 1,
        budget=min(_MOST_BUDGET, health.budget * 2),
        blocked_until=0.0,
        kind="",
        words="",
        claims=_without(health, token, now),
        changed_at=now,
    )


def after_failure(health: Health, token: str, now: float, kind: str, words: str, jitter: float) -> Health:
    """``token`` was refused; ``jitter`` in [0, 1) spreads the probes of many offerings over time.

    A refusal of a call that was under way when the block began does not lengthen it.
    """
    claims = _without(health, token, now)
    if now < health.blocked_until and kind == health.kind:
        return replace(health, claims=claims, words=words, changed_at=now)
    first = _FIRST_BLOCK.get(kind, _OTHER_BLOCK)
    block = min(_LONGEST_BLOCK, first * _FACTOR**health.failures)
    return replace(
        health,
        failures=health.failures + 1,
        budget=max(1.0, health.budget / 2),
        blocked_until=now + block * (0.9 + 0.2 * jitter),
        kind=kind,
        words=words,
        claims=claims,
        changed_at=now,
    )


def _without(health: Health, token: str, now: float) -> dict[str, float]:
    return {claim: expires for claim, expires in health.claims.items() if claim != token and expires > now}
