"""Machines that are gone, or silent, though nobody asked for it."""

from __future__ import annotations

from typing import Any

from stix.application.attempts import is_launching, refuse_attempt
from stix.application.end_machines import end_intent, end_replaced, open_intents, own_machines
from stix.application.jobs import end_job
from stix.application.join_nodes import fail_waiting
from stix.application.ledger import settle_seen
from stix.application.nudge_job import nudge
from stix.application.offering_health import record_failure
from stix.application.operations import find_operation, finish
from stix.application.race import drop_lost_rivals, end_rivals
from stix.application.records import (
    child_records,
    cluster_key,
    get_cluster,
    heartbeat_key,
    node_key,
    unfinished,
    update,
)
from stix.application.world import World
from stix.model.cluster import Cluster, Node
from stix.model.errors import StixError, UnavailableError
from stix.model.job import Job
from stix.model.status import ClusterStatus, JobStatus, NodeStatus, OperationStatus, Wanted
from stix.ports.compute import Machine, MachineState

__all__ = ["NodeLostError", "all_running", "look", "look_at_boot", "record_health", "replace_lost"]

_GONE = (MachineState.TERMINATING, MachineState.TERMINATED)


def all_running(world: World, cluster: Cluster) -> bool:
    """Whether every machine of the cluster runs or boots, so that its nodes can be expected to join."""
    machines = own_machines(world, cluster)
    return bool(machines) and all(m.state in (MachineState.PENDING, MachineState.RUNNING) for m in machines)


def replace_lost(world: World, cluster: Cluster) -> None:
    """Somebody waits for a cluster that lost machines before it was up.

    Where all are gone the next offer is tried, by the sweep. Where some live on, with disks that may matter,
    the operation fails and a person decides. Raises ``NotYetTerminatedError`` while machines are going.
    """
    operation = find_operation(world, cluster.workspace, cluster.operation_id)
    if operation is None or operation.status.terminal:
        return
    machines = own_machines(world, cluster)
    gone = [machine for machine in machines if machine.state in _GONE]
    if machines and not gone:
        return
    why = f"{gone[0].id} is {gone[0].state} {gone[0].reason}".rstrip() if gone else "its machines are gone"
    if len(gone) < len(machines):
        error = UnavailableError(
            f"Cluster {cluster.name} lost {len(gone)} of {len(machines)} machines: {why}.",
            hint=f"End it with `stix down {cluster.name}`, then launch it again.",
            code="node_lost",
        )
        finish(world, cluster.workspace, operation.id, OperationStatus.FAILED, error)
        nudge(world, cluster.workspace, cluster.owner)
        return
    for intent in open_intents(world, cluster):
        end_intent(world, intent, why)
        record_failure(world, intent.offer, intent.token, "boot_failed", why)
    refuse_attempt(world, cluster, "lost", why, f"Gave this attempt up: {why}")
    soon = world.clock.now() + 1
    key = cluster_key(cluster.workspace, cluster.id)
    update(world, Cluster, key, lambda current: None if current.ended else current.changed(due_at=soon))


class NodeLostError(StixError):
    """A machine that was accepted will never boot. State machines know it by this name."""


def look_at_boot(world: World, cluster: Cluster) -> None:
    """Machines that were accepted boot: where the provider says that one never will, the run that waits for
    its node hears of it now, undoes the attempt and tries the next offer."""
    if cluster.dropping:
        end_replaced(world, cluster)
    if cluster.racing:
        (end_rivals if cluster.raced else drop_lost_rivals)(world, cluster)
    why = _will_not_boot(world, cluster)
    if why:
        fail_waiting(world, cluster, why)


def look(world: World, workspace: str, cluster_id: str) -> dict[str, Any]:
    """Soon after a cloud that refuses late has accepted. Raises ``NodeLostError`` where it has refused."""
    cluster = get_cluster(world, workspace, cluster_id)
    if not is_launching(cluster):
        return {"outcome": "MOVED"}
    why = _will_not_boot(world, cluster)
    if why:
        raise NodeLostError(why)
    return {"outcome": "BOOTS"}


def _will_not_boot(world: World, cluster: Cluster) -> str:
    gone = [machine for machine in own_machines(world, cluster) if machine.state in _GONE]
    return f"{gone[0].id} is {gone[0].state}. {gone[0].reason}".rstrip() if gone else ""


def record_health(world: World, cluster: Cluster, machines: list[Machine]) -> None:
    """A cluster that was UP and whose nodes fell silent: the provider's word decides. ``machines``: all that
    its creations made."""
    now = world.clock.now()
    intents = open_intents(world, cluster)
    dropped = {machine_id for intent in intents for machine_id in intent.dropped}
    own = [machine for machine in machines if machine.id not in dropped]
    lost = [machine for machine in own if machine.state not in (MachineState.PENDING, MachineState.RUNNING)]
    if not lost:
        _mark_silent(world, cluster)
        return
    for intent in intents:
        of_it = [machine for machine in machines if machine.id in (*intent.machine_ids, *intent.dropped)]
        settle_seen(world, intent, of_it, "its provider ended it")
    all_stopped = len(lost) == len(own) and all(m.state is MachineState.STOPPED for m in lost)
    why = lost[0].reason or f"{lost[0].id} is {lost[0].state}"
    for job in unfinished(child_records(world, Job, cluster.workspace, cluster.id)):
        end_job(world, job, JobStatus.FAILED_DRIVER, f"a node was lost: {why}")

    def change(current: Cluster) -> Cluster | None:
        if current.wanted is not Wanted.UP or current.status is not ClusterStatus.UP:
            return None
        if all_stopped:
            return current.changed(
                status=ClusterStatus.STOPPED, wanted=Wanted.STOPPED, reason=why, since=now, due_at=now + 3600
            )
        reason = f"a node was lost: {why}"
        return current.changed(status=ClusterStatus.INIT, reason=reason, since=now, due_at=now + 300)

    update(world, Cluster, cluster_key(cluster.workspace, cluster.id), change)
    nudge(world, cluster.workspace, cluster.owner)


def _mark_silent(world: World, cluster: Cluster) -> None:
    """The provider says running, the agent says nothing: UNREACHABLE, with a moment to look again."""
    now = world.clock.now()
    horizon = now - world.limits.lost_seconds
    silent = []
    for node in child_records(world, Node, cluster.workspace, cluster.id):
        beat = world.store.get(heartbeat_key(node.workspace, node.cluster_id, node.rank))
        seen = float(beat.body["last_seen"]) if beat is not None else 0.0
        if seen < horizon:
            silent.append(str(node.rank))
            if node.status is NodeStatus.UP:
                update(
                    world,
                    Node,
                    node_key(node.workspace, node.cluster_id, node.rank),
                    lambda n: n.changed(status=NodeStatus.UNREACHABLE, reason="no report", since=now),
                )
    reason = f"node {', '.join(silent)} does not report; its provider says that it runs" if silent else ""
    update(
        world,
        Cluster,
        cluster_key(cluster.workspace, cluster.id),
        lambda c: c.changed(reason=reason, due_at=now + world.limits.lost_seconds),
    )
