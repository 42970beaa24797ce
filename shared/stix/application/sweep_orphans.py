"""Machines that the table does not know: marked on one sweep, ended on a later one."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from stix.application.machine_tags import delete_at
from stix.application.places import SYSTEM, place_of
from stix.application.rebuild import adopt_place, guard_view
from stix.application.records import cluster_key, intent_key, load
from stix.application.sweep_guard import disarmed
from stix.application.world import World
from stix.model.cluster import Cluster, Intent
from stix.model.status import IntentStatus
from stix.ports.compute import Machine, Place
from stix.ports.state_store import Item, Key, VersionConflictError
from stix.ports.surroundings import Event

__all__ = ["PLACE_SECONDS", "list_places", "sweep_place"]

_MARK_SECONDS = 300.0
PLACE_SECONDS = 30 * 86400.0
_MAX_PLACES = 250
"""The Map over them stays far below Step Functions' limit of history events."""
_KEEP_MARK_SECONDS = 7 * 86400.0


def list_places(world: World, mode: str = "sweep") -> dict[str, Any]:
    """Clouds and regions where something was created in the last 30 days, the latest 250; or, in the mode
    ``rebuild``, those that it is to visit."""
    if mode == "rebuild":
        waiting = (place_of(text) for text in guard_view(world)["waiting"])
        return {"places": [{"cloud": one.cloud, "region": one.region} for one in waiting if one]}
    horizon = world.clock.now() - PLACE_SECONDS
    places: list[dict[str, str]] = []
    after: str | None = None
    while True:
        page = world.store.list(SYSTEM, "place", after=after)
        for item in page.items:
            if float(item.body["used_at"]) > horizon and item.body["cloud"] in world.compute:
                places.append({"cloud": item.body["cloud"], "region": item.body["region"]})
        after = page.next
        if after is None or len(places) >= _MAX_PLACES:
            return {"places": places[:_MAX_PLACES]}


def sweep_place(world: World, cloud: str, region: str, mode: str = "sweep") -> dict[str, Any]:
    """Compare one place with the table; how many machines were marked and ended, and for how many seconds the
    oldest that nothing explains has been known (``orphan_seconds``).

    Only machines tagged with this deployment are judged. One is ended when it was unknown on an earlier
    sweep at least five minutes ago, still is, and is not tagged ``protected``; never more than max(3, 5 %)
    at once. A table that was restored or replaced judges nothing until a rebuild (``mode``): then only those
    end that must by their own tag.
    """
    if mode == "rebuild":
        return adopt_place(world, cloud, region)
    place = Place(cloud, region)
    provider = world.compute[cloud]
    machines = 0
    unknown: list[Machine] = []
    for machine in provider.list_tagged(place, world.deployment):
        machines += 1  # counted, not kept: there may be thousands
        if not _known(world, machine):
            unknown.append(machine)
    limit = max(3, machines // 20)
    untrusted = bool(unknown) and bool(disarmed(world))
    marked, oldest = 0, 0.0
    ending: list[Machine] = []
    for machine in unknown:
        if machine.tags.get("protected", "").lower() in ("true", "1", "yes"):
            continue
        if _overdue(world, machine):
            ending.append(machine)
        elif not untrusted:
            known_for = _known_for(world, place, machine)
            oldest = max(oldest, known_for)
            if known_for >= _MARK_SECONDS:
                ending.append(machine)
            else:
                marked += 1
    ending = ending[:limit]
    if ending:
        provider.terminate(place, [machine.id for machine in ending])
        detail = {"place": f"{cloud}/{region}", "machines": [machine.id for machine in ending]}
        world.events.publish(Event("OrphansEnded", SYSTEM, cloud, world.clock.now(), detail))
    return {"marked": marked, "ended": len(ending), "machines": machines} | (
        {"orphan_seconds": oldest} if oldest else {}
    )


def _overdue(world: World, machine: Machine) -> bool:
    """Whether the machine outlived what its launch allowed it: its tag says so, whatever the table knows."""
    ends_at = delete_at(machine)
    return ends_at is not None and ends_at + _MARK_SECONDS < world.clock.now()


def _known(world: World, machine: Machine) -> bool:
    """The table has an open intent with the token in the machine's tags, of a cluster that has not ended."""
    workspace, cluster_id = machine.tags.get("stix-workspace"), machine.tags.get("stix-cluster")
    attempt = machine.tags.get("stix-attempt", "")
    if not workspace or not cluster_id or not attempt.isdigit():
        return False
    item, owner = world.store.get_many(
        [intent_key(workspace, cluster_id, int(attempt)), cluster_key(workspace, cluster_id)]
    )
    if item is None or owner is None or load(Cluster, owner).ended:
        return False
    intent = load(Intent, item)
    open_intent = intent.status not in (IntentStatus.REFUSED, IntentStatus.ENDED)
    return open_intent and intent.token == machine.tags.get("stix-intent")


def _known_for(world: World, place: Place, machine: Machine) -> float:
    """Seconds since the machine was marked; marks it where nobody did."""
    key = Key(SYSTEM, "orphan", f"{place.cloud}.{place.region}", machine.id)
    now = world.clock.now()
    item = world.store.get(key)
    if item is not None:
        return now - float(item.body["marked_at"])
    with suppress(VersionConflictError):  # somebody else did, just now
        world.store.put(Item(key, {"marked_at": now}, created_at=now, expires_at=now + _KEEP_MARK_SECONDS))
    return 0.0
