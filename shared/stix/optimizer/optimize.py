"""Placing all tasks of a request: the best plan within its limits, exactly where that can be proved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stix.optimizer.catalog import AcceleratorFacts, Catalog
from stix.optimizer.explain import nothing_fits, nothing_within
from stix.optimizer.front import ROUNDING, pareto
from stix.optimizer.held import Held
from stix.optimizer.placements import Chooser, Ranking
from stix.optimizer.plan import FrontPoint, Plan, TaskPlan, oldest_price
from stix.optimizer.rates import Rates
from stix.optimizer.request import Limits, Request

__all__ = ["optimize"]


def optimize(
    request: Request,
    catalog: Catalog,
    *,
    now: float,
    rates: Rates | None = None,
    facts: Mapping[str, AcceleratorFacts] | None = None,
    held: Sequence[Held] = (),
    solver_seconds: float = 5.0,
) -> Plan:
    """The best plan. ``solver_seconds`` bounds a general graph's proof; the plan says what is proved.

    Raises ``NoOfferError``, which says what to give up, and ``InvalidInputError`` for links in a circle.
    """
    rates, facts = rates or Rates(), facts or {}
    scaled = request.objective != "cost" or request.limits.deadline_seconds is not None
    choosers = [
        Chooser(
            task,
            catalog,
            rates,
            facts,
            blocked=request.blocked,
            clouds=request.clouds,
            held=held,
            by_speed=scaled,
        )
        for task in request.tasks
    ]
    if len(choosers) == 1:
        return _single(request, choosers[0], catalog, now)
    from stix.optimizer.graph import Graph

    return Graph(request, choosers, catalog, rates, now, solver_seconds).plan()


def _within(limits: Limits, cost: float, seconds: float) -> bool:
    most, latest = limits.max_cost, limits.deadline_seconds
    return (most is None or cost <= most * (1 + ROUNDING)) and (
        latest is None or seconds <= latest * (1 + ROUNDING)
    )


def _single(request: Request, chooser: Chooser, catalog: Catalog, now: float) -> Plan:
    everywhere = chooser.best()
    if not everywhere:
        raise nothing_fits(chooser.task, catalog, request.clouds)
    limits = request.limits
    found = everywhere
    if limits.max_cost is not None or limits.deadline_seconds is not None:
        found = [one for one in everywhere if _within(limits, one.cost, one.seconds)]
    if not found:
        cheapest, fastest = min(one.cost for one in everywhere), min(one.seconds for one in everywhere)
        raise nothing_within(limits, cheapest, fastest)
    ranking = Ranking(chooser, found, request.objective)
    chosen = ranking.head[0].placement
    return Plan(
        objective=request.objective,
        tasks=(TaskPlan(chooser.task.name, chosen, lambda: ranking),),
        cost=chosen.cost,
        seconds=chosen.seconds,
        data_cost=0.0,
        bound=None,
        oldest=oldest_price([chosen], now),
        made_at=now,
        find_front=lambda: ([FrontPoint(one.cost, one.seconds, (one,)) for one in pareto(found)], True),
    )
