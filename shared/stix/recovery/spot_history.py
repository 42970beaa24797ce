"""What was seen of spot machines of one type in one place: since when they could be had, and when not.

Only launches and their machines tell; nobody asks for the sake of knowing. What was seen holds for a while,
then nothing is known until somebody looks again: a gap is no run, and no chance is counted over it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["UNKNOWN", "SpotHistory", "after_look", "merged", "state_since"]

UNKNOWN = -1
_HOLDS_SECONDS = 1800.0
_GAP_SECONDS = 6 * 3600.0
"""Between two looks further apart than this the state is unknown, else it is what the earlier one saw."""
_KEPT = 400


@dataclass(frozen=True, slots=True)
class SpotHistory:
    """``changes``: (since when, 1 for available, 0 for not, ``UNKNOWN``), oldest first; ``seen_at``: the last
    look."""

    changes: tuple[tuple[float, int], ...] = ()
    seen_at: float = 0.0


def after_look(history: SpotHistory, up: bool, at: float, since: float | None = None) -> SpotHistory:
    """With what was seen at ``at``; ``since``: it has been so from then on, without a break. A look that is
    older than the last one changes nothing."""
    if at < history.seen_at:
        return history
    begins = at if since is None else max(min(since, at), history.seen_at)
    changes = history.changes
    if changes and begins - history.seen_at > _GAP_SECONDS:
        changes = (*changes, (history.seen_at + _HOLDS_SECONDS, UNKNOWN))
    if not changes or changes[-1][1] != int(up):
        changes = (*changes, (begins, int(up)))
    return SpotHistory(changes[-_KEPT:], at)


def merged(histories: Iterable[SpotHistory], now: float) -> list[tuple[float, int]]:
    """The changes of having spot in any of the places: available where one is, not where none of those that
    are known is."""
    moments: list[tuple[float, int, int]] = []
    for number, history in enumerate(histories):
        moments += [(at, number, state) for at, state in history.changes]
        if history.changes and history.seen_at + _HOLDS_SECONDS < now:
            moments.append((history.seen_at + _HOLDS_SECONDS, number, UNKNOWN))
    states: dict[int, int] = {}
    changes: list[tuple[float, int]] = []
    for at, number, state in sorted(moments, key=lambda one: one[0]):
        states[number] = state
        together = max(states.values())
        if changes and changes[-1][0] == at:
            changes.pop()
        if not changes or changes[-1][1] != together:
            changes.append((at, together))
    return changes


def state_since(changes: Sequence[tuple[float, int]], up: bool) -> float | None:
    """Since when it has been as it is now; None where the history ends otherwise."""
    return changes[-1][0] if changes and changes[-1][1] == int(up) else None
