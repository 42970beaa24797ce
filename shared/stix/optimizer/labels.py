"""All best trade-offs of cost and time of a plan, exactly, by labels.

Tasks are placed in an order in which parents come first. A label is what is known of one partial placement:
its cost, when the tasks end whose children are still to come, and when all ends. Of two labels with the same
places of those open tasks the one that is nowhere better goes. At the end the labels are the Pareto front.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from stix.optimizer.front import ROUNDING, pareto
from stix.optimizer.problem import Problem, Solution

__all__ = ["least_time", "whole_front"]

_MOST_LABELS = 10_000


class _Label(NamedTuple):
    cost: float
    latest: float
    ends: tuple[float, ...]
    option: int
    before: _Label | None


@dataclass(frozen=True, slots=True)
class _Reach:
    """What is at least still to come, for cutting: cost of the later tasks, and time behind each task."""

    cost: list[float]
    tail: list[float]


def whole_front(
    problem: Problem,
    *,
    max_cost: float | None = None,
    deadline: float | None = None,
    most_labels: int = _MOST_LABELS,
) -> list[Solution] | None:
    """The Pareto front within the limits, cheapest first, proved; empty where no placement keeps them; None
    where it takes more than ``most_labels`` labels at once."""
    reach = _reach(problem)
    cost_limit = float("inf") if max_cost is None else max_cost * (1 + ROUNDING)
    time_limit = float("inf") if deadline is None else deadline * (1 + ROUNDING)
    open_tasks: tuple[int, ...] = ()
    layers: dict[tuple[int, ...], list[_Label]] = {(): [_Label(0.0, 0.0, (), -1, None)]}
    for at, task in enumerate(problem.order):
        later = set(problem.order[at + 1 :])
        now_open = (*open_tasks, task)
        kept = [
            place
            for place, one in enumerate(now_open)
            if any(flow.child in later for flow in problem.outgoing[one])
        ]
        flows = [(open_tasks.index(flow.parent), flow) for flow in problem.incoming[task]]
        extended: dict[tuple[int, ...], list[_Label]] = {}
        made = 0
        for places, labels in layers.items():
            for index, option in enumerate(problem.options[task]):
                moved = option.cost
                delays = []
                for position, flow in flows:
                    moved += problem.move_cost(flow, places[position], option.location)
                    delays.append((position, problem.move_seconds(flow, places[position], option.location)))
                everywhere = (*places, option.location)
                key = tuple([everywhere[place] for place in kept])
                bucket = extended.setdefault(key, [])
                for label in labels:
                    cost = label.cost + moved
                    end = option.seconds
                    if delays:
                        end += max([label.ends[position] + delay for position, delay in delays])
                    if cost + reach.cost[at + 1] > cost_limit or end + reach.tail[task] > time_limit:
                        continue
                    ends = (*label.ends, end)
                    still = tuple([ends[place] for place in kept])
                    bucket.append(_Label(cost, max(label.latest, end), still, index, label))
                    made += 1
            if made > 10 * most_labels:
                return None
        open_tasks = tuple(now_open[place] for place in kept)
        layers = {key: _undominated(labels) for key, labels in extended.items() if labels}
        if len(open_tasks) == 1:
            layers = _reachable_cheaper(problem, open_tasks[0], layers)
        if sum(map(len, layers.values())) > most_labels:
            return None
    finals = [label for labels in layers.values() for label in labels]
    solutions = [problem.solution(_choice(problem, label)) for label in finals]
    return pareto(solutions)


def least_time(problem: Problem, *, most_labels: int = _MOST_LABELS) -> float | None:
    """The shortest time whatever it costs, exactly; None where that takes too many labels."""
    free = tuple(tuple(0.0 for _ in problem.cloud_of) for _ in problem.cloud_of)
    timed = Problem(
        problem.area_of,
        problem.cloud_of,
        [[replace(option, cost=0.0) for option in options] for options in problem.options],
        [replace(flow, cost=free) for flow in problem.flows],
        problem.order,
    )
    fastest = whole_front(timed, most_labels=most_labels)
    return fastest[0].seconds if fastest else None


def _reach(problem: Problem) -> _Reach:
    cheapest = [min(option.cost for option in options) for options in problem.options]
    fastest = [min(option.seconds for option in options) for options in problem.options]
    cost = [0.0] * (len(problem.order) + 1)
    for at in range(len(problem.order) - 1, -1, -1):
        cost[at] = cost[at + 1] + cheapest[problem.order[at]]
    tail = [0.0] * len(problem.options)
    for task in reversed(problem.order):
        tail[task] = max(
            (fastest[flow.child] + tail[flow.child] for flow in problem.outgoing[task]),
            default=0.0,
        )
    return _Reach(cost, tail)


def _undominated(labels: list[_Label]) -> list[_Label]:
    """Sorted by cost, so that only earlier ones can dominate."""
    if len(labels) == 1:
        return labels
    labels.sort(key=lambda label: label[:3])
    if all(not label.ends or label.ends == (label.latest,) for label in labels):
        return _stairs(labels)
    kept: list[_Label] = []
    for label in labels:
        for other in kept:
            if other.latest <= label.latest and all(
                mine <= yours for mine, yours in zip(other.ends, label.ends, strict=True)
            ):
                break
        else:
            kept.append(label)
    return kept


def _stairs(labels: list[_Label]) -> list[_Label]:
    """As ``_undominated``, of sorted labels that end where all ends: one look at each."""
    kept: list[_Label] = []
    for label in labels:
        if not kept or label.latest < kept[-1].latest:
            kept.append(label)
    return kept


def _reachable_cheaper(
    problem: Problem, task: int, layers: dict[tuple[int, ...], list[_Label]]
) -> dict[tuple[int, ...], list[_Label]]:
    """Without the labels that another place's label beats even after sending all its data the longest way."""
    flows = problem.outgoing[task]
    worst_time = max(max(flow.between_seconds, flow.across_seconds) for flow in flows)
    rivals: list[tuple[float, float, float]] = []
    for (place,), labels in layers.items():
        leaving = sum(max(flow.cost[problem.area_of[place]]) for flow in flows)
        for label in labels:
            rivals.append((label.cost + leaving, label.ends[0] + worst_time, label.latest))
    # By cost, with the earliest end so far: the stairs that a label must stay under.
    rivals.sort()
    kept: dict[tuple[int, ...], list[_Label]] = {}
    stairs: list[tuple[float, float, float]] = []
    for rival in rivals:
        if not stairs or rival[1] < stairs[-1][1]:
            stairs.append(rival)
    for key, labels in layers.items():
        good = [label for label in labels if not _beaten(label, stairs)]
        if good:
            kept[key] = good
    return kept


def _beaten(label: _Label, stairs: list[tuple[float, float, float]]) -> bool:
    """Strictly worse in cost than a stair that is no later."""
    for cost, end, latest in stairs:
        if cost >= label.cost:
            return False
        if end <= label.ends[0] and latest <= label.latest:
            return True
    return False


def _choice(problem: Problem, label: _Label) -> list[int]:
    chosen = [0] * len(problem.options)
    at: _Label | None = label
    for task in reversed(problem.order):
        assert at is not None
        chosen[task] = at.option
        at = at.before
    return chosen
