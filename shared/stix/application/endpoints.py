"""Where the ports of a cluster are that its task opened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stix.application.end_machines import open_intents
from stix.application.records import load, node_key
from stix.application.ssh_access import up_cluster
from stix.application.tokens import UserPrincipal
from stix.application.world import World
from stix.model.cluster import Node

__all__ = ["endpoints"]

_MOST = 1000
"""A range may be all ports; nobody reads more of them."""


def endpoints(world: World, who: UserPrincipal, name: str) -> dict[str, Any]:
    """The body of ``Endpoints``, of the head node. Raises ``NotFoundError``, and ``ConflictError`` for a
    cluster that is not up."""
    cluster = up_cluster(world, who, name)
    if not cluster.ports:
        return {"endpoints": [], "reason": "its task opened none: name them under resources.ports"}
    facts = None if cluster.offer is None else world.clouds.get(cluster.offer.cloud)
    for intent in open_intents(world, cluster):
        command = "" if facts is None else facts.find_ports(intent.token)
        if command:
            return {"endpoints": [], "reason": f"they are at an address that `{command}` shows"}
    item = world.store.get(node_key(cluster.workspace, cluster.id, 0))
    node = None if item is None else load(Node, item)
    host = "" if node is None else node.public_address or node.address
    if not host:
        return {"endpoints": [], "reason": "its head node has no address"}
    shown = f"[{host}]" if ":" in host else host
    found = [
        {"port": port, "host": host, "url": f"http://{shown}:{port}"} for port in _numbers(cluster.ports)
    ]
    return {"endpoints": found[:_MOST], "reason": ""}


def _numbers(ports: tuple[str, ...]) -> Iterator[int]:
    for one in ports:
        first, _, last = one.partition("-")
        yield from range(int(first), int(last or first) + 1)
