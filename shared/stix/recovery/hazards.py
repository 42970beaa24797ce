"""How long spot machines of a place can be had, and how long not: chances by age, counted from its
history."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from stix.recovery.induction import AGES, age_group

__all__ = ["PRIOR", "fit_hazards", "prior_for", "sampled"]

PRIOR: tuple[tuple[float, ...], tuple[float, ...]] = (
    (0.223, 0.30, 0.16, 0.10, 0.06, 0.035),
    (0.25, 0.16, 0.10, 0.06, 0.045, 0.022),
)
"""Of ticks of about ten minutes, first without spot, then with it: V100 machines in 2023 (spot-traces,
``availability/1-node/aws-02-15-2023``). The shape by age is that of its three zones of us-west-2; the level
is scaled to the mean runs of all nine zones (3.3 h with spot, 1.9 h without), which are scarcer."""


_PRIOR_TICK = 600.0


def fit_hazards(
    ticks: Iterable[int], prior: Sequence[Sequence[float]] = PRIOR, weight: float = 1.0
) -> list[float]:
    """The chance that a tick of each group of ages is the last of its run: without spot, then with it.

    Args:
        ticks: 1 where spot could be had in that tick of the past, 0 where not, -1 where nobody knows; oldest
            first.
        prior: what is believed of each group of ages before any history, as ``weight`` events of it.
    """
    ended = [[0.0] * AGES, [0.0] * AGES]
    seen = [[0.0] * AGES, [0.0] * AGES]
    age, before = 0, -1
    for up in ticks:
        if before >= 0 and up >= 0:
            group = age_group(age)
            seen[before][group] += 1.0
            if up != before:
                ended[before][group] += 1.0
        age = age + 1 if up == before else 1
        before = up
    return [
        (ended[up][group] + weight) / (seen[up][group] + weight / prior[up][group])
        for up in (0, 1)
        for group in range(AGES)
    ]


def prior_for(tick: float) -> list[list[float]]:
    """``PRIOR`` for ticks of another length, in seconds."""
    return [[1.0 - (1.0 - chance) ** (tick / _PRIOR_TICK) for chance in chances] for chances in PRIOR]


def sampled(changes: Sequence[tuple[float, int]], tick: float, until: float) -> list[int]:
    """A history of (since when, state) as ticks of ``tick`` seconds up to ``until``.

    The first change is where the history begins; a tick is judged by what held when it began.
    """
    ticks: list[int] = []
    if not changes:
        return ticks
    position, begins = 0, changes[0][0]
    while begins + tick <= until:
        while position + 1 < len(changes) and changes[position + 1][0] <= begins:
            position += 1
        ticks.append(int(changes[position][1]))
        begins += tick
    return ticks
