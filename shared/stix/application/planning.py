"""Which offers a task has, over every cloud that is configured."""

from __future__ import annotations

import json
from collections.abc import Hashable
from dataclasses import replace
from functools import lru_cache
from typing import Any, cast

from stix.application.world import World
from stix.model.errors import NoOfferError
from stix.model.offer import Offer
from stix.model.resources import Resources
from stix.model.task import Task
from stix.optimizer.from_model import request_of_task
from stix.optimizer.placements import Placement
from stix.optimizer.rank import RankedOffer, rank_offers, refusals
from stix.ports.compute import DiscoversOffers

__all__ = ["accelerators_text", "plan", "read_plan", "store_plan"]


def plan(world: World, task: Task) -> list[RankedOffer]:
    """Ranked offers, at least one. Raises ``NoOfferError`` that says what was asked and what there is."""
    offers = _offers(world)
    alternatives = task.resources.alternatives()
    found = _from_catalog(world, task)
    for number, one in enumerate(alternatives):
        found += [(number, entry) for entry in rank_offers(one, offers) if _affordable(one, entry.offer)]
    if found:
        ordered = task.resources.is_ordered
        found.sort(key=lambda one: (one[0] if ordered else 0, one[1].offer.price))
        return [entry for _, entry in found]
    asked = task.resources.to_config()
    wanted = (
        ", ".join(f"{field} {value}" for field, value in asked.items() if field in _SHAPES) or "any machine"
    )
    cloud = task.resources.cloud
    if cloud is not None and cloud not in world.clouds:
        configured = ", ".join(sorted(world.clouds)) or "none"
        problem = world.unusable.get(cloud)
        if problem is not None:
            raise NoOfferError(
                f"resources.infra: {cloud} cannot be used here: {problem.reason} (configured: {configured}).",
                hint=f"{problem.hint} `stix check` shows every cloud.",
                details={"field": "resources.infra", "value": cloud},
            )
        raise NoOfferError(
            f"resources.infra: {cloud} is not configured here (configured: {configured}).",
            hint="Leave `infra` out to use what is there, or run `stix check` to see what each cloud needs.",
            details={"field": "resources.infra", "value": cloud},
        )
    lacking = [line for one in alternatives for line in refusals(one, offers)]
    reasons = "; ".join(list(dict.fromkeys(lacking))[:5]) or "no cloud offers any machine"
    raise NoOfferError(
        f"No offer fits: {wanted}. {reasons}.",
        hint="Ask for less, or see `stix check` for the clouds that are configured.",
    )


_SHAPES = ("infra", "instance_type", "cpus", "memory", "accelerators", "use_spot")


def _affordable(asked: Resources, offer: Offer) -> bool:
    return asked.max_hourly_cost is None or offer.price <= asked.max_hourly_cost


def _from_catalog(world: World, task: Task) -> list[tuple[int, RankedOffer]]:
    """What the catalog has of the configured clouds that do not say themselves what they offer, each with the
    number of its alternative."""
    clouds = frozenset(name for name, facts in world.clouds.items() if not facts.discovers)
    if world.catalog is None or not clouds:
        return []
    from stix.catalog.planner import priced_plan

    now = world.clock.now()
    request = replace(request_of_task(task, now=now), clouds=clouds)
    try:
        found = priced_plan(request, world.catalog, now=now)
    except NoOfferError:
        return []
    head = found.tasks[0].ranking.head
    return [(one.placement.alternative, RankedOffer(_offer(one.placement), one.reason)) for one in head]


def _offer(placement: Placement) -> Offer:
    """The price is that of one machine with its disk."""
    priced = placement.offer
    return Offer(
        cloud=priced.cloud,
        region=priced.region,
        zone=priced.zone,
        instance_type=priced.instance_type,
        spot=priced.spot,
        vcpus=priced.vcpus,
        memory_gib=priced.memory_gib,
        accelerator=priced.accelerator,
        accelerator_count=priced.accelerator_count,
        price=placement.hourly / placement.num_nodes,
        price_as_of=priced.as_of,
    )


def _offers(world: World) -> list[Offer]:
    found: list[Offer] = []
    for name, facts in world.clouds.items():
        provider = world.compute.get(name)
        if facts.discovers and isinstance(provider, DiscoversOffers):
            found.extend(provider.offers())
    return found


def accelerators_text(offer: Offer) -> str:
    """``A100:8``, empty where there is none."""
    return f"{offer.accelerator}:{offer.accelerator_count:g}" if offer.accelerator_count else ""


def store_plan(world: World, workspace: str, cluster_id: str, ranked: list[RankedOffer]) -> str:
    """Keep the ranked offers as a document; its key."""
    key = f"plans/{workspace}/{cluster_id}/{world.ids.new('plan')}.json"
    document: dict[str, Any] = {
        "made_at": world.clock.now(),
        "offers": [
            {"offer": entry.offer.model_dump(mode="json", exclude_defaults=True), "reason": entry.reason}
            for entry in ranked
        ],
    }
    world.objects.put(key, json.dumps(document, separators=(",", ":")).encode())
    return key


def read_plan(world: World, key: str) -> tuple[RankedOffer, ...]:
    """The ranked offers of a stored plan. It never changes, so the next attempt finds it in memory."""
    return _stored_plan(cast(Hashable, world.objects), key)


@lru_cache(maxsize=32)
def _stored_plan(objects: Any, key: str) -> tuple[RankedOffer, ...]:
    document = json.loads(objects.get(key))
    return tuple(RankedOffer(Offer.model_validate(e["offer"]), e["reason"]) for e in document["offers"])
