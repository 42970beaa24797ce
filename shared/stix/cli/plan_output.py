"""Plans as tables and as JSON."""

from __future__ import annotations

from itertools import chain, islice
from textwrap import fill
from typing import TYPE_CHECKING, Any

from stix.cli.amounts import age, plural, price_text
from stix.cli.prices import prices_line
from stix.cli.session import Session
from stix.cli.tables import Column, table

if TYPE_CHECKING:
    from stix.catalog.index import CatalogIndex
    from stix.optimizer.placements import Placement, Ranking
    from stix.optimizer.plan import Plan, TaskPlan
    from stix.optimizer.request import Request

__all__ = ["plan_document", "show_plan"]

_PLACES = [
    Column("WHERE", shrinks=True),
    Column("INSTANCE", shrinks=True),
    Column("CPU/GIB", right=True),
    Column("GPUS", shrinks=True),
    Column("PRICE/H", right=True),
    Column("SPOT/H", right=True),
    Column("SAVES", right=True),
    Column("AGE", right=True),
]
_GPUS = 3
_TASKS = [
    Column("TASK", shrinks=True),
    Column("WHERE", shrinks=True),
    Column("INSTANCE", shrinks=True),
    Column("GPUS", shrinks=True),
    Column("NODES", right=True),
    Column("COST", right=True),
    Column("TIME", right=True),
]
_SHOWN_POINTS = 6


def show_plan(
    session: Session, plan: Plan, request: Request, index: CatalogIndex, top: int, prices: dict[str, Any]
) -> None:
    """The best places of one task, or where each of several tasks goes; then what it comes to."""
    if len(plan.tasks) == 1:
        shown = _show_places(session, plan, index, top)
    else:
        shown = _show_tasks(session, plan)
    if any(one.offer.arch == "arm64" for one in shown):
        _say(session, "* arm64: programs and images must be built for it; --arch x86_64 leaves these out.")
    _show_summary(session, plan, request)
    if plan.objective != "cost" and len(plan.front) > 1:
        _show_front(session, plan)
    _say(session, prices_line(prices))


def _show_places(session: Session, plan: Plan, index: CatalogIndex, top: int) -> list[Placement]:
    chosen = _groups(plan.tasks[0].ranking, top)
    rows = []
    for placement, regions in chosen:
        offer = placement.offer
        price, spot_price = index.market_prices(*_machine(placement))
        saved = _saving(price, spot_price)
        rows.append(
            (
                _place(placement) if regions == 1 else f"{offer.cloud}, {regions} regions",
                offer.instance_type + "*" * (offer.arch == "arm64"),
                f"{offer.vcpus:g}/{round(offer.memory_gib):g}",
                _accelerators(placement),
                price_text(price),
                price_text(spot_price),
                "-" if saved is None else f"{saved:.0%}",
                age(plan.made_at - offer.as_of),
            )
        )
    # Where all are of one kind, that is what was asked.
    told = len({row[_GPUS] for row in rows}) > 1
    keep = [at for at in range(len(_PLACES)) if told or at != _GPUS]
    table(session, [_PLACES[at] for at in keep], [[row[at] or "-" for at in keep] for row in rows])
    return [placement for placement, _ in chosen]


def _groups(ranking: Ranking, top: int) -> list[tuple[Placement, int]]:
    """The first ``top`` placements that differ in more than the region, and in how many regions each is."""
    regions: dict[tuple[Any, ...], dict[str, Placement]] = {}
    for entry in islice(chain(ranking.head, ranking.rest()), len(ranking)):
        placement = entry.placement
        offer = placement.offer
        key = (offer.cloud, offer.instance_type, offer.spot, offer.price, placement.alternative)
        if key in regions or len(regions) < top:
            regions.setdefault(key, {}).setdefault(offer.region, placement)
    return [(next(iter(found.values())), len(found)) for found in regions.values()]


def _show_tasks(session: Session, plan: Plan) -> list[Placement]:
    rows = [
        (
            task.name,
            _place(task.chosen),
            task.chosen.offer.instance_type + "*" * (task.chosen.offer.arch == "arm64"),
            _accelerators(task.chosen) or "-",
            str(task.chosen.num_nodes),
            price_text(task.chosen.cost),
            _duration(task.chosen.seconds),
        )
        for task in plan.tasks
    ]
    table(session, _TASKS, rows)
    return [task.chosen for task in plan.tasks]


def _show_summary(session: Session, plan: Plan, request: Request) -> None:
    if len(plan.tasks) == 1:
        best, ranking = plan.tasks[0].chosen, plan.tasks[0].ranking
        market = "spot" if best.offer.spot else "on demand"
        _say(
            session,
            f"First choice, {ranking.head[0].reason}: {plural(best.num_nodes, 'node')} {market} on"
            f" {_place(best)}, {price_text(best.hourly)} an hour{_with_disks(request)}."
            f" {price_text(plan.cost)} for {_duration(plan.seconds)}; {len(ranking)} places fit.",
        )
        return
    data = f", {price_text(plan.data_cost)} of it for data" if plan.data_cost >= 0.00005 else ""
    _say(session, f"All tasks: {price_text(plan.cost)}{data}, {_duration(plan.seconds)}.{_proof(plan)}")


def _say(session: Session, text: str) -> None:
    """No line wider than the terminal."""
    session.say(fill(text, max(40, session.width), break_long_words=False, break_on_hyphens=False))


def _proof(plan: Plan) -> str:
    if plan.proved:
        return " Proved best."
    if plan.objective == "balanced":
        return " Not proved best: only some points of the front are known."
    what = _duration(plan.bound or 0) if plan.objective == "time" else price_text(plan.bound)
    return f" Not proved best: nothing below {what} exists, so at most {plan.gap:.1%} can be gained."


def _with_disks(request: Request) -> str:
    size = request.tasks[0].alternatives[0].disk_gb
    return f" with a disk of {size:g} GB each" if size else ""


def _show_front(session: Session, plan: Plan) -> None:
    front = list(plan.front)
    step = max(1, -(-len(front) // _SHOWN_POINTS))
    points = ", ".join(f"{price_text(one.cost)} in {_duration(one.seconds)}" for one in front[::step])
    some = "" if plan.front_complete and step == 1 else " (some of them)"
    _say(session, f"Trade-offs{some}: {points}.")


def _place(placement: Placement) -> str:
    """``aws/us-east-1``, or with a zone that matters ``aws/us-east-1a``."""
    offer = placement.offer
    if not (offer.spot and offer.zone):
        return f"{offer.cloud}/{offer.region}" if offer.region else offer.cloud
    if offer.zone.startswith(offer.region):
        return f"{offer.cloud}/{offer.zone}"
    return f"{offer.cloud}/{offer.region}/{offer.zone}"


def _machine(placement: Placement) -> tuple[str, str, str, str]:
    offer = placement.offer
    return offer.cloud, offer.region, offer.zone, offer.instance_type


def _accelerators(placement: Placement) -> str:
    offer = placement.offer
    return f"{offer.accelerator}:{offer.accelerator_count:g}" if offer.accelerator else ""


def _saving(price: float | None, spot_price: float | None) -> float | None:
    """The share that spot saves."""
    if not price or spot_price is None:
        return None
    return 1 - spot_price / price


def _duration(seconds: float) -> str:
    from stix.model.durations import duration_text

    return duration_text(float(round(seconds / 60) * 60 if seconds >= 3600 else round(seconds)))


def plan_document(plan: Plan, index: CatalogIndex, top: int, prices: dict[str, Any]) -> dict[str, Any]:
    """Everything of the plan as plain values: USD, seconds, GiB, epoch seconds. ``front`` is null for several
    tasks of which only the cost counts: it can take longer than the plan."""
    with_front = len(plan.tasks) == 1 or plan.objective != "cost"
    return {
        "objective": plan.objective,
        "cost": plan.cost,
        "data_cost": plan.data_cost,
        "seconds": plan.seconds,
        "proved": plan.proved,
        "bound": plan.bound,
        "gap": plan.gap,
        "made_at": plan.made_at,
        "prices": prices,
        "tasks": [_task_document(task, plan, index, top) for task in plan.tasks],
        "front": [{"cost": one.cost, "seconds": one.seconds} for one in plan.front] if with_front else None,
        "front_complete": plan.front_complete if with_front else None,
    }


def _task_document(task: TaskPlan, plan: Plan, index: CatalogIndex, top: int) -> dict[str, Any]:
    return {
        "name": task.name,
        "chosen": _placement_document(task.chosen, plan, index),
        "places": len(task.ranking),
        "ranked": [
            {"rank": entry.rank, "reason": entry.reason, **_placement_document(entry.placement, plan, index)}
            for entry in task.ranking.head[:top]
        ],
    }


def _placement_document(placement: Placement, plan: Plan, index: CatalogIndex) -> dict[str, Any]:
    offer = placement.offer
    price, spot_price = index.market_prices(*_machine(placement))
    return {
        "cloud": offer.cloud,
        "region": offer.region,
        "zone": offer.zone,
        "instance_type": offer.instance_type,
        "vcpus": offer.vcpus,
        "memory_gib": offer.memory_gib,
        "accelerator": offer.accelerator,
        "accelerator_count": offer.accelerator_count,
        "arch": offer.arch,
        "spot": offer.spot,
        "num_nodes": placement.num_nodes,
        "price": price,
        "spot_price": spot_price,
        "saving": _saving(price, spot_price),
        "hourly_cost": placement.hourly,
        "cost": placement.cost,
        "seconds": placement.seconds,
        "price_as_of": offer.as_of,
        "age_seconds": max(0.0, plan.made_at - offer.as_of),
    }
