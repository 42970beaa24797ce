"""A plan: for every state that a job with a deadline can come into, the action of least expected cost."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stix.recovery import rules
from stix.recovery.induction import ADVANCE, AGES, age_group, induce
from stix.recovery.situation import Terms

__all__ = ["Plan", "exact_fineness", "make_plan", "plain_table", "plan_tick"]

_STATES = 6 * AGES
_MOST_STATES = 2_000_000
"""Of a plan made without compiled code: two to three seconds."""
_TICK_STEPS = (1, 2, 3, 4, 6, 9, 12, 18, 24, 36, 72)
_MARGIN = 0.1
"""Ticks on spot that another action than that of uniform progress must save."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Made once for a job; a decision looks one action up.

    Attributes:
        tick: seconds.
        saving: what it is expected to save over uniform progress, as a share of on-demand alone.
        followed: whether that is enough; else the job keeps to uniform progress.
    """

    deadline_at: float
    tick: float
    fineness: int
    ticks: int
    slacks: int
    actions: bytes
    saving: float = 0.0
    followed: bool = True

    def action(self, held: int, up: int, age: float, remaining: float, now: float) -> int:
        """What to do now: a kind of ``rules``; spot only where ``up`` is 1.

        Args:
            age: seconds for which spot has been as it is.
            remaining: seconds of work that are left, with what is left of a changeover.
        """
        left = self.deadline_at - now
        ticks = min(max(math.floor(left / self.tick), 1), self.ticks)
        point = min(max(math.floor((left - remaining) / self.tick * self.fineness + 0.5), 0), self.slacks - 1)
        state = held * 2 * AGES + up * AGES + age_group(math.floor(age / self.tick) + 1)
        return self.actions[((ticks - 1) * self.slacks + point) * _STATES + state]

    def to_bytes(self) -> bytes:
        """Small enough to be kept beside the job: neighbouring states mostly act alike."""
        shape = [self.deadline_at, self.tick, self.fineness, self.ticks, self.slacks]
        head = json.dumps([*shape, self.saving, self.followed])
        return head.encode() + b"\n" + zlib.compress(self.actions, 6)

    @classmethod
    def from_bytes(cls, data: bytes) -> Plan:
        """Raises ``ValueError`` for what ``to_bytes`` did not make."""
        head, _, packed = data.partition(b"\n")
        try:
            deadline_at, tick, fineness, ticks, slacks, *promise = json.loads(head)
            plan = cls(deadline_at, tick, fineness, ticks, slacks, zlib.decompress(packed), *promise)
        except (ValueError, TypeError, zlib.error) as exc:
            raise ValueError(f"not a plan: {exc}") from exc
        if len(plan.actions) != ticks * slacks * _STATES:
            raise ValueError("not a plan: its table has another size")
        return plan


def plain_table(size: int, zero: int | float) -> bytearray | list[float]:
    """``size`` zeros: small whole numbers for 0, fractions for 0.0."""
    return bytearray(size) if isinstance(zero, int) else [zero] * size


def exact_fineness(changeover: float, tick: float, most: int = 5) -> int:
    """The points of slack a tick at which a changeover is a whole number of points, 2 where that needs more
    than ``most``."""
    for points in range(1, most + 1):
        if abs(changeover * points / tick - round(changeover * points / tick)) < 1e-9:
            return points
    return 2


def plan_tick(job: Terms, now: float) -> float:
    """The finest tick, a multiple of the job's, at which a plan is made in a few seconds without compiled
    code. The history is to be sampled with it."""
    assert job.deadline_at is not None
    for times in _TICK_STEPS:
        tick = job.tick * times
        ticks, slacks = _size(job, job.deadline_at - now, job.work, tick, 1)
        if ticks * slacks * _STATES <= _MOST_STATES:
            return tick
    return job.tick * _TICK_STEPS[-1]


def make_plan(
    job: Terms,
    hazards: Any,
    *,
    price_ratio: float,
    now: float,
    tick: float,
    fineness: int = 1,
    done: float = 0.0,
    up: int = 1,
    age: float = 0.0,
    margin: float = _MARGIN,
    induction: Callable[..., Any] = induce,
    uniform: Callable[..., int] = rules.uniform,
    table: Callable[[int, Any], Any] = plain_table,
) -> Plan:
    """The plan from ``now`` to the deadline.

    Args:
        hazards: of ``hazards.fit_hazards``, for ticks of ``tick`` seconds.
        price_ratio: on-demand price over spot price.
        fineness: points of slack a tick; more of them know more exactly what a changeover costs.
        done: seconds of work done by now.
        up, age: whether (1) spot can be had now, and for how many seconds that has been so.
        margin: as of ``induce``.
        induction, uniform, table: ``induce``, ``rules.uniform`` and plain tables, or the same compiled and
            its arrays.
    """
    assert job.deadline_at is not None
    ticks, slacks = _size(job, job.deadline_at - now, job.work - done, tick, fineness)
    delay, work, total = job.changeover / tick, job.work / tick, (job.deadline_at - job.started_at) / tick
    state = (slacks - 1) * _STATES + up * AGES + age_group(math.floor(age / tick) + 1)

    def induced(least: float) -> tuple[Any, float]:
        """The actions, and their expected cost from now on."""
        actions = table(ticks * slacks * _STATES, 0)
        value, earlier = table(slacks * _STATES, 0.0), table(slacks * _STATES, 0.0)
        costs = induction(
            actions,
            value,
            earlier,
            hazards,
            ADVANCE,
            ticks,
            slacks,
            fineness,
            delay,
            price_ratio,
            work,
            total,
            least,
            uniform,
        )
        return actions, float(costs[state])

    actions, cost = induced(margin)
    usual = induced(math.inf)[1]
    alone = price_ratio * max(job.work - done + job.changeover, tick) / tick
    saving = (usual - cost) / alone
    followed = saving >= _least_saving(job.changeover, job.deadline_at - job.started_at - job.work)
    return Plan(job.deadline_at, tick, fineness, ticks, slacks, bytes(actions), saving, followed)


def _least_saving(changeover: float, slack: float) -> float:
    """What a plan must promise to be followed, as a share of on-demand alone: 0.02, and three quarters of the
    share of the slack that a changeover takes. Chances are only counted; where they are wrong, starts are
    wasted."""
    return 0.02 + 0.75 * changeover / slack if slack > 0.0 else math.inf


def _size(job: Terms, left: float, remaining: float, tick: float, fineness: int) -> tuple[int, int]:
    ticks = max(math.floor(left / tick), 1)
    slack = max(left - max(remaining, 0.0), 0.0)
    return ticks, max(math.floor(slack / tick * fineness + 1e-9) + 1, 2)
