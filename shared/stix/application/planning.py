"""Which offers a task has, over every cloud that is configured."""

from __future__ import annotations

import json
from typing import Any

from stix.application.world import World
from stix.model.errors import NoOfferError
from stix.model.offer import Offer
from stix.model.task import Task
from stix.optimizer.rank import RankedOffer, rank_offers, refusals
from stix.ports.compute import DiscoversOffers

__all__ = ["accelerators_text", "plan", "read_plan", "store_plan"]


def plan(world: World, task: Task) -> list[RankedOffer]:
    """Ranked offers, at least one. Raises ``NoOfferError`` that says what was asked and what there is."""
    offers = _offers(world)
    ranked = rank_offers(task.resources, offers)
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
    reasons = "; ".join(refusals(task.resources, offers)[:5]) or "no cloud offers any machine"
    raise NoOfferError(
        f"No offer fits: {wanted}. {reasons}.",
        hint="Ask for less, or see `stix check` for the clouds that are configured.",
    )


_SHAPES = ("infra", "instance_type", "cpus", "memory", "accelerators", "use_spot")


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
