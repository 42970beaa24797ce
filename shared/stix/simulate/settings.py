"""One simulated job: what it needs, what machines cost, and what came out of a replay."""

from __future__ import annotations

import math
from dataclasses import dataclass

from stix.recovery.situation import Policy, Terms

__all__ = ["Outcome", "PolicyName", "Setting"]


@dataclass(frozen=True, slots=True)
class PolicyName:
    """A policy, with its number of slices where it has any: ``sliced:8``."""

    policy: Policy
    slices: int = 1

    def __str__(self) -> str:
        return f"{self.policy}:{self.slices}" if self.policy is Policy.SLICED else str(self.policy)


@dataclass(frozen=True, slots=True)
class Setting:
    """Seconds of work, seconds to the deadline, seconds that a start costs, on-demand price over spot
    price."""

    work: float
    deadline: float
    changeover: float
    price_ratio: float

    def terms(self, name: PolicyName, tick: float) -> Terms:
        """The same job for ``decide``, started at second 0."""
        return Terms(
            policy=name.policy,
            started_at=0.0,
            work=self.work,
            deadline_at=self.deadline,
            changeover=self.changeover,
            tick=tick,
            slices=name.slices,
        )

    def on_demand_ticks(self, tick: float) -> int:
        """Ticks that on-demand alone is paid for."""
        return math.ceil((self.work + self.changeover) / tick)

    def ticks(self, tick: float) -> int:
        """Ticks until the deadline."""
        return math.floor(self.deadline / tick)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one job in one window: ticks paid on spot and on-demand, ticks until it was done, starts,
    preemptions. ``cost`` in USD-hours of the prices given."""

    spot_ticks: int
    on_demand_ticks: int
    ticks: int
    starts: int
    preemptions: int
    cost: float
