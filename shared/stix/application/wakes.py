"""Waking the agents of a cluster."""

from __future__ import annotations

from stix.application.world import World
from stix.model.cluster import Cluster

__all__ = ["node_topic", "wake_nodes"]


def node_topic(cluster_id: str, rank: int) -> str:
    """What an agent's held request for commands waits on."""
    return f"node/{cluster_id}/{rank}"


def wake_nodes(world: World, cluster: Cluster, *, all_ranks: bool = False) -> None:
    """Tell the head (or every agent) to ask for commands now."""
    for rank in range(cluster.num_nodes if all_ranks else 1):
        world.wake.wake(node_topic(cluster.id, rank))
