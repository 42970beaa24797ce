"""The answer: where each task runs, what all cost, how long all take, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from stix.optimizer.placements import Placement, Ranking
from stix.optimizer.request import Objective

__all__ = ["FrontPoint", "Plan", "TaskPlan", "oldest_price"]


@dataclass(frozen=True, slots=True)
class FrontPoint:
    """A trade-off that nothing beats in both. USD, seconds; one placement for each task."""

    cost: float
    seconds: float
    placements: tuple[Placement, ...]


@dataclass(frozen=True)
class TaskPlan:
    """``ranking`` is what to try for this task, in order, while the others stay where they are."""

    name: str
    chosen: Placement
    rank: Callable[[], Ranking] = field(repr=False)

    @cached_property
    def ranking(self) -> Ranking:
        return self.rank()


@dataclass(frozen=True)
class Plan:
    """USD and seconds of all tasks. ``data_cost`` is the share of ``cost`` for data between them.

    ``bound``: the least cost (or time) that is not excluded, where the plan is not proved best. ``oldest``:
    the epoch second of the oldest price in it.
    """

    objective: Objective
    tasks: tuple[TaskPlan, ...]
    cost: float
    seconds: float
    data_cost: float
    bound: float | None
    oldest: float
    made_at: float
    find_front: Callable[[], tuple[Sequence[FrontPoint], bool]] = field(repr=False)

    @property
    def proved(self) -> bool:
        return self.bound is None

    @property
    def gap(self) -> float:
        """How much better, as a share, an unknown plan could be at most; 0 where this one is proved best."""
        reached = self.seconds if self.objective == "time" else self.cost
        return 0.0 if self.bound is None or reached <= 0 else max(0.0, 1 - self.bound / reached)

    @property
    def age_seconds(self) -> float:
        """Of the oldest price."""
        return max(0.0, self.made_at - self.oldest)

    @cached_property
    def _found_front(self) -> tuple[Sequence[FrontPoint], bool]:
        return self.find_front()

    @property
    def front(self) -> Sequence[FrontPoint]:
        """The Pareto front within the limits, cheapest first; worked out when it is first read."""
        return self._found_front[0]

    @property
    def front_complete(self) -> bool:
        """False where the graph is too large and only points of it are known."""
        return self._found_front[1]


def oldest_price(placements: Sequence[Placement], now: float) -> float:
    """Epoch second of the oldest price that was looked up; what is held has none."""
    return min((one.offer.as_of for one in placements if not one.held_as), default=now)
