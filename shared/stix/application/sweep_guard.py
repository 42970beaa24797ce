"""Whether the table may call a machine unknown: only one that knows the newest creation may.

A table that was restored from a backup, rolled back or replaced does not know what was created since. So the
creations that may have made machines are witnessed outside the table; where the table has never heard of the
newest one, nothing is judged by it until ``stix admin rebuild``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from stix.application.places import SYSTEM
from stix.application.records import intent_key
from stix.application.world import World
from stix.model.cluster import Intent
from stix.model.errors import ConflictError
from stix.ports.object_store import ObjectNotFoundError
from stix.ports.state_store import Item, Key, VersionConflictError
from stix.ports.surroundings import Event

__all__ = ["arm", "change_guard", "disarmed", "read_guard", "witness"]

_WITNESS = "system/newest-creation.json"
_GUARD = Key.top(SYSTEM, "guard", "orphan-sweep")
_UNGUARDED: dict[str, Any] = {"reason": "", "places": {}, "clusters": []}
_TRIES = 20
_MARGIN_SECONDS = 86400.0
"""A witness nearly as old as what the table keeps of an ended creation says nothing any more."""


def witness(world: World, intent: Intent) -> None:
    """Say outside the table that ``intent`` is in it: before a launch's first call, so that its cluster is
    known, and as soon as machines may exist by a later one."""
    body = {
        "workspace": intent.workspace,
        "cluster": intent.cluster_id,
        "attempt": intent.attempt,
        "at": intent.created_at,
    }
    world.objects.put(_WITNESS, json.dumps(body).encode())


def disarmed(world: World) -> str:
    """Why the table may not judge machines; empty where it may. The verdict stays until ``arm``."""
    found = read_guard(world)
    if found["reason"]:
        return str(found["reason"])
    newest = _newest(world)
    if newest is None or world.clock.now() - newest["at"] > world.limits.retention_seconds - _MARGIN_SECONDS:
        return ""
    if world.store.get(intent_key(newest["workspace"], newest["cluster"], newest["attempt"])) is not None:
        return ""
    reason = (
        f"the table does not know the newest creation (cluster {newest['cluster']}): "
        "it was restored, rolled back or replaced"
    )
    now = world.clock.now()
    change_guard(world, lambda body: {**body, "reason": body["reason"] or reason})
    world.events.publish(Event("OrphanSweepDisarmed", SYSTEM, "orphan-sweep", now, {"reason": reason}))
    return reason


def arm(world: World) -> None:
    """The table knows of every machine again: it may judge them."""
    world.objects.put(_WITNESS, b"{}")
    change_guard(world, lambda body: {**body, "reason": ""})
    world.events.publish(Event("OrphanSweepArmed", SYSTEM, "orphan-sweep", world.clock.now(), {}))


def read_guard(world: World) -> dict[str, Any]:
    """``reason`` why machines may not be judged, empty where they may; and what the last rebuild found:
    machines' clusters adopted by place (``places``, -1 for one not visited yet) and names (``clusters``)."""
    item = world.store.get(_GUARD)
    return {**_UNGUARDED, **({} if item is None else item.body)}


def change_guard(world: World, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> bool:
    """Write what ``change`` makes of the guard, against others; False where it answers None."""
    for _ in range(_TRIES):
        item = world.store.get(_GUARD)
        body = change({**_UNGUARDED, **({} if item is None else item.body)})
        if body is None:
            return False
        try:
            world.store.put(Item(_GUARD, body, version=0 if item is None else item.version))
        except VersionConflictError:
            continue
        return True
    raise ConflictError("The orphan sweep's guard is being changed by others too often.", code="busy")


def _newest(world: World) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(world.objects.get(_WITNESS))
    except ObjectNotFoundError:
        return None
    return found or None
