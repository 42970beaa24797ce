"""What the account's quotas allow, asked seldom for a region, so that no launch meets them in vain."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

from stix.application.places import SYSTEM
from stix.application.world import World
from stix.model.errors import StixError
from stix.model.offer import Offer
from stix.ports.compute import Place, Quota, ReportsQuotas
from stix.ports.state_store import Item, Key

__all__ = ["FRESH_SECONDS", "forget_quotas", "quota_lacks"]

logger = logging.getLogger(__name__)

FRESH_SECONDS = 900.0
_KEEP_SECONDS = 86400.0


def quota_lacks(world: World, offer: Offer, count: int) -> str:
    """Why ``count`` machines of the offer are more than the region's quota leaves; empty where they fit, or
    where nobody knows. Asks the provider where the last answer is older than a quarter of an hour."""
    facts = world.clouds.get(offer.cloud)
    provider = world.compute.get(offer.cloud)
    if facts is None or not isinstance(provider, ReportsQuotas):
        return ""
    family = facts.quota_family(offer)
    for quota in _quotas(world, provider, Place(offer.cloud, offer.region)):
        if (quota.family, quota.spot) != (family, offer.spot):
            continue
        asked = count * {"vcpus": offer.vcpus, "accelerators": offer.accelerator_count}.get(quota.unit, 1)
        free = max(0.0, quota.limit - quota.used)
        if asked > free:
            market = "spot " if offer.spot else ""
            return (
                f"{asked:g} {market}{quota.unit} are more than the account's quota for {family}: "
                f"{free:g} of {quota.limit:g} are free"
            )
    return ""


def forget_quotas(world: World, place: Place) -> None:
    """A refusal contradicted them: they are asked for anew."""
    world.store.delete(_key(place))


def _quotas(world: World, provider: ReportsQuotas, place: Place) -> list[Quota]:
    now = world.clock.now()
    item = world.store.get(_key(place))
    if item is not None and now - float(item.body["at"]) < FRESH_SECONDS:
        return [Quota(**quota) for quota in item.body["quotas"]]
    try:
        quotas = provider.quotas(place)
    except StixError as error:
        # Nobody knows: the provider's own refusal will say. Not asked again for as long as an answer holds.
        logger.warning("quotas could not be read", extra={"detail": f"{place}: {error.message}"})
        quotas = []
    body: dict[str, Any] = {"at": now, "quotas": [asdict(quota) for quota in quotas]}
    world.store.put(Item(_key(place), body, expires_at=now + _KEEP_SECONDS), unconditional=True)
    return quotas


def _key(place: Place) -> Key:
    return Key.top(SYSTEM, "quotas", f"{place.cloud}.{place.region}")
