"""The placement problem without names: options of tasks at numbered locations, and flows between tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

__all__ = ["Flow", "Matrix", "Option", "Problem", "Solution"]


@dataclass(frozen=True, slots=True)
class Option:
    """One way to run a task. ``key`` is for the caller. USD, seconds."""

    location: int
    cost: float
    seconds: float
    key: int = 0


Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Flow:
    """Data from ``parent`` to ``child``. Nothing is due inside a region; else ``cost[a][b]`` (USD) from area
    ``a`` to area ``b``, and the time to ``between`` regions of one cloud or ``across`` clouds (seconds)."""

    parent: int
    child: int
    cost: Matrix
    between_seconds: float = 0.0
    across_seconds: float = 0.0

    def plus(self, other: Flow) -> Flow:
        """Both flows in one; each waits for its own data, so the times are the longer."""
        cost = tuple(
            tuple(map(sum, zip(mine, yours, strict=True)))
            for mine, yours in zip(self.cost, other.cost, strict=True)
        )
        return Flow(
            self.parent,
            self.child,
            cost,
            max(self.between_seconds, other.between_seconds),
            max(self.across_seconds, other.across_seconds),
        )


@dataclass(frozen=True)
class Problem:
    """``area_of`` each location: within an area all regions pay the same to each other and to any third; an
    area lies in one cloud, ``cloud_of`` says which. ``options`` of a task are never empty. ``order``: any
    order of the tasks in which parents come first. Costs and times are not negative."""

    area_of: Sequence[int]
    cloud_of: Sequence[int]
    options: Sequence[Sequence[Option]]
    flows: Sequence[Flow]
    order: Sequence[int]

    def __post_init__(self) -> None:
        merged: dict[tuple[int, int], Flow] = {}
        for flow in self.flows:
            pair = (flow.parent, flow.child)
            merged[pair] = merged[pair].plus(flow) if pair in merged else flow
        object.__setattr__(self, "flows", list(merged.values()))

    @cached_property
    def incoming(self) -> list[list[Flow]]:
        found: list[list[Flow]] = [[] for _ in self.options]
        for flow in self.flows:
            found[flow.child].append(flow)
        return found

    @cached_property
    def outgoing(self) -> list[list[Flow]]:
        found: list[list[Flow]] = [[] for _ in self.options]
        for flow in self.flows:
            found[flow.parent].append(flow)
        return found

    def move_cost(self, flow: Flow, source: int, target: int) -> float:
        """USD between two locations."""
        return 0.0 if source == target else flow.cost[self.area_of[source]][self.area_of[target]]

    def move_seconds(self, flow: Flow, source: int, target: int) -> float:
        if source == target:
            return 0.0
        same_cloud = self.cloud_of[self.area_of[source]] == self.cloud_of[self.area_of[target]]
        return flow.between_seconds if same_cloud else flow.across_seconds

    def evaluate(self, choice: Sequence[int]) -> tuple[float, float]:
        """Cost and time (the end of the last task) of an option's index for each task."""
        cost, latest = 0.0, 0.0
        ends = [0.0] * len(self.options)
        for task in self.order:
            option = self.options[task][choice[task]]
            cost += option.cost
            start = 0.0
            for flow in self.incoming[task]:
                source = self.options[flow.parent][choice[flow.parent]].location
                cost += self.move_cost(flow, source, option.location)
                start = max(start, ends[flow.parent] + self.move_seconds(flow, source, option.location))
            ends[task] = start + option.seconds
            latest = max(latest, ends[task])
        return cost, latest

    def solution(self, choice: Sequence[int], *, bound: float | None = None) -> Solution:
        """``bound``: what is proved of the objective; None where this solution itself is proved best."""
        cost, seconds = self.evaluate(choice)
        return Solution(tuple(choice), cost, seconds, bound)


@dataclass(frozen=True, slots=True)
class Solution:
    """An option's index for each task. ``bound``: a lower bound of what was minimised, where the solution is
    not proved to be the best."""

    choice: tuple[int, ...]
    cost: float
    seconds: float
    bound: float | None = None

    @property
    def proved(self) -> bool:
        return self.bound is None
