"""Where people reach the machines of a cluster: their public addresses, as the provider says."""

from __future__ import annotations

import logging
from functools import partial

from stix.application.end_machines import own_machines
from stix.application.records import child_records, node_key, update
from stix.application.world import World
from stix.model.cluster import Cluster, Node
from stix.model.errors import StixError

__all__ = ["record_addresses"]

logger = logging.getLogger(__name__)


def record_addresses(world: World, cluster: Cluster) -> None:
    """Ask the provider once and write down what is new: a start after a stop gives other addresses.

    A provider that cannot be asked now keeps nobody waiting: the cluster is up without.
    """
    try:
        machines = own_machines(world, cluster)
    except StixError as error:
        logger.warning("no addresses", extra={"cluster": cluster.id, "reason": error.message})
        return
    public = {machine.id: machine.public_address for machine in machines}
    for node in child_records(world, Node, cluster.workspace, cluster.id):
        address = public.get(node.machine_id, node.public_address)
        if address != node.public_address:
            key = node_key(node.workspace, node.cluster_id, node.rank)
            update(world, Node, key, partial(_move, machine_id=node.machine_id, address=address))


def _move(node: Node, *, machine_id: str, address: str) -> Node | None:
    return node.changed(public_address=address) if node.machine_id == machine_id else None
