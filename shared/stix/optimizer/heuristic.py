"""A good placement and an honest bound, for graphs that nothing here can solve exactly in time."""

from __future__ import annotations

from collections.abc import Sequence

from stix.optimizer.elimination import cheapest_of_forest
from stix.optimizer.problem import Option, Problem, Solution

__all__ = ["good", "least_seconds"]

_ROUNDS = 20


def good(
    problem: Problem, objective: str, *, max_cost: float | None = None, deadline: float | None = None
) -> Solution | None:
    """The best placement found by moving one task at a time, with the bound that is proved; None
    where none was found that keeps the limits."""
    cheap, least_cost = cheapest_of_forest(problem)
    fast = problem.solution([_fastest(options) for options in problem.options])
    limits = (max_cost, deadline)
    ended = [_improved(problem, start.choice, objective, limits) for start in (cheap, fast)]
    found = [one for one in ended if _excess(one, limits) == 0]
    if not found:
        return None
    best = min(found, key=lambda one: _worth(one, objective))
    bound = least_cost if objective == "cost" else least_seconds(problem)
    reached = best.cost if objective == "cost" else best.seconds
    if reached <= bound * (1 + 1e-12):
        return best
    return problem.solution(best.choice, bound=bound)


def _fastest(options: Sequence[Option]) -> int:
    return min(range(len(options)), key=lambda at: (options[at].seconds, options[at].cost))


def least_seconds(problem: Problem) -> float:
    """The critical path of the fastest options, with all data in place."""
    ends = [0.0] * len(problem.options)
    for task in problem.order:
        start = max((ends[flow.parent] for flow in problem.incoming[task]), default=0.0)
        ends[task] = start + min(option.seconds for option in problem.options[task])
    return max(ends, default=0.0)


def _worth(solution: Solution, objective: str) -> tuple[float, float]:
    pair = (solution.cost, solution.seconds)
    return pair if objective == "cost" else pair[::-1]


def _excess(solution: Solution, limits: tuple[float | None, float | None]) -> float:
    """How far beyond the limits, as the sum of both shares."""
    total = 0.0
    for value, limit in zip((solution.cost, solution.seconds), limits, strict=True):
        if limit is not None and value > limit * (1 + 1e-9):
            total += value / limit - 1 if limit else value
    return total


def _improved(
    problem: Problem, start: tuple[int, ...], objective: str, limits: tuple[float | None, float | None]
) -> Solution:
    """One task after the other to its best option while the others stay, until nothing moves."""
    choice = list(start)
    best = problem.solution(choice)
    rank = (_excess(best, limits), _worth(best, objective))
    for _ in range(_ROUNDS):
        moved = False
        for task, options in enumerate(problem.options):
            for index in _promising(problem, choice, task):
                if index == choice[task] or index >= len(options):
                    continue
                before, choice[task] = choice[task], index
                tried = problem.solution(choice)
                worth = (_excess(tried, limits), _worth(tried, objective))
                if worth < rank:
                    best, rank, moved = tried, worth, True
                else:
                    choice[task] = before
        if not moved:
            break
    return best


def _promising(problem: Problem, choice: list[int], task: int) -> list[int]:
    """The options that are cheapest or fastest beside the placed neighbours."""

    def local(index: int) -> tuple[float, float]:
        option = problem.options[task][index]
        cost, wait = option.cost, 0.0
        for flow in problem.incoming[task]:
            source = problem.options[flow.parent][choice[flow.parent]].location
            cost += problem.move_cost(flow, source, option.location)
            wait += problem.move_seconds(flow, source, option.location)
        for flow in problem.outgoing[task]:
            target = problem.options[flow.child][choice[flow.child]].location
            cost += problem.move_cost(flow, option.location, target)
            wait += problem.move_seconds(flow, option.location, target)
        return cost, option.seconds + wait

    known = {index: local(index) for index in range(len(problem.options[task]))}
    cheap = sorted(known, key=lambda index: known[index])[:3]
    fast = sorted(known, key=lambda index: known[index][::-1])[:3]
    return list(dict.fromkeys((*cheap, *fast)))
