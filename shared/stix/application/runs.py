"""Starting a state machine run for a cluster; its name carries the version, so that one version runs once."""

from __future__ import annotations

from stix.application.world import World
from stix.model.cluster import Cluster

__all__ = ["start_run"]


def start_run(world: World, machine: str, cluster: Cluster) -> bool:
    """Start ``launch`` or ``terminate`` for the version of the cluster that was just written."""
    return world.workflows.start(
        machine,
        f"{cluster.id}-{cluster.version}",
        {"cluster": {"workspace": cluster.workspace, "id": cluster.id}, "operation_id": cluster.operation_id},
    )
