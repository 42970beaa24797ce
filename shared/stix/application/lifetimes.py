"""The limits of a cluster's life: when it ends by them."""

from __future__ import annotations

from stix.application.ledger import cluster_cost, running_rate
from stix.application.world import World
from stix.lifecycle.lifetimes import Ending, ending_of
from stix.model.cluster import Cluster

__all__ = ["cluster_ending"]


def cluster_ending(world: World, cluster: Cluster) -> Ending | None:
    """When and why the cluster ends by its limits; reads the ledger only where a cost is limited."""
    if cluster.lifetime is None:
        return None
    spent = 0.0 if cluster.lifetime.max_cost is None else cluster_cost(world, cluster)
    return ending_of(cluster, spent=spent, rate=running_rate(cluster), now=world.clock.now())
