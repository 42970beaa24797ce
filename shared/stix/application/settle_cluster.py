"""Bring a cluster's machines to what is wanted of it: gone, stopped, or running."""

from __future__ import annotations

from typing import Any

from stix.application.end_machines import (
    can_stop,
    end_intent,
    machines_of,
    open_intents,
    provider_of,
    unended_intents,
)
from stix.application.jobs import counter_key, end_job
from stix.application.ledger import reopen_entry, settle_entry
from stix.application.lost_machines import all_running, record_health, replace_lost
from stix.application.nudge_job import nudge
from stix.application.operations import announce_end, ended_operation, find_operation, finish, note
from stix.application.records import (
    child_records,
    cluster_by_name,
    cluster_key,
    get_cluster,
    name_held_by,
    node_key,
    put,
    unfinished,
    update,
)
from stix.application.ssh_access import access_key
from stix.application.world import World
from stix.model.cluster import Cluster, Intent, Node
from stix.model.errors import ConflictError, InvalidRequestError, NotYetTerminatedError
from stix.model.job import Job
from stix.model.status import ClusterStatus, JobStatus, NodeStatus, OperationStatus, Wanted
from stix.ports.compute import Machine, MachineState, StopsMachines
from stix.ports.state_store import Put, VersionConflictError
from stix.ports.surroundings import Event

__all__ = ["close", "confirm", "settle"]

_TRIES = 12

_NODE_STATUS = {
    MachineState.STOPPED: NodeStatus.STOPPED,
    MachineState.TERMINATED: NodeStatus.TERMINATED,
    MachineState.TERMINATING: NodeStatus.TERMINATED,
}


def settle(world: World, workspace: str, cluster_id: str) -> dict[str, Any]:
    """Tell the provider what is wanted. Raises ``NotYetTerminatedError`` while machines are going."""
    cluster = get_cluster(world, workspace, cluster_id)
    if cluster.ended:
        _end_machines(world, cluster)
        return {"outcome": "MOVED"}
    _take_lease(world, cluster)
    match cluster.wanted:
        case Wanted.ABSENT:
            _end_machines(world, cluster)
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
        _end_machines(world, cluster)
        return {"wanted": "NOTHING"}
    match cluster.wanted:
        case Wanted.ABSENT:
            _end_machines(world, cluster)
            close(world, cluster, reason="taken down")
            # A create call that was under way sees the closed cluster, or is seen here.
            _end_machines(world, cluster)
            return {"wanted": "ABSENT"}
        case Wanted.STOPPED:
            _confirm_stopped(world, cluster)
            return {"wanted": "STOPPED"}
        case Wanted.UP:
            if cluster.status is not ClusterStatus.INIT or cluster.offer is None:
                return {"wanted": "NOTHING"}
            if all_running(world, cluster):
                return {"wanted": "UP"}
            replace_lost(world, cluster)
            return {"wanted": "NOTHING"}


def close(world: World, cluster: Cluster, *, reason: str) -> None:
    """The last step of a cluster whose machines are all gone. Idempotent.

    Jobs and nodes end first; then, in one transaction, the cluster, its name and its operation, so that
    whoever saw the end can use the name.
    """
    _end_jobs(world, cluster)
    now = world.clock.now()
    keep_until = now + world.limits.retention_seconds
    for node in child_records(world, Node, cluster.workspace, cluster.id):
        if node.status is not NodeStatus.TERMINATED:
            ended = node.changed(
                status=NodeStatus.TERMINATED, token_hash="", since=now, due_at=None, expires_at=keep_until
            )
            world.store.transact([put(ended, unconditional=True)])
    for _ in range(_TRIES):
        current = get_cluster(world, cluster.workspace, cluster.id)
        if current.ended:
            return
        final = current.changed(
            status=ClusterStatus.TERMINATED,
            wanted=Wanted.ABSENT,
            reason=reason,
            since=now,
            due_at=None,
            expires_at=keep_until,
        )
        writes = [put(final)]
        for key in (
            counter_key(cluster.workspace, cluster.id),
            access_key(cluster.workspace, cluster.id),
        ):
            kept = world.store.get(key)
            if kept is not None:
                writes.append(Put(kept.changed(expires_at=keep_until)))
        holder = cluster_by_name(world, cluster.workspace, cluster.name)
        if holder is not None and holder.id == cluster.id:
            writes.append(name_held_by(world, cluster.workspace, cluster.name, "", expires_at=keep_until))
        operation = find_operation(world, current.workspace, current.operation_id)
        if operation is not None and not operation.status.terminal:
            operation = ended_operation(world, operation, OperationStatus.SUCCEEDED)
            writes.append(put(operation))
        try:
            world.store.transact(writes)
        except VersionConflictError:
            continue
        if operation is not None:
            announce_end(world, operation)
        event = Event("ClusterEnded", cluster.workspace, cluster.id, now, {"name": cluster.name})
        world.events.publish(event)
        nudge(world, cluster.workspace, cluster.owner)
        return
    raise ConflictError(f"{cluster.name} is being changed by others too often.", code="busy")


def _end_jobs(world: World, cluster: Cluster) -> None:
    """What has not ended failed with its launch, or was cancelled with its cluster."""
    status, reason = JobStatus.CANCELLED, "the cluster was taken down"
    operation = find_operation(world, cluster.workspace, cluster.operation_id)
    if operation is not None and operation.status is OperationStatus.FAILED and operation.error is not None:
        status, reason = JobStatus.FAILED_DRIVER, str(operation.error["message"])
    for job in unfinished(child_records(world, Job, cluster.workspace, cluster.id)):
        end_job(world, job, status, reason)


def _end_machines(world: World, cluster: Cluster) -> None:
    for intent in unended_intents(world, cluster):
        end_intent(world, intent, "taken down")


def _take_lease(world: World, cluster: Cluster) -> None:
    """The run that was accepted has begun: no other one is needed for as long as it may take."""
    until = world.clock.now() + world.limits.launch_lease_seconds
    if cluster.due_at is not None and cluster.due_at > until - world.limits.launch_lease_seconds / 2:
        return
    key = cluster_key(cluster.workspace, cluster.id)
    update(world, Cluster, key, lambda current: None if current.ended else current.changed(due_at=until))


def _stop(world: World, intent: Intent) -> None:
    provider, place = provider_of(world, intent)
    if not isinstance(provider, StopsMachines) or not can_stop(world, intent.offer):
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
    for intent in open_intents(world, cluster):
        own = [machine for machine in machines if machine.id in intent.machine_ids]
        settle_entry(world, intent, "stopped", machines=own)
    for job in unfinished(child_records(world, Job, cluster.workspace, cluster.id)):
        if job.status is not JobStatus.INIT:
            end_job(world, job, JobStatus.CANCELLED, "the cluster was stopped")
    now = world.clock.now()

    def change(current: Cluster) -> Cluster | None:
        if current.wanted is not Wanted.STOPPED or current.status is ClusterStatus.STOPPED:
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
            # Their nodes are down from here on, also where they had not been seen to stop.
            _record_machines(world, cluster, there)
            reopen_entry(world, cluster, intent, there)
            provider.start(place, stopped)
            there = provider.describe(place, [machine.id for machine in there])
            note(world, cluster.workspace, cluster.operation_id, f"Started {len(stopped)} stopped machines.")
        machines.extend(there)
    _record_machines(world, cluster, machines)
    if cluster.status is ClusterStatus.UP:
        record_health(world, cluster, machines)


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
        moved = node.changed(public_address=machine.public_address)
        if status is node.status:
            return moved
        return moved.changed(status=status, reason=machine.reason, since=now, due_at=now + 3600)

    for node in child_records(world, Node, cluster.workspace, cluster.id):
        update(world, Node, node_key(node.workspace, node.cluster_id, node.rank), change)
