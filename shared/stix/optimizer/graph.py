"""A request of several tasks: as a problem without names, and back as a plan."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

from stix.model.errors import InvalidInputError, NoOfferError
from stix.optimizer.catalog import Catalog
from stix.optimizer.explain import nothing_fits, nothing_within
from stix.optimizer.front import pareto
from stix.optimizer.placements import Chooser, Placement, Ranking
from stix.optimizer.plan import FrontPoint, Plan, TaskPlan, oldest_price
from stix.optimizer.problem import Flow, Option, Problem, Solution
from stix.optimizer.rates import Place, Rates, tiered_cost
from stix.optimizer.request import Limits, Link, Request, TaskRequest
from stix.optimizer.solve import front, solve
from stix.optimizer.together import in_one_region

__all__ = ["Graph", "parents_first"]


@dataclass(frozen=True, slots=True)
class _Site:
    """Numbers of the regions and areas of one request."""

    regions: dict[Place, int]
    area_of: list[int]
    cloud_of: list[int]


class Graph:
    """One request with its choosers. ``solver_seconds`` bounds the proof."""

    def __init__(
        self,
        request: Request,
        choosers: list[Chooser],
        catalog: Catalog,
        rates: Rates,
        now: float,
        solver_seconds: float,
    ):
        self._request = request
        self._choosers = choosers
        self._rates = rates
        self._now = now
        self._solver_seconds = solver_seconds
        self._placements = self._options(catalog)
        self._site = self._sites()
        self._pairs = self._area_pairs()
        self._problem = self._stated()

    def _options(self, catalog: Catalog) -> list[list[Placement]]:
        """For each task and region the placements that none there beats in cost and in time. Equal tasks are
        asked once."""
        known: list[tuple[TaskRequest, list[Placement]]] = []
        found: list[list[Placement]] = []
        for chooser in self._choosers:
            task = replace(chooser.task, name="")
            same = next((placements for other, placements in known if other == task), None)
            if same is None:
                placements = chooser.best(per_region=True)
                if not placements:
                    raise nothing_fits(chooser.task, catalog, self._request.clouds)
                if task.ordered:
                    first = min(one.alternative for one in placements)
                    placements = [one for one in placements if one.alternative == first]
                same = _pareto_per_region(placements)
                known.append((task, same))
            found.append(same)
        return found

    def _sites(self) -> _Site:
        regions = sorted({_region(one) for placements in self._placements for one in placements})
        clouds = {cloud: at for at, cloud in enumerate(sorted({cloud for cloud, _ in regions}))}
        areas: dict[tuple[str, Hashable], int] = {}
        area_of, cloud_of = [], []
        for region in regions:
            area = (region[0], self._rates.area(region))
            if area not in areas:
                areas[area] = len(areas)
                cloud_of.append(clouds[region[0]])
            area_of.append(areas[area])
        return _Site({region: at for at, region in enumerate(regions)}, area_of, cloud_of)

    def _stated(self) -> Problem:
        regions = self._site.regions
        stated: dict[int, list[Option]] = {}
        for placements in self._placements:
            if id(placements) not in stated:
                stated[id(placements)] = [
                    Option(regions[_region(one)], one.cost, one.seconds, key)
                    for key, one in enumerate(placements)
                ]
        return Problem(
            area_of=self._site.area_of,
            cloud_of=self._site.cloud_of,
            options=[stated[id(placements)] for placements in self._placements],
            flows=[self._flow(link) for link in self._request.links],
            order=parents_first(len(self._placements), self._request.links),
        )

    def _flow(self, link: Link) -> Flow:
        rates, pairs = self._rates, self._pairs
        return Flow(
            link.parent,
            link.child,
            tuple(
                tuple([tiered_cost(rates.egress(*pair), link.gb) if pair else 0.0 for pair in row])
                for row in pairs
            ),
            rates.between_seconds(link.gb),
            rates.across_seconds(link.gb),
        )

    def _area_pairs(self) -> list[list[tuple[Place, Place] | None]]:
        """For each pair of areas two of their regions, and for an area and itself two different ones; None
        where it has only one."""
        site = self._site
        inside: list[list[Place]] = [[] for _ in site.cloud_of]
        for region, at in site.regions.items():
            inside[site.area_of[at]].append(region)

        def pair(source: int, target: int) -> tuple[Place, Place] | None:
            if source != target:
                return inside[source][0], inside[target][0]
            return (inside[source][0], inside[source][1]) if len(inside[source]) > 1 else None

        areas = range(len(inside))
        return [[pair(source, target) for target in areas] for source in areas]

    def plan(self) -> Plan:
        request, limits = self._request, self._request.limits
        if request.together:
            solution = in_one_region(self._problem, request.objective, limits)
        else:
            solved = solve(
                self._problem,
                request.objective,
                max_cost=limits.max_cost,
                deadline=limits.deadline_seconds,
                seconds=self._solver_seconds,
            )
            solution = solved.solution if solved is not None else None
        if solution is None:
            raise self._why_nothing()
        chosen = self._chosen(solution)
        return Plan(
            objective=request.objective,
            tasks=tuple(
                TaskPlan(chooser.task.name, placement, self._ranking(at, solution))
                for at, (chooser, placement) in enumerate(zip(self._choosers, chosen, strict=True))
            ),
            cost=solution.cost,
            seconds=solution.seconds,
            data_cost=max(0.0, solution.cost - sum(one.cost for one in chosen)),
            bound=solution.bound,
            oldest=oldest_price(chosen, self._now),
            made_at=self._now,
            find_front=self._front,
        )

    def _why_nothing(self) -> NoOfferError:
        limits = self._request.limits
        if self._request.together and in_one_region(self._problem, "cost", Limits()) is None:
            names = ", ".join(chooser.task.name for chooser in self._choosers)
            return NoOfferError(
                f"No region has an offer for each of {names}, which run in one place.",
                hint="Ask for other machines, or let the tasks run apart.",
            )
        cheapest = solve(self._problem, "cost", seconds=self._solver_seconds)
        fastest = solve(self._problem, "time", seconds=self._solver_seconds)
        assert cheapest is not None, "without limits everything is allowed"
        assert fastest is not None, "without limits everything is allowed"
        return nothing_within(limits, cheapest.solution.cost, fastest.solution.seconds)

    def _chosen(self, solution: Solution) -> list[Placement]:
        return [
            placements[index] for placements, index in zip(self._placements, solution.choice, strict=True)
        ]

    def _front(self) -> tuple[Sequence[FrontPoint], bool]:
        limits = self._request.limits
        if self._request.together:
            best = in_one_region(self._problem, self._request.objective, limits)
            solutions, complete = ([best] if best is not None else []), False
        else:
            solutions, complete = front(
                self._problem,
                max_cost=limits.max_cost,
                deadline=limits.deadline_seconds,
                seconds=self._solver_seconds,
            )
        return [FrontPoint(one.cost, one.seconds, tuple(self._chosen(one))) for one in solutions], complete

    def _ranking(self, task: int, solution: Solution) -> Callable[[], Ranking]:
        """The task's placements with the data from and to the chosen places of its neighbours."""
        chosen = self._chosen(solution)

        def rank() -> Ranking:
            found = []
            for one in self._choosers[task].best():
                cost = one.cost
                for link in self._request.links:
                    if link.child == task:
                        cost += self._rates.move_cost(_region(chosen[link.parent]), _region(one), link.gb)
                    if link.parent == task:
                        cost += self._rates.move_cost(_region(one), _region(chosen[link.child]), link.gb)
                found.append(one._replace(cost=cost))
            return Ranking(self._choosers[task], found, self._request.objective)

        return rank


def _region(placement: Placement) -> Place:
    return placement.offer.cloud, placement.offer.region


def _pareto_per_region(placements: list[Placement]) -> list[Placement]:
    if len({one.seconds for one in placements}) == 1:
        cheapest: dict[Place, Placement] = {}
        for one in placements:
            place = _region(one)
            known = cheapest.get(place)
            if known is None or one.cost < known.cost:
                cheapest[place] = one
        return list(cheapest.values())
    by_region: dict[Place, list[Placement]] = {}
    for one in placements:
        by_region.setdefault(_region(one), []).append(one)
    return [one for some in by_region.values() for one in (pareto(some) if len(some) > 1 else some)]


def parents_first(count: int, links: Sequence[Link]) -> list[int]:
    """The tasks in an order in which every parent comes before its children. Raises ``InvalidInputError``."""
    waiting = [0] * count
    children: list[list[int]] = [[] for _ in range(count)]
    for link in links:
        waiting[link.child] += 1
        children[link.parent].append(link.child)
    ready = [task for task in range(count) if not waiting[task]]
    order = []
    while ready:
        task = ready.pop()
        order.append(task)
        for child in children[task]:
            waiting[child] -= 1
            if not waiting[child]:
                ready.append(child)
    if len(order) < count:
        raise InvalidInputError(
            "The tasks wait for each other in a circle.", hint="Take one of the dependencies out."
        )
    return order
