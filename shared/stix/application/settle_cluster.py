"""Bring a cluster's machines to what is wanted of it: gone, stopped, or running."""

from __future__ import annotations

from typing import Any

from stix.application.end_machines import end_intent, machines_of, open_intents, provider_of
from stix.application.jobs import end_job
from stix.application.operations import finish, note
from stix.application.records import (
    child_records,
    cluster_by_name,
    cluster_key,
    get_cluster,
    heartbeat_key,
    name_held_by,
    node_key,
    put,
    unfinished,
    update,
)
from stix.application.world import World
from stix.model.cluster import Cluster, Intent, Node
from stix.model.errors import InvalidRequestError, NotYetTerminatedError
from stix.model.job import Job
from stix.model.status import ClusterStatus, JobStatus, NodeStatus, OperationStatus, Wanted
from stix.ports.compute import Machine, MachineState, StopsMachines
from stix.ports.surroundings import Event

__all__ = ["close", "confirm", "settle"]

_NODE_STATUS = {
    MachineState.STOPPED: NodeStatus.STOPPED,
    MachineState.TERMINATED: NodeStatus.TERMINATED,
    MachineState.TERMINATING: NodeStatus.TERMINATED,
}


def settle(world: World, workspace: str, cluster_id: str) -> dict[str, Any]:
    """Tell the provider what is wanted. Raises ``NotYetTerminatedError`` while machines are going."""
    cluster = get_cluster(world, workspace, cluster_id)
    if cluster.ended:
        return {"outcome": "MOVED"}
    match cluster.wanted:
        case Wanted.ABSENT:
            for intent in open_intents(world, cluster):
                end_intent(world, intent, "taken down")
        case Wanted.STOPPED:
            for intent in open_intents(world, cluster):
                _stop(world, intent)
        case Wanted.UP:
            _revive(world, cluster)
    return {"outcome": "TOLD"}


def confirm(world: World, workspace: str, cluster_id: str) -> dict[str, Any]:
    """See what the provider says and write it down. ``wanted`` is UP where nodes are expected to join.

    Raises ``NotYetTerminatedError`` until the provider agrees.
    """
    cluster = get_cluster(world, workspace, cluster_id)
    if cluster.ended:
        return {"wanted": "NOTHING"}
    match cluster.wanted:
        case Wanted.ABSENT:
            for intent in open_intents(world, cluster):
                end_intent(world, intent, "taken down")
            close(world, cluster, reason="taken down")
            return {"wanted": "ABSENT"}
        case Wanted.STOPPED:
            _confirm_stopped(world, cluster)
            return {"wanted": "STOPPED"}
        case Wanted.UP:
            joins = cluster.status is ClusterStatus.INIT and cluster.offer is not None
            return {"wanted": "UP" if joins and _expecting(world, cluster) else "NOTHING"}


def close(world: World, cluster: Cluster, *, reason: str) -> None:
    """The last step of a cluster whose machines are all gone: jobs, nodes, name, operation. Idempotent."""
    now = world.clock.now()
    for job in unfinished(child_records(world, Job, cluster.workspace, cluster.id)):
        if cluster.offer is None:
            end_job(world, job, JobStatus.FAILED_DRIVER, reason)
        else:
            end_job(world, job, JobStatus.CANCELLED, "the cluster was taken down")
    keep_until = now + world.limits.retention_seconds
    for node in child_records(world, Node, cluster.workspace, cluster.id):
        if node.status is not NodeStatus.TERMINATED:
            ended = node.changed(
                status=NodeStatus.TERMINATED, token_hash="", since=now, due_at=None, expires_at=keep_until
            )
            world.store.transact([put(ended, unconditional=True)])
    finish(world, cluster.workspace, cluster.operation_id, OperationStatus.SUCCEEDED)
    current = get_cluster(world, cluster.workspace, cluster.id)
    if current.ended:
        return
    final = current.changed(
        status=ClusterStatus.TERMINATED, reason=reason, since=now, due_at=None, expires_at=keep_until
    )
    writes = [put(final)]
    holder = cluster_by_name(world, cluster.workspace, cluster.name)
    if holder is not None and holder.id == cluster.id:
        writes.append(name_held_by(world, cluster.workspace, cluster.name, "", expires_at=keep_until))
    world.store.transact(writes)
    world.events.publish(Event("ClusterEnded", cluster.workspace, cluster.id, now, {"name": cluster.name}))


def _stop(world: World, intent: Intent) -> None:
    provider, place = provider_of(world, intent)
    if not isinstance(provider, StopsMachines):
        raise InvalidRequestError(
            f"{intent.offer.cloud} cannot stop machines.", hint="Use `stix down`, or `stix autostop --down`."
        )
    running = [
        m.id for m in machines_of(world, intent) if m.state in (MachineState.PENDING, MachineState.RUNNING)
    ]
    if running:
        provider.stop(place, running)


def _confirm_stopped(world: World, cluster: Cluster) -> None:
    machines = [machine for intent in open_intents(world, cluster) for machine in machines_of(world, intent)]
    left = [m for m in machines if m.state not in (MachineState.STOPPED, MachineState.TERMINATED)]
    if left:
        raise NotYetTerminatedError(f"{left[0].id} is {left[0].state}.")
    _record_machines(world, cluster, machines)
    for job in unfinished(child_records(world, Job, cluster.workspace, cluster.id)):
        if job.status is not JobStatus.INIT:
            end_job(world, job, JobStatus.CANCELLED, "the cluster was stopped")
    now = world.clock.now()

    def change(current: Cluster) -> Cluster | None:
        if current.wanted is not Wanted.STOPPED:
            return None
        return current.changed(
            status=ClusterStatus.STOPPED, reason="", since=now, failures=0, due_at=now + 3600
        )

    update(world, Cluster, cluster_key(cluster.workspace, cluster.id), change)
    note(world, cluster.workspace, cluster.operation_id, f"Cluster {cluster.name} is stopped.")
    finish(world, cluster.workspace, cluster.operation_id, OperationStatus.SUCCEEDED)
    world.events.publish(Event("ClusterStopped", cluster.workspace, cluster.id, now, {"name": cluster.name}))


def _revive(world: World, cluster: Cluster) -> None:
    """Start what is stopped where the cluster is to run; note what is lost."""
    machines: list[Machine] = []
    for intent in open_intents(world, cluster):
        provider, place = provider_of(world, intent)
        there = machines_of(world, intent)
        stopped = [machine.id for machine in there if machine.state is MachineState.STOPPED]
        if any(machine.state is MachineState.STOPPING for machine in there):
            raise NotYetTerminatedError("A machine is still stopping.")
        if cluster.status is ClusterStatus.INIT and stopped and isinstance(provider, StopsMachines):
            provider.start(place, stopped)
            there = provider.describe(place, [machine.id for machine in there])
            note(world, cluster.workspace, cluster.operation_id, f"Started {len(stopped)} stopped machines.")
        machines.extend(there)
    _record_machines(world, cluster, machines)
    if cluster.status is ClusterStatus.UP:
        _record_health(world, cluster, machines)


def _record_health(world: World, cluster: Cluster, machines: list[Machine]) -> None:
    """A cluster that was UP and whose nodes fell silent: the provider's word decides."""
    now = world.clock.now()
    lost = [
        machine for machine in machines if machine.state not in (MachineState.PENDING, MachineState.RUNNING)
    ]
    if not lost:
        _mark_silent(world, cluster)
        return
    all_stopped = len(lost) == len(machines) and all(m.state is MachineState.STOPPED for m in lost)
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


def _expecting(world: World, cluster: Cluster) -> bool:
    machines = [machine for intent in open_intents(world, cluster) for machine in machines_of(world, intent)]
    return bool(machines) and all(m.state in (MachineState.PENDING, MachineState.RUNNING) for m in machines)


def _record_machines(world: World, cluster: Cluster, machines: list[Machine]) -> None:
    """Node items follow the provider's word; a running machine's node waits for its agent to join."""
    now = world.clock.now()
    states = {machine.id: machine for machine in machines}

    def change(node: Node) -> Node | None:
        machine = states.get(node.machine_id)
        if machine is None:
            return None
        status = _NODE_STATUS.get(machine.state)
        if status is None:
            status = (
                NodeStatus.PENDING
                if node.status in (NodeStatus.STOPPED, NodeStatus.TERMINATED)
                else node.status
            )
        if status is node.status:
            return None
        return node.changed(status=status, reason=machine.reason, since=now, due_at=now + 3600)

    for node in child_records(world, Node, cluster.workspace, cluster.id):
        update(world, Node, node_key(node.workspace, node.cluster_id, node.rank), change)
