"""Opening a tunnel from a person to a node's SSH server, where nothing can be reached from outside."""

from __future__ import annotations

from typing import Any

from stix.application.records import load, node_key
from stix.application.ssh_access import change_access, up_cluster
from stix.application.tokens import UserPrincipal
from stix.application.tunnel_relay import tunnel_key
from stix.application.world import World
from stix.model.cluster import Node
from stix.model.errors import ConflictError, InvalidInputError
from stix.model.status import NodeStatus
from stix.ports.state_store import Item

__all__ = ["CONNECT_SECONDS", "open_tunnel"]

CONNECT_SECONDS = 60.0
"""Within which both ends must come."""

_PATH = "/socket"


def open_tunnel(world: World, who: UserPrincipal, name: str, rank: int) -> dict[str, Any]:
    """The body of ``Tunnel``: where ``who`` connects; the node's agent is told to do so too.

    Raises ``NotFoundError``, ``ConflictError``, and ``InvalidInputError`` for a rank that there is not.
    """
    cluster = up_cluster(world, who, name)
    item = world.store.get(node_key(cluster.workspace, cluster.id, rank))
    if item is None:
        raise InvalidInputError(
            f"rank: cluster {name!r} has no node {rank}.",
            hint=f"Its nodes are 0 to {cluster.num_nodes - 1}.",
            details={"field": "rank"},
        )
    node = load(Node, item)
    if node.status is not NodeStatus.UP:
        raise ConflictError(
            f"Node {rank} of cluster {name!r} is {node.status}.",
            hint=f"`stix status -v {name}` says more.",
            code="cluster_not_up",
        )
    now = world.clock.now()
    tunnel_id = world.ids.new("tunnel")
    url = f"{world.wake_url or _PATH}?tunnel={tunnel_id}"
    body = {"cluster_id": cluster.id, "rank": rank, "user": who.user, "connections": {}}
    key = tunnel_key(cluster.workspace, tunnel_id)
    world.store.put(Item(key, body, created_at=now, expires_at=now + CONNECT_SECONDS))
    entry = {"id": tunnel_id, "rank": rank, "url": url, "until": now + CONNECT_SECONDS}

    def add(access: dict[str, Any]) -> dict[str, Any]:
        waiting = [one for one in access["tunnels"] if float(one["until"]) > now]
        return access | {"tunnels": [*waiting, entry]}

    change_access(world, cluster, add, (rank,))
    return {"id": tunnel_id, "url": url}
