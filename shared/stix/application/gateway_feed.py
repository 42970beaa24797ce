"""What the gateways of a workspace are to know, and who is told that it changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from stix.application.gateway_nodes import gateway_clusters
from stix.application.gateway_reports import take_gateway_status
from stix.application.records import get_cluster
from stix.application.service_view import services_view, view_topic
from stix.application.tokens import NodePrincipal
from stix.application.wakes import wake_nodes
from stix.application.world import World
from stix.model.cluster import Cluster
from stix.model.errors import ForbiddenError
from stix.model.gateway_fleet import GATEWAYS_OWNER

__all__ = ["report_gateway", "told_view", "wake_gateways", "workspace_view"]


def workspace_view(world: World, workspace: str) -> dict[str, Any]:
    """The whole view (docs/gateway.md). ``version`` is the moment, in milliseconds."""
    return {"version": int(world.clock.now() * 1000), "services": services_view(world, workspace)}


def told_view(world: World, cluster: Cluster, known: str) -> tuple[str, dict[str, Any] | None]:
    """For the agent of a gateway: what names the view, and the view where ``known`` names another one."""
    view = workspace_view(world, cluster.workspace)
    text = json.dumps(view["services"], sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    return digest, None if digest == known else view


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
