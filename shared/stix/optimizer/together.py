"""Tasks that must run in one region: the best region."""

from __future__ import annotations

from dataclasses import replace

from stix.optimizer.front import choose
from stix.optimizer.problem import Option, Problem, Solution
from stix.optimizer.request import Limits, Objective
from stix.optimizer.solve import solve

__all__ = ["in_one_region"]


def in_one_region(problem: Problem, objective: Objective, limits: Limits) -> Solution | None:
    """The best of every region's best placement; None where no region has all tasks within the limits."""
    common = set.intersection(*({option.location for option in options} for options in problem.options))
    best: list[Solution] = []
    for location in sorted(common):
        there = [
            [(index, option) for index, option in enumerate(options) if option.location == location]
            for options in problem.options
        ]
        alone = replace(problem, options=[_options(some) for some in there])
        solved = solve(alone, objective, max_cost=limits.max_cost, deadline=limits.deadline_seconds)
        if solved is not None:
            choice = [some[at][0] for some, at in zip(there, solved.solution.choice, strict=True)]
            best.append(problem.solution(choice, bound=solved.solution.bound))
    best.sort(key=lambda one: (one.cost, one.seconds) if objective != "time" else (one.seconds, one.cost))
    return choose(best, "balanced") if objective == "balanced" and best else next(iter(best), None)


def _options(some: list[tuple[int, Option]]) -> list[Option]:
    return [option for _, option in some]
