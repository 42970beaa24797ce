"""The cheapest placement, exactly, by eliminating one task after the other (dynamic programming).

A task with one neighbour sends it a message: the least cost of its side for each of the neighbour's
locations. Prices of data know only areas, so that a message takes time in proportion to the locations and
not to their pairs. Chains and trees need nothing else. What remains of other graphs is eliminated by tables,
smallest first, as long as they are small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import product

from stix.optimizer.problem import Flow, Problem, Solution

__all__ = ["cheapest", "cheapest_of_forest"]

_MOST_WORK = 300_000
_Costs = dict[int, float]
_Decision = Callable[[list[int]], int]


def cheapest(problem: Problem, *, most_work: int = _MOST_WORK) -> Solution | None:
    """The proved cheapest placement; None where the tables would take more than ``most_work`` steps."""
    locations = _solve(problem, problem.flows, most_work)
    if locations is None:
        return None
    best = _best_options(problem)
    return problem.solution([best[task][location] for task, location in enumerate(locations)])


def cheapest_of_forest(problem: Problem) -> tuple[Solution, float]:
    """The cheapest placement when only a spanning forest of the dearest flows is charged, and that charge: a
    lower bound of every placement's cost, as no flow costs less than nothing."""
    weight = sorted(problem.flows, key=lambda flow: -max(map(max, flow.cost)))
    root = list(range(len(problem.options)))

    def find(task: int) -> int:
        while root[task] != task:
            root[task] = root[root[task]]
            task = root[task]
        return task

    forest = []
    for flow in weight:
        a, b = find(flow.parent), find(flow.child)
        if a != b:
            root[a] = b
            forest.append(flow)
    locations = _solve(problem, forest, 0)
    assert locations is not None, "a forest needs no tables"
    best = _best_options(problem)
    choice = [best[task][location] for task, location in enumerate(locations)]
    bound = sum(problem.options[task][choice[task]].cost for task in range(len(choice)))
    bound += sum(problem.move_cost(flow, locations[flow.parent], locations[flow.child]) for flow in forest)
    return problem.solution(choice, bound=bound), bound


def _best_options(problem: Problem) -> list[dict[int, int]]:
    """For each task and location the index of the cheapest option; of equals the fastest, then the first."""
    found: list[dict[int, int]] = []
    for options in problem.options:
        best: dict[int, int] = {}
        for index, option in enumerate(options):
            known = best.get(option.location)
            if known is None or (option.cost, option.seconds) < (options[known].cost, options[known].seconds):
                best[option.location] = index
        found.append(best)
    return found


def _solve(problem: Problem, flows: Iterable[Flow], most_work: int) -> list[int] | None:
    """The location of each task."""
    costs: list[_Costs] = [
        {location: problem.options[task][index].cost for location, index in best.items()}
        for task, best in enumerate(_best_options(problem))
    ]
    around: list[dict[int, Flow]] = [{} for _ in costs]
    for flow in flows:
        around[flow.parent][flow.child] = flow
        around[flow.child][flow.parent] = flow
    decisions: list[tuple[int, _Decision]] = []
    _eliminate_leaves(problem, costs, around, decisions)
    core = [task for task, others in enumerate(around) if others]
    if core and not _eliminate_by_tables(problem, core, costs, around, decisions, most_work):
        return None
    chosen = [-1] * len(costs)
    for task, decide in reversed(decisions):
        chosen[task] = decide(chosen)
    return chosen


def _eliminate_leaves(
    problem: Problem,
    costs: list[_Costs],
    around: list[dict[int, Flow]],
    decisions: list[tuple[int, _Decision]],
) -> None:
    waiting = [task for task, others in enumerate(around) if len(others) <= 1]
    done = set()
    while waiting:
        task = waiting.pop()
        if task in done:
            continue
        done.add(task)
        own = costs[task]
        if not around[task]:
            decisions.append((task, _cheapest_alone(own)))
            continue
        other, flow = next(iter(around[task].items()))
        sends = flow.parent == task
        message = _message(problem, flow, own, costs[other], from_parent=sends)
        costs[other] = {at: cost + message[at] for at, cost in costs[other].items()}
        decisions.append((task, _follow(problem, flow, own, other, from_parent=sends)))
        del around[other][task]
        around[task] = {}
        if len(around[other]) <= 1:
            waiting.append(other)


def _cheapest_alone(own: _Costs) -> _Decision:
    return lambda _chosen: min(own, key=lambda at: (own[at], at))


def _look_up(argument: Mapping[tuple[int, ...], int], scope: tuple[int, ...]) -> _Decision:
    return lambda chosen: argument[tuple(chosen[other] for other in scope)]


def _follow(problem: Problem, flow: Flow, own: _Costs, other: int, *, from_parent: bool) -> _Decision:
    def decide(chosen: list[int]) -> int:
        there = chosen[other]

        def total(at: int) -> tuple[float, int]:
            ends = (at, there) if from_parent else (there, at)
            return own[at] + problem.move_cost(flow, *ends), at

        return min(own, key=total)

    return decide


def _message(
    problem: Problem, flow: Flow, own: _Costs, targets: Iterable[int], *, from_parent: bool
) -> _Costs:
    """For each location of the other end: the least of ``own`` plus the flow."""
    area_of = problem.area_of
    lowest: dict[int, float] = {}
    for at, cost in own.items():
        area = area_of[at]
        if cost < lowest.get(area, math.inf):
            lowest[area] = cost
    sources = list(lowest.items())
    arriving: dict[int, float] = {}
    message = {}
    for at in targets:
        area = area_of[at]
        best = arriving.get(area)
        if best is None:
            if from_parent:
                best = min([cost + flow.cost[other][area] for other, cost in sources])
            else:
                prices = flow.cost[area]
                best = min([cost + prices[other] for other, cost in sources])
            arriving[area] = best
        staying = own.get(at)
        message[at] = best if staying is None or best < staying else staying
    return message


_Table = tuple[tuple[int, ...], Mapping[tuple[int, ...], float]]


def _eliminate_by_tables(
    problem: Problem,
    core: list[int],
    costs: list[_Costs],
    around: list[dict[int, Flow]],
    decisions: list[tuple[int, _Decision]],
    most_work: int,
) -> bool:
    order = _elimination_order(core, costs, around, most_work)
    if order is None:
        return False
    tables: list[_Table] = []
    for task in core:
        for flow in around[task].values():
            if flow.parent == task:
                pairs = product(costs[task], costs[flow.child])
                tables.append(((task, flow.child), {pair: problem.move_cost(flow, *pair) for pair in pairs}))
    for task in order:
        mine = [table for table in tables if task in table[0]]
        tables = [table for table in tables if task not in table[0]]
        scope = tuple(sorted({other for names, _ in mine for other in names} - {task}))
        least, argument = _project(task, costs[task], mine, scope, costs)
        decisions.append((task, _look_up(argument, scope)))
        if scope:
            tables.append((scope, least))
    return True


def _elimination_order(
    core: list[int], costs: list[_Costs], around: list[dict[int, Flow]], most_work: int
) -> list[int] | None:
    """The smallest table first; None where they would grow too large together."""
    near = {task: set(around[task]) for task in core}
    order, work = [], 0
    while near:
        task = min(near, key=lambda one: (math.prod(len(costs[other]) for other in near[one]), one))
        work += len(costs[task]) * math.prod(len(costs[other]) for other in near[task])
        if work > most_work:
            return None
        order.append(task)
        neighbours = near.pop(task)
        for other in neighbours:
            near[other] = (near[other] | neighbours) - {task, other}
    return order


def _project(
    task: int, own: _Costs, tables: list[_Table], scope: tuple[int, ...], costs: list[_Costs]
) -> tuple[dict[tuple[int, ...], float], dict[tuple[int, ...], int]]:
    """The least cost of ``task`` and its tables for each assignment of ``scope``, and where it lies."""
    least: dict[tuple[int, ...], float] = {}
    argument: dict[tuple[int, ...], int] = {}
    readers = [
        ([(-1 if name == task else scope.index(name)) for name in names], table) for names, table in tables
    ]
    for assignment in product(*(costs[other] for other in scope)):
        best, where = math.inf, -1
        for at, cost in own.items():
            for positions, table in readers:
                cost += table[tuple(at if position < 0 else assignment[position] for position in positions)]
            if cost < best:
                best, where = cost, at
        least[assignment], argument[assignment] = best, where
    return least, argument
