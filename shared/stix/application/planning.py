"""Which offers a task has, over every cloud that is configured."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from stix.application.world import World
from stix.model.errors import NoOfferError
from stix.model.offer import Offer
from stix.model.task import Task
from stix.optimizer.catalog import PricedOffer
from stix.optimizer.from_model import request_of_task
from stix.optimizer.optimize import optimize
from stix.optimizer.rank import RankedOffer, rank_offers, refusals
from stix.ports.compute import DiscoversOffers

__all__ = ["accelerators_text", "plan", "read_plan", "store_plan"]


def plan(world: World, task: Task) -> list[RankedOffer]:
    """Ranked offers, at least one. Raises ``NoOfferError`` that says what was asked and what there is."""
    offers = _offers(world)
    ranked = _ranked(task, offers) + _from_catalog(world, task)
    if ranked:
        return ranked
    asked = task.resources.to_config()
    wanted = (
        ", ".join(f"{field} {value}" for field, value in asked.items() if field in _SHAPES) or "any machine"
    )
    cloud = task.resources.cloud
    if cloud is not None and cloud not in world.compute:
        configured = ", ".join(sorted(world.compute)) or "none"
        raise NoOfferError(
            f"resources.infra: {cloud} is not configured here (configured: {configured}).",
            hint="Leave `infra` out to use what is there, or run `stix check` to see what each cloud needs.",
            details={"field": "resources.infra", "value": cloud},
        )
    lacking = [line for one in task.resources.alternatives() for line in refusals(one, offers)]
    reasons = "; ".join(list(dict.fromkeys(lacking))[:5]) or "no cloud offers any machine"
    raise NoOfferError(
        f"No offer fits: {wanted}. {reasons}.",
        hint="Ask for less, or see `stix check` for the clouds that are configured.",
    )


_SHAPES = ("infra", "instance_type", "cpus", "memory", "accelerators", "use_spot")


def _ranked(task: Task, offers: list[Offer]) -> list[RankedOffer]:
    """Of every alternative: in the order that was asked, or else the cheapest first."""
    found = [entry for one in task.resources.alternatives() for entry in rank_offers(one, offers)]
    if not task.resources.is_ordered:
        found.sort(key=lambda entry: entry.offer.price)
    return found


def _from_catalog(world: World, task: Task) -> list[RankedOffer]:
    """What the catalog has of the configured clouds that do not say themselves what they offer."""
    clouds = {name for name, compute in world.compute.items() if not isinstance(compute, DiscoversOffers)}
    if world.catalog is None or not clouds:
        return []
    now = world.clock.now()
    request = replace(request_of_task(task, now=now), clouds=frozenset(clouds))
    try:
        found = optimize(request, world.catalog, now=now)
    except NoOfferError:
        return []
    return [RankedOffer(_offer(entry.placement.offer), entry.reason) for entry in found.tasks[0].ranking.head]


def _offer(priced: PricedOffer) -> Offer:
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
        price=priced.price,
        price_as_of=priced.as_of,
    )


def _offers(world: World) -> list[Offer]:
    found: list[Offer] = []
    for provider in world.compute.values():
        if isinstance(provider, DiscoversOffers):
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
            {"offer": entry.offer.model_dump(mode="json"), "reason": entry.reason} for entry in ranked
        ],
    }
    world.objects.put(key, json.dumps(document).encode())
    return key


def read_plan(world: World, key: str) -> list[RankedOffer]:
    """The ranked offers of a stored plan."""
    document = json.loads(world.objects.get(key))
    return [RankedOffer(Offer.model_validate(e["offer"]), e["reason"]) for e in document["offers"]]
