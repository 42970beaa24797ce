"""Which method solves a placement problem, and the Pareto front around its solution."""

from __future__ import annotations

from dataclasses import dataclass

from stix.optimizer import milp
from stix.optimizer.elimination import cheapest
from stix.optimizer.front import ROUNDING, choose, pareto
from stix.optimizer.heuristic import good
from stix.optimizer.labels import least_time, whole_front
from stix.optimizer.problem import Problem, Solution

__all__ = ["Solved", "front", "solve"]

_SAMPLES = 5


@dataclass(frozen=True, slots=True)
class Solved:
    """``method`` is one of elimination, labels, highs and search (not proved)."""

    solution: Solution
    method: str


def solve(
    problem: Problem,
    objective: str,
    *,
    max_cost: float | None = None,
    deadline: float | None = None,
    seconds: float = 5.0,
) -> Solved | None:
    """The best placement within the limits; None where there is none. ``seconds`` bounds the solver's time.

    Not proved best: ``solution.bound`` says what is.
    """
    if objective == "cost":
        least = cheapest(problem)
        if least is not None:
            if max_cost is not None and least.cost > max_cost * (1 + ROUNDING):
                return None
            if deadline is None or least.seconds <= deadline * (1 + ROUNDING):
                return Solved(least, "elimination")
    if objective != "cost" or deadline is not None:
        until = deadline
        if objective == "time" and max_cost is None:
            # All that is slower than the fastest can be cut at once.
            fastest = least_time(problem)
            until = fastest if fastest is not None and (deadline is None or fastest < deadline) else deadline
        whole = whole_front(problem, max_cost=max_cost, deadline=until)
        if whole is not None:
            best = choose(whole, objective, max_cost=max_cost, deadline=deadline)
            return Solved(best, "labels") if best is not None else None
    if objective == "balanced":
        return _balanced(problem, max_cost, deadline, seconds)
    if milp.available():
        found = milp.solve(problem, objective, max_cost=max_cost, deadline=deadline, seconds=seconds)
        if found is not None:
            return Solved(found, "highs")
    searched = good(problem, objective, max_cost=max_cost, deadline=deadline)
    return Solved(searched, "search") if searched is not None else None


def front(
    problem: Problem, *, max_cost: float | None = None, deadline: float | None = None, seconds: float = 5.0
) -> tuple[list[Solution], bool]:
    """The Pareto front of (cost, time) within the limits, cheapest first, and whether it is all of it: of a
    graph too large for that only its ends and some points between are given."""
    whole = whole_front(problem, max_cost=max_cost, deadline=deadline)
    if whole is not None:
        return whole, True
    return _sampled(problem, max_cost, deadline, seconds), False


def _sampled(
    problem: Problem, max_cost: float | None, deadline: float | None, seconds: float
) -> list[Solution]:
    share = seconds / (_SAMPLES + 2)
    find = milp.solve if milp.available() else None

    def one(objective: str, until: float | None) -> Solution | None:
        if find is None:
            return good(problem, objective, max_cost=max_cost, deadline=until)
        return find(problem, objective, max_cost=max_cost, deadline=until, seconds=share)

    cheapest_one, fastest = one("cost", deadline), one("time", deadline)
    points = [point for point in (cheapest_one, fastest) if point is not None]
    if cheapest_one is not None and fastest is not None:
        span = cheapest_one.seconds - fastest.seconds
        for at in range(1, _SAMPLES + 1):
            if span > 0:
                between = one("cost", fastest.seconds + span * at / (_SAMPLES + 1))
                points += [between] if between is not None else []
    return pareto(points)


def _balanced(
    problem: Problem, max_cost: float | None, deadline: float | None, seconds: float
) -> Solved | None:
    points = _sampled(problem, max_cost, deadline, seconds)
    best = choose(points, "balanced", max_cost=max_cost, deadline=deadline)
    if best is None:
        return None
    # A knee between samples cannot be told, so nothing is proved of it but the least cost.
    bound = best.bound if best.bound is not None else min(point.cost for point in points)
    return Solved(problem.solution(best.choice, bound=bound), "search")
