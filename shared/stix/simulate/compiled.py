"""The policies compiled, for replays of many windows: loops around the very functions of ``stix.recovery``.

One zone, fixed prices. What these loops add to the rules (``recovery.deadline``) is held equal to ``decide``,
action for action, by tests. Importing this module needs the extra ``simulate``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any

import numpy as np
from numba import njit

from stix.recovery import induction, rules
from stix.recovery.hazards import fit_hazards
from stix.recovery.induction import AGES
from stix.recovery.plan import Plan, make_plan
from stix.recovery.rules import FREE, IDLE, LATE_LOAD, ON_DEMAND, SPOT
from stix.recovery.situation import Policy, Terms

__all__ = ["KINDS", "compiled_plan", "omniscient", "planned_kind", "replay", "trace_array"]

KINDS = {
    Policy.GREEDY: 0,
    Policy.SLICED: 1,
    Policy.UNIFORM_PLAIN: 2,
    Policy.UNIFORM: 3,
    Policy.UNIFORM_ORACLE: 4,
    Policy.LATE_UNIFORM: 5,
    Policy.HISTORY: 6,
}

_compile: Callable[..., Any] = njit
_safety_net = _compile(rules.safety_net)
_greedy = _compile(rules.greedy)
_uniform = _compile(rules.uniform)
_oracle = _compile(rules.oracle)
_line_at = _compile(rules.line_at)
_hysteresis = _compile(rules.hysteresis)
_strayed = _compile(rules.strayed)
_slice_goal = _compile(rules.slice_goal)
_age_group = _compile(induction.age_group)
_induce = _compile(induction.induce)
NO_PLAN = np.zeros(1, np.uint8)


def trace_array(available: Any) -> Any:
    """Ticks with (1) and without (0) spot, as ``replay`` and ``omniscient`` take them."""
    return np.asarray(available, np.int8)


def compiled_plan(
    job: Terms, up: Sequence[int], start: int, *, price_ratio: float, fineness: int, tick: float
) -> Plan:
    """``make_plan`` for a job whose second 0 is the tick ``start``, as fast as compiled code makes it. Of
    ``up`` it sees that tick and those before, and counts only the latter."""
    past, now = up[:start], up[start]
    return make_plan(
        job,
        np.asarray(fit_hazards(past)),
        price_ratio=price_ratio,
        now=0.0,
        tick=tick,
        fineness=fineness,
        up=now,
        age=tick * sum(1 for _ in takewhile(now.__eq__, reversed(past))),
        induction=_induce,
        uniform=_uniform,
        table=lambda size, zero: np.zeros(size, np.uint8 if isinstance(zero, int) else np.float64),
    )


def planned_kind(plan: Plan) -> int:
    """Which of ``KINDS`` a job with this plan is replayed by."""
    return KINDS[Policy.HISTORY if plan.followed else Policy.UNIFORM]


@_compile
def replay(  # type: ignore[no-untyped-def]  # compiled: its types are those of its arguments
    kind, slices, up, start, work, total, changeover, tick, price_ratio, plan, fineness, slack_points, actions
):
    """Run one policy over one window.

    ``up``: ticks with (1) and without (0) spot; ``start``: the job's first; ``plan``: the table of a
    ``recovery.plan.Plan`` for policy 6; ``actions``: out, the kind of machine of each tick, or empty.
    Returns spot ticks, on-demand ticks, ticks, starts, preemptions.
    """
    held, pending, done = IDLE, 0.0, 0.0
    spot_ticks = paid_ticks = starts = lost = t = 0
    anchored, from_at, from_done = False, 0.0, 0.0
    age = 1
    while start - age >= 0 and up[start - age] == up[start]:
        age += 1
    ends = start
    while done < work:
        available = up[start + t]
        if t > 0:
            age = age + 1 if up[start + t - 1] == available else 1
        if held == SPOT and available == 0:
            held = IDLE
            pending = 0.0
            lost += 1
        now = t * tick
        remaining, left = work - done, total - now
        settled = 1 if held != IDLE and pending == 0.0 else 0
        if kind == 6:
            slack = (left - (remaining + pending)) / tick
            point = min(max(int(np.floor(slack * fineness + 0.5)), 0), slack_points - 1)
            state = held * 2 * AGES + available * AGES + _age_group(age)
            wanted = plan[((int(left // tick) - 1) * slack_points + point) * 6 * AGES + state]
            if wanted == SPOT and available == 0:
                wanted = IDLE
            expected = _line_at(work, total, 0.0, 0.0, now)
            if _strayed(held, done, expected, total - work) == 1:
                ahead = _line_at(work, total, 0.0, 0.0, now + 2.0 * changeover)
                wanted = _uniform(held, available, done, expected, ahead)
        elif kind == 2 or kind == 3 or kind == 4:
            expected = _line_at(work, total, 0.0, 0.0, now)
            if kind == 4:
                ends = max(ends, start + t)
                while ends < up.shape[0] and up[ends] == 1:
                    ends += 1
                life = (ends - start - t) * tick if available == 1 else 0.0
                wanted = _oracle(held, life, done, expected, changeover, price_ratio)
            else:
                ahead = -1.0
                if kind == 3:
                    ahead = _line_at(work, total, 0.0, 0.0, now + 2.0 * changeover)
                wanted = _uniform(held, available, done, expected, ahead)
        else:
            wanted = _greedy(available)
            if kind == 1:
                goal, end = _slice_goal(work, total, slices, now)
                if goal > done:
                    forced = _safety_net(held, settled, goal - done, end - now, changeover, tick)
                    if forced != FREE:
                        wanted = forced
            elif kind == 5:
                if not anchored and remaining >= LATE_LOAD * left:
                    anchored, from_at, from_done = True, now, done
                if anchored:
                    expected = _line_at(work, total, from_at, from_done, now)
                    lead = _hysteresis(changeover)
                    ahead = _line_at(work, total, from_at, from_done, now + lead) if lead > 0.0 else -1.0
                    wanted = _uniform(held, available, done, expected, ahead)
        forced = _safety_net(held, settled, remaining, left, changeover, tick)
        if forced != FREE:
            wanted = forced
        if wanted != held and wanted != IDLE:
            pending = changeover
            starts += 1
        elif wanted == IDLE:
            pending = 0.0
        held = wanted
        if t < actions.shape[0]:
            actions[t] = held
        if held == SPOT:
            spot_ticks += 1
        elif held == ON_DEMAND:
            paid_ticks += 1
        if held != IDLE:
            spent = min(pending, tick)
            pending -= spent
            done += tick - spent
        t += 1
    return spot_ticks, paid_ticks, t, starts, lost


@_compile
def omniscient(prices, start, ticks, needed, per_tick, per_start, value, earlier):  # type: ignore[no-untyped-def]
    """The least cost of a window for who knows all of it: exact backward induction.

    ``prices``: of a tick on each machine, rows by ticks, infinite where it cannot be had. Work is counted in
    units that divide both the tick (``per_tick`` of them) and a start (``per_start``); ``needed`` of them
    are to be done in ``ticks``. ``value``, ``earlier``: work space, ``needed + per_start + 1`` wide: a row
    for holding nothing and one for each machine, by units still to be done.
    """
    machines, most = prices.shape[0], needed + per_start
    value[:, :] = np.inf
    earlier[:, :] = np.inf
    value[:, 0] = earlier[:, 0] = 0.0
    for t in range(ticks - 1, -1, -1):
        # Fewer units cannot have been reached; more are too late, and stay infinite.
        high = min(most, (ticks - t) * per_tick)
        for units in range(max(needed - t * per_tick, 1), high + 1):
            on, new = max(units - per_tick, 0), max(units - per_tick + per_start, 0)
            least = value[0, units]
            if new <= most:
                for machine in range(machines):
                    started = prices[machine, start + t] + value[machine + 1, new]
                    if started < least:
                        least = started
            earlier[0, units] = least
            for machine in range(machines):
                kept = prices[machine, start + t] + value[machine + 1, on]
                earlier[machine + 1, units] = kept if kept < least else least
        value, earlier = earlier, value
    return value[0, needed]
