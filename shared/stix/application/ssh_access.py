"""Who may log in on a cluster's machines, and where their SSH servers are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from stix.application.records import child_records
from stix.application.submit import existing_cluster
from stix.application.tokens import UserPrincipal
from stix.application.wakes import node_topic
from stix.application.world import World
from stix.model.cluster import Cluster, Node
from stix.model.errors import ConflictError, InvalidInputError
from stix.model.status import ClusterStatus, NodeStatus
from stix.ports.state_store import Item, Key, VersionConflictError

__all__ = ["access_key", "change_access", "give_access", "told_access", "up_cluster"]

_TRIES = 12
_MOST_KEYS = 100
_UP = (ClusterStatus.UP, ClusterStatus.AUTOSTOPPING)


def access_key(workspace: str, cluster_id: str) -> Key:
    """The item that a cluster's agents are told of: ``keys`` (public key to user), counted by
    ``keys_version``, and ``tunnels`` that wait for their node."""
    return Key.top(workspace, "access", cluster_id)


def up_cluster(world: World, who: UserPrincipal, name: str) -> Cluster:
    """Raises ``NotFoundError``, and ``ConflictError`` where there are no machines to log in on."""
    cluster = existing_cluster(world, who.workspace, name)
    if cluster.status not in _UP:
        hint = (
            f"Start it with `stix start {name}`."
            if cluster.status is ClusterStatus.STOPPED
            else f"`stix status {name}` shows how it is doing."
        )
        raise ConflictError(f"Cluster {name!r} is {cluster.status}.", hint=hint, code="cluster_not_up")
    return cluster


def change_access(
    world: World,
    cluster: Cluster,
    change: Callable[[dict[str, Any]], dict[str, Any] | None],
    ranks: Iterable[int],
) -> Item:
    """Change the item and wake the agents of ``ranks``; ``change`` answers None to leave it alone.

    The item as it stands afterwards. Raises ``ConflictError``.
    """
    key = access_key(cluster.workspace, cluster.id)
    for _ in range(_TRIES):
        item = world.store.get(key) or Item(key, {"keys": {}, "keys_version": 0, "tunnels": []})
        body = change(dict(item.body))
        if body is None:
            return item
        try:
            stored = world.store.put(item.changed(body=body))
        except VersionConflictError:
            continue
        for rank in ranks:
            world.wake.wake(node_topic(cluster.id, rank))
        return stored
    raise ConflictError(f"{key} is being changed by others too often.", hint="Try again.", code="busy")


def give_access(world: World, who: UserPrincipal, name: str, public_key: str) -> dict[str, Any]:
    """The body of ``SshAccess``; the agents are told the key where it is new. Idempotent."""
    cluster = up_cluster(world, who, name)

    def add(body: dict[str, Any]) -> dict[str, Any] | None:
        if body["keys"].get(public_key) == who.user:
            return None
        if len(body["keys"]) >= _MOST_KEYS:
            raise InvalidInputError(
                f"public_key: cluster {name!r} has {_MOST_KEYS} keys already.",
                hint="A key is forgotten with its cluster.",
                details={"field": "public_key"},
            )
        keys = body["keys"] | {public_key: who.user}
        return body | {"keys": keys, "keys_version": body["keys_version"] + 1}

    version = int(change_access(world, cluster, add, range(cluster.num_nodes)).body["keys_version"])
    offer = cluster.offer
    return {
        "cluster": cluster.name,
        "cluster_id": cluster.id,
        "cloud": "" if offer is None else offer.cloud,
        "region": "" if offer is None else offer.region,
        "nodes": [_node(node, version) for node in child_records(world, Node, cluster.workspace, cluster.id)],
    }


def _node(node: Node, version: int) -> dict[str, Any]:
    ssh: Mapping[str, Any] = node.facts.get("ssh") or {}
    return {
        "rank": node.rank,
        "up": node.status is NodeStatus.UP,
        "ready": int(ssh.get("version") or 0) >= version,
        "problem": str(ssh.get("problem") or ""),
        "user": str(ssh.get("user") or ""),
        "port": int(ssh.get("port") or 0),
        "host_keys": [str(key) for key in ssh.get("host_keys") or ()],
        "session_manager": bool(ssh.get("session_manager")),
        "machine_id": node.machine_id,
        "address": node.address,
        "public_address": node.public_address,
    }


def told_access(world: World, cluster: Cluster, rank: int, known: int) -> tuple[int, dict[str, Any] | None]:
    """(version, what the agent of ``rank`` is to know; None where it knows it)."""
    item = world.store.get(access_key(cluster.workspace, cluster.id))
    if item is None:
        return 0, None
    if known == item.version:
        return item.version, None
    now = world.clock.now()
    tunnels: Sequence[Mapping[str, Any]] = item.body["tunnels"]
    mine = [
        {"id": one["id"], "url": one["url"]}
        for one in tunnels
        if one["rank"] == rank and float(one["until"]) > now
    ]
    keys = [{"user": user, "key": key} for key, user in sorted(item.body["keys"].items())]
    return item.version, {"keys": keys, "keys_version": item.body["keys_version"], "tunnels": mine}
