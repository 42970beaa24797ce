"""How a gateway on a machine of its own reaches each replica: directly, or through a tunnel from there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stix.application.gateway_nodes import gateway_clusters
from stix.application.nudge_service import service_name
from stix.application.records import child_records, load, node_key, service_key
from stix.application.service_ports import FIRST_PORT
from stix.application.service_view import live_services, read_tls, service_view
from stix.application.world import World
from stix.model.cluster import Cluster, Node
from stix.model.offer import Offer
from stix.model.service_state import Replica, Service
from stix.model.status import ClusterStatus

__all__ = ["DOOR_PORT", "digest_of", "routed_view", "told_tunnels"]

DOOR_PORT = FIRST_PORT - 1
"""Where a gateway's agent takes tunnels (``stix.agent.gateway_door``)."""
_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class _Way:
    """``host`` and ``port`` as the gateway sees them; ``key``: of the tunnel that ends there, if one does."""

    host: str
    port: int
    key: str | None = None


def routed_view(world: World, gateway: Cluster) -> dict[str, Any]:
    """The services and, as ``tunnels``, what the gateway's door admits."""
    entries, tunnels = [], []
    for service in sorted(live_services(world, gateway.workspace), key=lambda one: one.name):
        replicas = child_records(world, Replica, gateway.workspace, service.uid)
        entry = service_view(service, replicas, read_tls(world, service))
        shown = {str(one["id"]) for one in entry["replicas"]}
        ways = _ways(world, gateway, [one for one in replicas if str(one.id) in shown])
        for one in entry["replicas"]:
            way = ways[one["id"]]
            one |= {"address": way.host, "port": way.port}
            if way.key is not None:
                tunnels.append({"listen": f"{way.host}:{way.port}", "key": way.key})
        entries.append(entry)
    return {"services": entries, "tunnels": tunnels} if tunnels else {"services": entries}


def told_tunnels(world: World, cluster: Cluster, node: Node) -> list[dict[str, Any]]:
    """For the head of a replica: the gateways to which its agent opens tunnels, and what it opens there."""
    name = service_name(cluster.owner)
    if name is None or not world.gateways.nodes or cluster.offer is None:
        return []
    gateways = [one for one in gateway_clusters(world, cluster.workspace) if one.status is ClusterStatus.UP]
    apart = [one for one in gateways if _direct(world, one.offer, cluster.offer, node) is None]
    port = _port(world, cluster, name) if apart else 0
    if not port:
        return []
    listen = _listen(cluster.id)
    found = []
    for gateway, item in zip(apart, _nodes(world, apart), strict=True):
        door = {} if item is None else item.facts.get("door") or {}
        entry = {
            "id": gateway.id,
            "listen": f"{listen.host}:{listen.port}",
            "target": f"{node.address or '127.0.0.1'}:{port}",
        }
        if item is not None and door.get("port"):
            entry |= {"host": item.public_address or item.address, **door}
        found.append(entry)
    return found


def digest_of(value: Any) -> str:
    """Names what an agent was told, so that it is told again only when that has changed."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _ways(world: World, gateway: Cluster, replicas: Sequence[Replica]) -> dict[str, _Way]:
    found = {}
    near = [one for one in replicas if _near(world, gateway.offer, one.offer)]
    for one in near:
        found[str(one.id)] = _Way(one.address, one.port)
    far = [one for one in replicas if str(one.id) not in found]
    keys = [node_key(one.workspace, one.cluster_id, 0) for one in far]
    pages = [keys[at : at + _AT_ONCE] for at in range(0, len(keys), _AT_ONCE)]
    items = [item for page in pages for item in world.store.get_many(page)]
    for one, item in zip(far, items, strict=True):
        node = None if item is None else load(Node, item)
        direct = None if node is None else _direct(world, gateway.offer, one.offer, node)
        if direct is not None:
            found[str(one.id)] = _Way(direct, one.port)
            continue
        listen = _listen(one.cluster_id)
        key = "" if node is None else str((node.facts.get("tunnel") or {}).get("key") or "")
        found[str(one.id)] = _Way(listen.host, listen.port, key)
    return found


def _near(world: World, gateway: Offer | None, replica: Offer) -> bool:
    """Whether both are in one network, by their private addresses."""
    if gateway is None or (gateway.cloud, gateway.region) != (replica.cloud, replica.region):
        return False
    facts = world.clouds.get(replica.cloud)
    return facts is not None and facts.connects_clusters


def _direct(world: World, gateway: Offer | None, replica: Offer, node: Node) -> str | None:
    """The address under which a gateway reaches the replica; None where there is none."""
    if _near(world, gateway, replica):
        return node.address or node.public_address
    facts = world.clouds.get(replica.cloud)
    return node.public_address or None if facts is not None and facts.opens_ports else None


def _listen(cluster_id: str) -> _Way:
    """A loopback address and port of a replica's own: of so many that nobody need assign them."""
    mark = hashlib.sha256(cluster_id.encode()).digest()
    host = f"127.{64 + mark[0] % 128}.{mark[1]}.{1 + mark[2] % 254}"
    return _Way(host, 20_000 + int.from_bytes(mark[3:5]) % 10_000)


def _port(world: World, cluster: Cluster, name: str) -> int:
    """Where the cluster's replica listens; 0 while it is not known."""
    item = world.store.get(service_key(cluster.workspace, name))
    if item is None:
        return 0
    replicas = child_records(world, Replica, cluster.workspace, load(Service, item).uid)
    return next((one.port for one in replicas if one.cluster_id == cluster.id), 0)


def _nodes(world: World, clusters: Sequence[Cluster]) -> list[Node | None]:
    items = world.store.get_many([node_key(one.workspace, one.id, 0) for one in clusters])
    return [None if item is None else load(Node, item) for item in items]
