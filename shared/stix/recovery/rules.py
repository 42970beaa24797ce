"""The rules of the policies with a deadline, on plain numbers: seconds, 0/1 flags and the kinds below.

Nothing here calls anything but ``math``, so that the simulator can compile these very functions. The rules
are those of *Can't Be Late* (Wu et al., NSDI 2024): thrifty, safety net, exploitation, and uniform progress.
"""

from __future__ import annotations

import math

__all__ = [
    "FREE",
    "IDLE",
    "LATE_LOAD",
    "ON_DEMAND",
    "SPOT",
    "greedy",
    "hysteresis",
    "line_at",
    "oracle",
    "safety_net",
    "slice_goal",
    "strayed",
    "uniform",
]

IDLE, SPOT, ON_DEMAND = 0, 1, 2
FREE = -1
"""The safety net leaves the choice to the policy."""
LATE_LOAD = 0.8
"""Late-anchored uniform progress is greedy until work fills this share of the time that is left. Measured
on two trace sets, of 2022 and 2023: 0.8 and 0.85 are equally good on both."""


def safety_net(held: int, settled: int, remaining: float, left: float, changeover: float, tick: float) -> int:
    """What must run now so that on-demand alone can still finish in time, or ``FREE``.

    Args:
        settled: 1 where the held machine is past its changeover and makes progress.
        remaining: seconds of work that are left.
        left: seconds until the deadline.
        changeover: seconds that a start costs before work goes on.
        tick: the longest time until the next decision. Until then a spot machine may be lost at any moment.
    """
    ticks = math.floor(left / tick)
    if held != SPOT and math.ceil((remaining + 2.0 * changeover) / tick) >= ticks:
        return ON_DEMAND
    if math.ceil((remaining + changeover) / tick) >= ticks:
        return SPOT if held == SPOT and settled == 1 else ON_DEMAND
    return FREE


def greedy(available: int) -> int:
    """Spot wherever there is one, and waiting where there is none."""
    return SPOT if available == 1 else IDLE


def uniform(held: int, available: int, done: float, expected: float, expected_ahead: float) -> int:
    """Keep to a line of progress: on-demand below it, waiting above it, spot wherever there is one.

    Args:
        expected: the line now, in seconds of work.
        expected_ahead: the line as far ahead as a return to spot must be paid for; an on-demand machine is
            given up only by a job that is beyond it. Anything negative: at once.
    """
    if available == 1:
        return ON_DEMAND if held == ON_DEMAND and done < expected_ahead else SPOT
    if held == ON_DEMAND or done < expected:
        return ON_DEMAND
    return IDLE


def line_at(work: float, total: float, from_at: float, from_done: float, at: float) -> float:
    """The line of uniform progress: the work to be done by ``at``, on the way from (``from_at``,
    ``from_done``) to all of ``work`` at the deadline. Times are seconds since the job's start, ``total`` of
    them to the deadline."""
    return from_done + (at - from_at) * (work - from_done) / (total - from_at)


def hysteresis(changeover: float) -> float:
    """How many seconds ahead of a late line a job must be before it returns to spot. Up to a changeover of
    three minutes waiting for a lead costs more than the return."""
    return changeover if changeover > 180.0 else 0.0


def strayed(held: int, done: float, expected: float, slack: float) -> int:
    """1 where the policy with history has fallen so far behind the line of uniform progress that the market
    is not what its history was: it then follows that line. ``slack``: seconds from the start to the
    deadline, less the work. Once on on-demand it stays until it has caught up some of it, else it would pay
    for going to and fro."""
    behind = expected - done
    if behind > 0.3 * slack or (held == ON_DEMAND and behind > 0.25 * slack):
        return 1
    return 0


def slice_goal(work: float, total: float, slices: int, elapsed: float) -> tuple[float, float]:
    """The work to be done by the end of the current one of equal slices, and that end."""
    slice_end = min(math.floor(elapsed * slices / total) + 1, slices)
    return work * slice_end / slices, total * slice_end / slices


def oracle(
    held: int, lifetime: float, done: float, expected: float, changeover: float, price_ratio: float
) -> int:
    """Uniform progress that knows for how many seconds the spot machine it could have now would live; 0:
    none.

    A spot machine is worth its changeover only if it lives long enough. For the simulator alone.
    """
    worth = price_ratio * changeover / (price_ratio - 1.0)
    if lifetime > 0.0 and held == SPOT:
        return SPOT
    if lifetime > (2.0 * worth if held == ON_DEMAND else worth):
        return SPOT
    if held == ON_DEMAND or done < expected:
        return ON_DEMAND
    return IDLE
