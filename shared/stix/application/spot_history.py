"""The memory of where and when spot machines could be had, told by managed jobs that were there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from stix.application.places import SYSTEM
from stix.application.records import cluster_key, load
from stix.application.world import World
from stix.model.cluster import Cluster
from stix.model.errors import NoCapacityError
from stix.model.managed_job import JobTask
from stix.model.offer import Offer
from stix.ports.state_store import Item, Key, Put, VersionConflictError
from stix.recovery.spot_history import SpotHistory, after_look

__all__ = ["histories", "remember_end"]

_KIND = "spot_history"
_KEEP_SECONDS = 60 * 86400.0
_TRIES = 4
_READ_AT_ONCE = 96
"""Keys of one read; a store takes a hundred."""


def histories(world: World, offers: Iterable[Offer]) -> list[SpotHistory]:
    """Of the places and types of the offers, those of which anything is known."""
    keys = list(dict.fromkeys(_key(one.place, one.instance_type) for one in offers))
    items: list[Item | None] = []
    for start in range(0, len(keys), _READ_AT_ONCE):
        items += world.store.get_many(keys[start : start + _READ_AT_ONCE])
    return [_history(item) for item in items if item is not None]


def remember_end(world: World, workspace: str, task: JobTask, *, lost: bool) -> None:
    """A job gives up the cluster it holds: what its launch and its machines said of spot in their places.
    Memory is advice: what loses against others too often is left out."""
    item = world.store.get(cluster_key(workspace, task.cluster_id))
    cluster = None if item is None else load(Cluster, item)
    if cluster is None:
        return
    now = world.clock.now()
    for attempt in cluster.attempts:
        if attempt.spot and attempt.outcome == NoCapacityError.default_code:
            _remember(world, _key(attempt.place, attempt.instance_type), [(False, attempt.at, None)])
    offer = cluster.offer
    if offer is None or not offer.spot or not task.settled:
        return
    looks: list[tuple[bool, float, float | None]] = [(True, now, task.held_since)]
    if lost:
        looks.append((False, now, None))
    _remember(world, _key(offer.place, offer.instance_type), looks)


def _remember(world: World, key: Key, looks: Sequence[tuple[bool, float, float | None]]) -> None:
    for _ in range(_TRIES):
        item = world.store.get(key)
        before = history = SpotHistory() if item is None else _history(item)
        for up, at, since in looks:
            history = after_look(history, up, at, since)
        if history == before:
            return
        body = {"changes": [list(change) for change in history.changes], "seen_at": history.seen_at}
        version = 0 if item is None else item.version
        kept = Item(key, body, version=version, expires_at=world.clock.now() + _KEEP_SECONDS)
        try:
            world.store.transact([Put(kept)])
        except VersionConflictError:
            continue
        return


def _key(place: str, instance_type: str) -> Key:
    return Key(SYSTEM, _KIND, place.replace("/", "."), instance_type)


def _history(item: Item) -> SpotHistory:
    changes = tuple((float(at), int(state)) for at, state in item.body["changes"])
    return SpotHistory(changes, float(item.body["seen_at"]))
