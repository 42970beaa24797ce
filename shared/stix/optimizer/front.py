"""The Pareto front of (cost, time), and its knee."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

__all__ = ["ROUNDING", "choose", "knee", "pareto"]

ROUNDING = 1e-9
"""Differences below it come from the order of additions."""


class Point(Protocol):
    @property
    def cost(self) -> float: ...
    @property
    def seconds(self) -> float: ...


P = TypeVar("P", bound=Point)


def pareto(points: Iterable[P]) -> list[P]:
    """Those that no other equals in both and beats in one; cheapest first, so slowest first. Of equal points
    the first stays."""
    front: list[P] = []
    fastest = float("inf")
    for point in sorted(points, key=lambda one: (one.cost, one.seconds)):
        if point.seconds < fastest - ROUNDING * max(1.0, abs(point.seconds)):
            if front and point.cost <= front[-1].cost + ROUNDING * max(1.0, abs(point.cost)):
                front.pop()
            front.append(point)
            fastest = point.seconds
    return front


def knee(front: list[P]) -> P:
    """The point nearest to (lowest cost, lowest time), both scaled so that the front spans 0 to 1; of equally
    near ones the cheapest. Raises ``ValueError`` for an empty front."""
    if not front:
        raise ValueError("the front is empty")
    cheapest, fastest = front[0], front[-1]
    cost_span = fastest.cost - cheapest.cost or 1.0
    time_span = cheapest.seconds - fastest.seconds or 1.0

    def distance(point: P) -> float:
        cost = (point.cost - cheapest.cost) / cost_span
        seconds = (point.seconds - fastest.seconds) / time_span
        return round(cost * cost + seconds * seconds, 12)

    return min(front, key=lambda point: (distance(point), point.cost))


def choose(
    front: list[P], objective: str, *, max_cost: float | None = None, deadline: float | None = None
) -> P | None:
    """The point of ``front`` that is best within the limits; None where none is. ``balanced`` takes the knee
    of what the limits leave."""
    allowed = [
        point
        for point in front
        if (max_cost is None or point.cost <= max_cost * (1 + ROUNDING))
        and (deadline is None or point.seconds <= deadline * (1 + ROUNDING))
    ]
    if not allowed:
        return None
    if objective == "balanced":
        return knee(allowed)
    return allowed[-1] if objective == "time" else allowed[0]
