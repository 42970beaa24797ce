"""What the deployment knows of places, over all workspaces."""

from __future__ import annotations

from urllib.parse import quote, unquote

from stix.application.world import World
from stix.ports.compute import Place
from stix.ports.state_store import Item, Key, VersionConflictError

__all__ = ["SYSTEM", "place_of", "remember_place", "used_places"]

SYSTEM = "-system-"
"""The workspace of what belongs to no team: places, the memory of offerings, the sweep's clock."""

_REFRESH_SECONDS = 86400.0
_WITNESSES = "system/places/"


def remember_place(world: World, place: Place) -> None:
    """Note that machines may exist there: the orphan sweep visits places of the last 30 days. Noted outside
    the table too, for a table that is restored to a time before."""
    now = world.clock.now()
    key = Key.top(SYSTEM, "place", f"{place.cloud}.{place.region}")
    stored = world.store.get(key)
    if stored is not None and now - float(stored.body["used_at"]) < _REFRESH_SECONDS:
        return
    world.objects.put(f"{_WITNESSES}{place.cloud}/{quote(place.region, safe='')}", b"{}")
    body = {"cloud": place.cloud, "region": place.region, "used_at": now}
    version = 0 if stored is None else stored.version
    try:
        world.store.put(Item(key, body, version=version, listed=True, created_at=now))
    except VersionConflictError:
        return  # another launch noted it just now


def used_places(world: World) -> list[Place]:
    """Every place in which anything was ever created, as far as its cloud is still configured."""
    written = (place_of(unquote(key.removeprefix(_WITNESSES))) for key in world.objects.keys(_WITNESSES))
    return [place for place in written if place is not None and place.cloud in world.clouds]


def place_of(text: str) -> Place | None:
    """Of ``CLOUD/REGION``; None for anything else."""
    cloud, _, region = text.partition("/")
    return Place(cloud, region) if cloud and region else None
