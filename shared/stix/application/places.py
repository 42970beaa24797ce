"""What the deployment knows of places, over all workspaces."""

from __future__ import annotations

from stix.application.world import World
from stix.ports.compute import Place
from stix.ports.state_store import Item, Key, VersionConflictError

__all__ = ["SYSTEM", "remember_place"]

SYSTEM = "-system-"
"""The workspace of what belongs to no team: places, the memory of offerings, the sweep's clock."""

_REFRESH_SECONDS = 86400.0


def remember_place(world: World, place: Place) -> None:
    """Note that machines may exist there: the orphan sweep visits places of the last 30 days."""
    now = world.clock.now()
    key = Key.top(SYSTEM, "place", f"{place.cloud}.{place.region}")
    stored = world.store.get(key)
    if stored is not None and now - float(stored.body["used_at"]) < _REFRESH_SECONDS:
        return
    body = {"cloud": place.cloud, "region": place.region, "used_at": now}
    version = 0 if stored is None else stored.version
    try:
        world.store.put(Item(key, body, version=version, listed=True, created_at=now))
    except VersionConflictError:
        return  # another launch noted it just now
