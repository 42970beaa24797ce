"""Graphs that dynamic programming cannot take: a mixed-integer program for HiGHS (the extra ``dag``).

What a flow costs is told by the areas that it joins, by the cloud where all its areas cost the same, and by
whether it stays in its region. The program has a variable for each of these and none for pairs of regions;
its relaxation is then nearly always whole.
"""

from __future__ import annotations

import math
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from stix.optimizer.problem import Flow, Option, Problem, Solution

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["available", "solve"]

_INFINITE = math.inf
_GAP = 1e-9


def available() -> bool:
    """Whether the extra ``dag`` is installed."""
    return find_spec("highspy") is not None


def solve(
    problem: Problem,
    objective: str,
    *,
    max_cost: float | None = None,
    deadline: float | None = None,
    seconds: float = 5.0,
) -> Solution | None:
    """The placement with the least cost or the least time (``objective``), and of the equally fast the
    cheapest; with the proved bound where ``seconds`` of solving did not prove it best. None where no
    placement keeps the limits, or where none was found in time."""
    found = _Model(problem, objective, max_cost, deadline).run(seconds)
    if found is None or objective == "cost" or not found.proved:
        return found
    cheaper = _Model(problem, "cost", max_cost, found.seconds * (1 + 1e-7)).run(seconds)
    # The last step of the solver may leave the first time by its tolerance only.
    return cheaper if cheaper is not None and cheaper.proved else found


class _Model:
    def __init__(self, problem: Problem, objective: str, max_cost: float | None, deadline: float | None):
        self._problem = problem
        self._objective = objective
        self._costs: list[float] = []
        self._upper: list[float] = []
        self._whole: list[bool] = []
        self._starts: list[int] = []
        self._columns: list[int] = []
        self._values: list[float] = []
        self._least: list[float] = []
        self._most: list[float] = []
        self._prices: dict[int, float] = {}
        self._timed = objective == "time" or deadline is not None
        self._chosen = self._options(merge=not self._timed)
        self._moves = [self._flow(flow) for flow in problem.flows]
        if self._timed:
            self._times(deadline)
        if max_cost is not None:
            self._row(self._prices.items(), -_INFINITE, max_cost * (1 + _GAP))
        if objective == "cost":
            for column, price in self._prices.items():
                self._costs[column] = price

    def _column(self, price: float = 0.0, *, upper: float = 1.0, whole: bool = False) -> int:
        self._costs.append(0.0)
        self._upper.append(upper)
        self._whole.append(whole)
        column = len(self._costs) - 1
        if price:
            self._prices[column] = price
        return column

    def _row(self, entries: Iterable[tuple[int, float]], least: float, most: float) -> None:
        self._starts.append(len(self._columns))
        for column, value in entries:
            self._columns.append(column)
            self._values.append(value)
        self._least.append(least)
        self._most.append(most)

    def _options(self, *, merge: bool) -> list[dict[int, int]]:
        """For each task the column of each option that may be chosen: with ``merge`` the cheapest of each
        location."""
        chosen: list[dict[int, int]] = []
        for options in self._problem.options:
            indexes = _cheapest_first(options)
            if merge:
                first: dict[int, int] = {}
                for index in indexes:
                    first.setdefault(options[index].location, index)
                indexes = list(first.values())
            columns = {index: self._column(options[index].cost, whole=True) for index in indexes}
            self._row([(column, 1.0) for column in columns.values()], 1.0, 1.0)
            chosen.append(columns)
        return chosen

    def _at(self, task: int) -> dict[int, list[int]]:
        """Columns by location."""
        found: dict[int, list[int]] = {}
        for index, column in self._chosen[task].items():
            found.setdefault(self._problem.options[task][index].location, []).append(column)
        return found

    def _flow(self, flow: Flow) -> list[tuple[int, float]]:
        """Columns of the joined places, with the seconds of each."""
        problem = self._problem
        cloud_of = problem.cloud_of
        sources, targets = self._at(flow.parent), self._at(flow.child)
        areas_from = _grouped(sources, problem.area_of)
        areas_to = _grouped(targets, problem.area_of)
        clouds_to: dict[int, list[int]] = {}
        for area in areas_to:
            clouds_to.setdefault(cloud_of[area], []).append(area)
        waits: list[tuple[int, float]] = []
        into_area: dict[int, list[int]] = {area: [] for area in areas_to}
        into_cloud: dict[int, list[int]] = {cloud: [] for cloud in clouds_to}
        for area, columns in areas_from.items():
            prices, leaving = flow.cost[area], []
            for cloud, inside in clouds_to.items():
                same_cloud = cloud == cloud_of[area]
                wait = flow.between_seconds if same_cloud else flow.across_seconds
                uniform = not same_cloud and len({prices[other] for other in inside}) == 1
                for joined in [inside] if uniform else [[other] for other in inside]:
                    column = self._column(prices[joined[0]])
                    waits.append((column, wait))
                    leaving.append(column)
                    into_cloud[cloud].append(column)
                    if not uniform:
                        into_area[joined[0]].append(column)
                    if joined == [area]:
                        waits += self._stays(flow, area, column, sources, targets)
            self._row([*_times(leaving, 1.0), *_times(columns, -1.0)], 0.0, 0.0)
        for area, joined in into_area.items():
            self._row([*_times(joined, 1.0), *_times(areas_to[area], -1.0)], -_INFINITE, 0.0)
        for cloud, joined in into_cloud.items():
            inside = [column for area in clouds_to[cloud] for column in areas_to[area]]
            self._row([*_times(joined, 1.0), *_times(inside, -1.0)], 0.0, 0.0)
        return [(column, wait) for column, wait in waits if wait]

    def _stays(
        self, flow: Flow, area: int, joined: int, sources: dict[int, list[int]], targets: dict[int, list[int]]
    ) -> list[tuple[int, float]]:
        """Columns that take back what ``joined`` counts where both tasks are in one region."""
        found = []
        for location in sources.keys() & targets.keys():
            if self._problem.area_of[location] == area:
                column = self._column(-flow.cost[area][area])
                found.append((column, -flow.between_seconds))
                for ends in (sources[location], targets[location]):
                    self._row([(column, 1.0), *_times(ends, -1.0)], -_INFINITE, 0.0)
        if found:
            self._row([*((column, 1.0) for column, _ in found), (joined, -1.0)], -_INFINITE, 0.0)
        return found

    def _times(self, deadline: float | None) -> None:
        problem = self._problem
        horizon = _INFINITE if deadline is None else deadline * (1 + _GAP)
        last = self._column(upper=horizon)
        ends = [self._column(upper=horizon) for _ in problem.options]
        for task, end in enumerate(ends):
            runs = [
                (column, -problem.options[task][index].seconds)
                for index, column in self._chosen[task].items()
            ]
            self._row([(last, 1.0), (end, -1.0)], 0.0, _INFINITE)
            self._row([(end, 1.0), *runs], 0.0, _INFINITE)
        for flow, waits in zip(problem.flows, self._moves, strict=True):
            child = flow.child
            runs = [
                (column, -problem.options[child][index].seconds)
                for index, column in self._chosen[child].items()
            ]
            moving = [(column, -wait) for column, wait in waits]
            self._row([(ends[child], 1.0), (ends[flow.parent], -1.0), *runs, *moving], 0.0, _INFINITE)
        if self._objective == "time":
            self._costs[last] = 1.0

    def run(self, seconds: float) -> Solution | None:
        import highspy  # type: ignore[import-not-found,unused-ignore]
        import numpy as np

        # Its base: the class itself greets on standard output before it can be told to be silent.
        base: Any = highspy.Highs.__base__
        solver = base()
        for option, value in (
            ("output_flag", False),
            ("threads", 1),
            ("mip_rel_gap", _GAP),
            ("mip_abs_gap", 1e-9),
            ("time_limit", seconds),
        ):
            solver.setOptionValue(option, value)
        program: Any = highspy.HighsLp()
        program.num_col_, program.num_row_ = len(self._costs), len(self._starts)
        program.col_cost_ = np.array(self._costs)
        program.col_lower_ = np.zeros(len(self._costs))
        program.col_upper_ = np.array(self._upper)
        program.row_lower_, program.row_upper_ = np.array(self._least), np.array(self._most)
        program.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        program.a_matrix_.start_ = np.array([*self._starts, len(self._columns)])
        program.a_matrix_.index_ = np.array(self._columns)
        program.a_matrix_.value_ = np.array(self._values)
        solver.passModel(program)
        if not self._timed:
            # Without times the relaxation is nearly always whole, and then it is the answer.
            solver.run()
            if solver.getModelStatus() == highspy.HighsModelStatus.kOptimal:
                values = solver.getSolution().col_value
                if all(self._is_whole(values)):
                    return self._read(values)
        kinds = highspy.HighsVarType
        program.integrality_ = [kinds.kInteger if whole else kinds.kContinuous for whole in self._whole]
        solver.passModel(program)
        solver.run()
        info = solver.getInfo()
        if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
            return None
        proved = solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
        return self._read(
            solver.getSolution().col_value, bound=None if proved else max(0.0, info.mip_dual_bound)
        )

    def _is_whole(self, values: Sequence[float]) -> Iterable[bool]:
        return (
            not 1e-6 < value < 1 - 1e-6 for value, whole in zip(values, self._whole, strict=True) if whole
        )

    def _read(self, values: Sequence[float], *, bound: float | None = None) -> Solution:
        choice = [_chosen(columns, values) for columns in self._chosen]
        return self._problem.solution(choice, bound=bound)


def _times(columns: Iterable[int], value: float) -> list[tuple[int, float]]:
    return [(column, value) for column in columns]


def _grouped(columns: dict[int, list[int]], group_of: Sequence[int]) -> dict[int, list[int]]:
    """The columns of all locations of each group."""
    found: dict[int, list[int]] = {}
    for location, some in columns.items():
        found.setdefault(group_of[location], []).extend(some)
    return found


def _cheapest_first(options: Sequence[Option]) -> list[int]:
    return sorted(range(len(options)), key=lambda at: (options[at].cost, options[at].seconds))


def _chosen(columns: dict[int, int], values: Sequence[float]) -> int:
    return max(columns, key=lambda index: values[columns[index]])
