"""The limits of a cluster's life: when it ends by them, and the tag that says so to the provider."""

from __future__ import annotations

from stix.application.ledger import cluster_cost, running_rate
from stix.application.world import World
from stix.lifecycle.lifetimes import Ending, ending_of
from stix.model.cluster import Cluster

__all__ = ["DELETE_AT_TAG", "cluster_ending", "lifetime_tags"]

DELETE_AT_TAG = "stix-delete-at"
"""Epoch seconds at which a machine must be gone, whoever is still there to end it."""


def cluster_ending(world: World, cluster: Cluster) -> Ending | None:
    """When and why the cluster ends by its limits; reads the ledger only where a cost is limited."""
    if cluster.lifetime is None:
        return None
    spent = 0.0 if cluster.lifetime.max_cost is None else cluster_cost(world, cluster)
    return ending_of(cluster, spent=spent, rate=running_rate(cluster), now=world.clock.now())


def lifetime_tags(cluster: Cluster) -> dict[str, str]:
    """The tag of a machine whose age is limited. A cost's moment moves with stops, so the table alone has
    it."""
    if cluster.lifetime is None or cluster.lifetime.max_lifetime is None:
        return {}
    return {DELETE_AT_TAG: str(int(cluster.created_at + cluster.lifetime.max_lifetime))}
