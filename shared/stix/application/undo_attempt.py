"""A launch attempt that failed after its machines were accepted; and a launch that found no place."""

from __future__ import annotations

from typing import Any

from stix.application.create_machines import refuse_attempt
from stix.application.end_machines import end_intent
from stix.application.operations import finish, note
from stix.application.records import (
    child_records,
    cluster_key,
    get_cluster,
    intent_key,
    load,
    node_key,
    update,
)
from stix.application.settle_cluster import close
from stix.application.world import World
from stix.model.cluster import Cluster, Intent, Node
from stix.model.errors import NoCapacityError, StixError
from stix.model.status import ClusterStatus, IntentStatus, NodeStatus, OperationStatus, Wanted

__all__ = ["give_up", "undo"]


def undo(
    world: World, workspace: str, cluster_id: str, failure: dict[str, Any], *, attempt: int
) -> dict[str, Any]:
    """End the machines of the attempt, move on to the next offer; an attempt that is over stays as it is.

    Raises ``NotYetTerminatedError``.
    """
    cluster = get_cluster(world, workspace, cluster_id)
    item = world.store.get(intent_key(workspace, cluster_id, attempt))
    launching = cluster.wanted is Wanted.UP and cluster.status is ClusterStatus.INIT
    if not launching or cluster.attempt != attempt or item is None:
        return {"outcome": "MOVED"}
    intent = load(Intent, item)
    reason = _reason(world, cluster, failure)
    if intent.status is not IntentStatus.ENDED:
        end_intent(world, intent, reason)
    for node in child_records(world, Node, workspace, cluster_id):
        if node.attempt == cluster.attempt:
            world.store.delete(node_key(workspace, cluster_id, node.rank))
    note(world, workspace, cluster.operation_id, f"Gave this attempt up: {reason}")
    refuse_attempt(world, cluster, "boot_failed", reason)
    return {"outcome": "UNDONE"}


def _reason(world: World, cluster: Cluster, failure: dict[str, Any]) -> str:
    nodes = child_records(world, Node, cluster.workspace, cluster.id)
    absent = [str(node.rank) for node in nodes if node.status is not NodeStatus.UP]
    who = f"node {', '.join(absent)}" if absent else "a node"
    if "Timeout" in str(failure.get("Error", "")):
        return f"{who} did not join within {world.limits.boot_seconds} s."
    return f"{who} was lost while booting: {failure.get('Cause', 'no cause given')}"


def give_up(world: World, workspace: str, cluster_id: str) -> dict[str, Any]:
    """No offer is left: the operation fails with what was tried, the cluster ends. Idempotent."""
    cluster = get_cluster(world, workspace, cluster_id)
    if cluster.ended or cluster.wanted is not Wanted.UP or cluster.status is not ClusterStatus.INIT:
        return {"outcome": "MOVED"}
    error = _verdict(cluster)
    note(world, workspace, cluster.operation_id, "No offer is left.")
    finish(world, workspace, cluster.operation_id, OperationStatus.FAILED, error)
    gone = update(
        world,
        Cluster,
        cluster_key(workspace, cluster_id),
        lambda c: c.changed(wanted=Wanted.ABSENT, reason=error.message),
    )
    if gone is not None:
        close(world, gone, reason=error.message)
    return {"outcome": "GAVE_UP"}


def _verdict(cluster: Cluster) -> StixError:
    if not cluster.attempts:
        return NoCapacityError(f"Cluster {cluster.name} found no place: {cluster.reason}", code="no_offer")
    tried = "; ".join(f"{one.place} {one.instance_type}: {one.reason}" for one in cluster.attempts[-5:])
    count = len(cluster.attempts)
    return NoCapacityError(
        f"Cluster {cluster.name} could not be started: {count} attempt{'s' * (count != 1)} failed. {tried}",
        hint="Try again later, or ask for less.",
        code="launch_failed",
    )
