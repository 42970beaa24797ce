"""The backward induction of a plan, on plain numbers and flat tables: lists in production, arrays when
compiled."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["ADVANCE", "AGES", "AGE_ENDS", "age_group", "induce"]

AGE_ENDS = (1, 2, 4, 8, 16)
"""Ages of a run, in ticks, are told apart in groups: 1, 2, 3 to 4, 5 to 8, 9 to 16, and more. Most runs are
short and a few very long, so what is known of one is mostly how old it is."""
AGES = 6
ADVANCE = (1.0, 1.0, 0.5, 0.25, 0.125, 0.0)
"""The chance that a run of a group is in the next one a tick later: ages within a group are not told
apart."""


def age_group(age: int) -> int:
    """The group of an age in ticks, from 0."""
    group = 0
    while group < AGES - 1 and age > AGE_ENDS[group]:
        group += 1
    return group


def induce(
    actions: Any,
    value: Any,
    earlier: Any,
    hazards: Any,
    advance: Any,
    ticks: int,
    slacks: int,
    fineness: int,
    delay: float,
    price_ratio: float,
    work: float,
    total: float,
    margin: float,
    uniform: Any,
) -> Any:
    """Fill ``actions`` with what to do in every state: what uniform progress does, unless another action
    saves more than ``margin`` by expected cost; the safety net is part of it. Returns the expected costs from
    the first tick on, by slack and state.

    Chances are only counted, so that what promises little comes to nothing as often as not: without a margin
    the mean cost over many windows is hardly lower, and more of them cost more than uniform progress.

    A state is what a tick begins with: ticks until the deadline, slack, machine held (0 none, 1 spot, 2
    on-demand), whether spot can be had, and the group of ages of that run. Slack is the time that is left
    less the work that is left: a tick of work keeps it, a tick of waiting costs one, a start costs ``delay``.

    Args:
        actions: out; ``ticks * slacks * 6 * AGES`` small integers, indexed as ``plan.Plan.state`` does.
        value: work space of ``slacks * 6 * AGES`` zeros: the cost from the deadline on.
        earlier: work space of the same size.
        hazards: ``2 * AGES``: the chance that a tick of that age is the last of its run; first of the runs
            without spot, then of those with it.
        advance: ``ADVANCE``.
        ticks: ticks from now to the deadline.
        slacks: points of slack, ``fineness`` a tick, from 0.
        delay: ticks of work that a start costs.
        price_ratio: on-demand price over spot price.
        work: ticks of work of the whole job.
        total: ticks from its start to the deadline.
        margin: ticks on spot; without bound for the plan that is uniform progress itself, 0 for the cheapest.
        uniform: ``rules.uniform``, or the same compiled.
    """
    wide = 6 * AGES
    for left in range(1, ticks + 1):
        for point in range(slacks):
            slack = point / fineness
            remaining = left - slack
            base = point * wide
            if remaining <= 1e-9:
                for state in range(wide):
                    earlier[base + state] = 0.0
                    actions[((left - 1) * slacks + point) * wide + state] = 0
                continue
            done, elapsed = work - remaining, total - left
            expected, ahead = work * elapsed / total, work * (elapsed + 2.0 * delay) / total
            # By machine held and whether there is spot.
            usual = (
                uniform(0, 0, done, expected, ahead),
                uniform(0, 1, done, expected, ahead),
                uniform(1, 0, done, expected, ahead),
                uniform(1, 1, done, expected, ahead),
                uniform(2, 0, done, expected, ahead),
                uniform(2, 1, done, expected, ahead),
            )
            tight = math.ceil(remaining + 2.0 * delay - 1e-9) >= left
            last = math.ceil(remaining + delay - 1e-9) >= left
            # Where each action leads to: the two points of slack around it, and the weight of the lower.
            waited = max(point - fineness, 0) * wide
            exact = max(point - delay * fineness, 0.0)
            floor = int(exact)
            share = exact - floor
            started = floor * wide
            above = min(floor + 1, slacks - 1) * wide
            for up in range(2):
                for age in range(AGES):
                    hazard = hazards[up * AGES + age]
                    older = (1.0 - hazard) * advance[age]
                    same = 1.0 - hazard - older
                    now, then, turned = up * AGES + age, up * AGES + min(age + 1, AGES - 1), (1 - up) * AGES
                    # What follows each action: rows of no machine, spot, on-demand; a lost spot is none.
                    wait = (
                        same * value[waited + now]
                        + older * value[waited + then]
                        + hazard * value[waited + turned]
                    )
                    row = base + 4 * AGES
                    paid_on = (
                        price_ratio
                        + same * value[row + now]
                        + older * value[row + then]
                        + hazard * value[row + turned]
                    )
                    low, high = started + 4 * AGES, above + 4 * AGES
                    paid_new = (
                        price_ratio
                        + same * (value[low + now] + share * (value[high + now] - value[low + now]))
                        + older * (value[low + then] + share * (value[high + then] - value[low + then]))
                        + hazard
                        * (value[low + turned] + share * (value[high + turned] - value[low + turned]))
                    )
                    spot_new = spot_on = 1e18
                    if up == 1:
                        row = base + 2 * AGES
                        spot_on = (
                            1.0
                            + same * value[row + now]
                            + older * value[row + then]
                            + hazard * value[base + turned]
                        )
                        low, high = started + 2 * AGES, above + 2 * AGES
                        end = value[started + turned]
                        spot_new = (
                            1.0
                            + same * (value[low + now] + share * (value[high + now] - value[low + now]))
                            + older * (value[low + then] + share * (value[high + then] - value[low + then]))
                            + hazard * (end + share * (value[above + turned] - end))
                        )
                    for held in range(3):
                        spot = spot_on if held == 1 else spot_new
                        paid = paid_on if held == 2 else paid_new
                        if tight and held != 1:
                            best, action = paid, 2
                        elif last:
                            best, action = (spot_on, 1) if held == 1 and up == 1 else (paid, 2)
                        else:
                            best, action = wait, 0
                            if spot < best:
                                best, action = spot, 1
                            if paid < best:
                                best, action = paid, 2
                            kept = usual[held * 2 + up]
                            cost = wait if kept == 0 else spot if kept == 1 else paid
                            if cost - best <= margin:
                                best, action = cost, kept
                        state = held * 2 * AGES + up * AGES + age
                        earlier[base + state] = best
                        actions[((left - 1) * slacks + point) * wide + state] = action
        value, earlier = earlier, value
    return value
