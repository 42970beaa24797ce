"""What the gateways of a workspace are to know, and who is told that it changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stix.application.gateway_nodes import gateway_clusters
from stix.application.gateway_reports import take_gateway_status
from stix.application.gateway_routes import digest_of, routed_view, told_tunnels
from stix.application.records import child_records, get_cluster, load, node_key
from stix.application.service_view import live_services, services_view, view_topic
from stix.application.tokens import NodePrincipal
from stix.application.wakes import node_topic, wake_nodes
from stix.application.world import World
from stix.model.cluster import Cluster, Node
from stix.model.errors import ForbiddenError
from stix.model.gateway_fleet import GATEWAYS_OWNER
from stix.model.service_state import Replica

__all__ = [
    "facts_changed",
    "report_gateway",
    "told_routes",
    "told_view",
    "wake_gateways",
    "workspace_view",
]


def workspace_view(world: World, workspace: str) -> dict[str, Any]:
    """The whole view (docs/gateway.md). ``version`` is the moment, in milliseconds."""
    return {"version": int(world.clock.now() * 1000), "services": services_view(world, workspace)}


def told_view(world: World, cluster: Cluster, known: str) -> tuple[str, dict[str, Any] | None]:
    """For the agent of a gateway: what names the view, and the view where ``known`` names another one."""
    view = routed_view(world, cluster)
    digest = digest_of(view)
    return digest, None if digest == known else {"version": int(world.clock.now() * 1000), **view}


def told_routes(
    world: World, cluster: Cluster, rank: int, known: str
) -> tuple[str, list[dict[str, Any]] | None]:
    """For the agent of a replica: what names its tunnels (empty: it never had any), and these where ``known``
    names others."""
    item = world.store.get(node_key(cluster.workspace, cluster.id, rank))
    tunnels = [] if item is None else told_tunnels(world, cluster, load(Node, item))
    if not tunnels and not known:
        return "", None
    digest = digest_of(tunnels)
    return digest, None if digest == known else tunnels


def facts_changed(world: World, node: Node, before: Node) -> None:
    """Both ends of tunnels hear of each other's keys at once."""
    if node.facts.get("tunnel") != before.facts.get("tunnel"):
        wake_gateways(world, node.workspace)
    if node.facts.get("door") != before.facts.get("door"):
        for service in live_services(world, node.workspace):
            for replica in child_records(world, Replica, node.workspace, service.uid):
                if replica.ended_at is None:
                    world.wake.wake(node_topic(replica.cluster_id, 0))


def wake_gateways(world: World, workspace: str) -> None:
    """After a write that changes what gateways see: a service, a replica's state or address."""
    world.wake.wake(view_topic(workspace))
    if world.gateways.nodes:
        for cluster in gateway_clusters(world, workspace):
            wake_nodes(world, cluster)


def report_gateway(world: World, who: NodePrincipal, status: Mapping[str, Any]) -> dict[str, Any]:
    """A gateway's agent tells its status. Raises ``ForbiddenError`` for a node that is none."""
    cluster = get_cluster(world, who.workspace, who.cluster_id)
    if cluster.owner != GATEWAYS_OWNER:
        raise ForbiddenError("This node is no gateway.")
    take_gateway_status(world, who.workspace, cluster.id, status)
    return {}
