"""Starting a state machine run for a cluster; its name carries the version, so that one version runs once."""

from __future__ import annotations

from stix.application.world import World
from stix.model.cluster import Cluster

__all__ = ["RUN_BEGINS_SECONDS", "start_run"]

RUN_BEGINS_SECONDS = 60.0
"""A run whose first step was not seen within it is started again: whoever accepted the request may have died
between its write and the start. The first step takes the longer lease."""


def start_run(world: World, machine: str, cluster: Cluster) -> bool:
    """Start ``launch`` or ``terminate`` for the version of the cluster that was just written."""
    return world.workflows.start(
        machine,
        f"{cluster.id}-{cluster.version}",
        {"cluster": {"workspace": cluster.workspace, "id": cluster.id}, "operation_id": cluster.operation_id},
    )
