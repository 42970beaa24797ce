"""What people ask of a cluster after it was launched: down, stop, start, autostop."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from stix.api.v1 import Autostop as AutostopField
from stix.application.budgets import check_budget
from stix.application.end_machines import can_stop, unended_intents
from stix.application.idempotency import Once
from stix.application.join_nodes import fail_waiting
from stix.application.operations import find_operation, finish
from stix.application.records import cluster_key, heartbeat_key, load, put
from stix.application.runs import RUN_BEGINS_SECONDS, start_run
from stix.application.settle_cluster import close
from stix.application.submit import own_cluster, starting
from stix.application.tokens import UserPrincipal
from stix.application.wakes import wake_nodes
from stix.application.world import World
from stix.lifecycle.cluster import autostop_at
from stix.model.autostop import Autostop
from stix.model.cluster import Cluster, Tombstone
from stix.model.errors import ConflictError, InvalidInputError, StixError
from stix.model.job import Job
from stix.model.offer import Offer
from stix.model.operation import Operation, Progress
from stix.model.status import ClusterStatus, OperationStatus, Wanted
from stix.ports.state_store import VersionConflictError
from stix.ports.surroundings import Event

__all__ = [
    "autostop_now",
    "begin",
    "end_by_limit",
    "forget",
    "set_autostop",
    "start_cluster",
    "stop_cluster",
    "take_down",
]

_TRIES = 20


def take_down(world: World, who: UserPrincipal, name: str, *, purge: bool, key: str | None) -> dict[str, Any]:
    """Delete a cluster: the body of ``OperationAccepted``. ``purge`` does not wait for its cloud.

    Asking again while it goes down starts the work again. What a forgotten cluster may have left is watched,
    and ended, until its provider has said that nothing of it lives.
    """
    once = Once(world, who.workspace, key, f"down {name}", {"purge": purge})

    def effect() -> dict[str, Any]:
        cluster = own_cluster(world, who.workspace, name)
        operation = begin(world, cluster, "down", Wanted.ABSENT, "terminating")
        if purge:
            forget(world, cluster)
        return {"operation_id": operation}

    return once.run(effect)


def forget(world: World, cluster: Cluster) -> None:
    """End the record of a cluster that is going down, without waiting for its cloud."""
    forgotten = load(Cluster, _item(world, cluster))
    _bury(world, forgotten)
    close(world, forgotten, reason="forgotten (--purge)")


def end_by_limit(world: World, cluster: Cluster, reason: str) -> None:
    """The cluster came to a limit of its life: take it down, unless anybody changed it meanwhile."""
    with suppress(ConflictError):
        begin(world, cluster, "autodown", Wanted.ABSENT, reason, insist=False)


def _bury(world: World, cluster: Cluster) -> None:
    now = world.clock.now()
    for intent in unended_intents(world, cluster):
        tombstone = Tombstone(
            workspace=cluster.workspace,
            cluster_id=cluster.id,
            cluster_name=cluster.name,
            attempt=intent.attempt,
            created_at=now,
            intent=intent.changed(version=0),
            due_at=now,
        )
        world.store.transact([put(tombstone, unconditional=True)])


def stop_cluster(world: World, who: UserPrincipal, name: str, *, key: str | None) -> dict[str, Any]:
    """Stop a cluster, keeping its disks. Raises ``ConflictError`` where it is not running."""
    once = Once(world, who.workspace, key, f"stop {name}", {})

    def effect() -> dict[str, Any]:
        cluster = own_cluster(world, who.workspace, name)
        if cluster.wanted is Wanted.ABSENT:
            raise ConflictError(f"Cluster {name!r} is going down.", code="cluster_not_up")
        if cluster.offer is None:
            raise ConflictError(
                f"Cluster {name!r} has no machines yet.",
                hint=f"Wait until it is up, or end it with `stix down {name}`.",
                code="cluster_not_up",
            )
        if not can_stop(world, cluster.offer):
            raise _cannot_stop(cluster.offer, f"Use `stix down {name}`.")
        return {"operation_id": begin(world, cluster, "stop", Wanted.STOPPED, "stopping")}

    return once.run(effect)


def start_cluster(
    world: World, who: UserPrincipal, name: str, autostop: AutostopField | None, *, key: str | None
) -> dict[str, Any]:
    """Start a stopped cluster. One that is UP answers at once, one that starts with that operation."""
    once = Once(world, who.workspace, key, f"start {name}", autostop and autostop.model_dump())

    def effect() -> dict[str, Any]:
        cluster = own_cluster(world, who.workspace, name)
        if cluster.wanted is Wanted.ABSENT:
            raise ConflictError(f"Cluster {name!r} is going down.", code="cluster_not_up")
        check_budget(world, who.workspace)
        if autostop is not None:
            set_autostop(world, who, name, autostop)
            cluster = own_cluster(world, who.workspace, name)
        if cluster.wanted is Wanted.UP and cluster.status is ClusterStatus.INIT:
            under_way = find_operation(world, who.workspace, cluster.operation_id)
            if under_way is not None and not under_way.status.terminal:
                return {"operation_id": under_way.id}
        return {"operation_id": begin(world, cluster, "start", Wanted.UP, "starting")}

    return once.run(effect)


def set_autostop(world: World, who: UserPrincipal, name: str, autostop: AutostopField | None) -> Cluster:
    """Set or (None) cancel autostop; the agents hear of it at once. A cluster that has been idle for as long
    already begins to stop."""
    for _ in range(_TRIES):
        cluster = own_cluster(world, who.workspace, name)
        if cluster.wanted is Wanted.ABSENT:
            raise ConflictError(f"Cluster {name!r} is going down.", code="cluster_not_up")
        setting = None
        if autostop is not None and autostop.idle_minutes is not None:
            setting = Autostop(
                idle_minutes=autostop.idle_minutes, down=autostop.down, wait_for=autostop.wait_for
            )
            if not setting.down and cluster.offer is not None and not can_stop(world, cluster.offer):
                raise _cannot_stop(cluster.offer, "Use `stix autostop --down`.")
        # Due at once, so that the sweep works the new moment out; but no second run beside one under way.
        due_at = world.clock.now() + 1 if cluster.status is ClusterStatus.UP else cluster.due_at
        changed = cluster.changed(
            autostop=setting, settings_version=cluster.settings_version + 1, due_at=due_at
        )
        try:
            world.store.transact([put(changed)])
        except VersionConflictError:
            continue
        wake_nodes(world, cluster, all_ranks=True)
        _stop_if_idle(world, changed.changed(version=changed.version + 1))
        return changed  # Read again, it might be gone by now.
    raise ConflictError(f"{name} is being changed by others too often.", hint="Try again.", code="busy")


def autostop_now(world: World, cluster: Cluster, *, silent: str = "") -> None:
    """The cluster was idle for long enough: stop it, or take it down.

    Not where a job has come that its head had not heard of when it said so, nor where anybody changed the
    cluster meanwhile: the next report decides anew. ``silent``: why it stops though no report will come.
    """
    if cluster.autostop is None:
        return
    newest = world.store.children(cluster.workspace, Job.kind, cluster.id, limit=1, newest_first=True).items
    busy = bool(newest) and not load(Job, newest[0]).status.terminal
    if busy and not silent and cluster.autostop.wait_for != "none":
        return
    idle = silent or f"idle for {cluster.autostop.idle_minutes} minutes"
    # Machines that turn out not to be stoppable (spot ones of some clouds) are not left to run.
    down = cluster.autostop.down or (cluster.offer is not None and not can_stop(world, cluster.offer))
    verb, wanted = ("autodown", Wanted.ABSENT) if down else ("autostop", Wanted.STOPPED)
    status = ClusterStatus.AUTOSTOPPING
    try:
        begin(world, cluster, verb, wanted, f"{verb}: {idle}", status=status, insist=False)
    except ConflictError:
        return
    detail = {"name": cluster.name, "down": down}
    world.events.publish(Event("AutostopBegan", cluster.workspace, cluster.id, world.clock.now(), detail))


def _cannot_stop(offer: Offer, hint: str) -> InvalidInputError:
    kind = "spot machines" if offer.spot else "machines"
    return InvalidInputError(f"{offer.cloud} cannot stop {kind}.", hint=hint, code="cannot_stop")


def _stop_if_idle(world: World, cluster: Cluster) -> None:
    if cluster.status is not ClusterStatus.UP or cluster.wanted is not Wanted.UP:
        return
    beat = world.store.get(heartbeat_key(cluster.workspace, cluster.id, 0))
    stops_at = None if beat is None else autostop_at(cluster.autostop, beat.body["idle_since"])
    if stops_at is not None and stops_at <= world.clock.now():
        autostop_now(world, cluster)


def begin(
    world: World,
    cluster: Cluster,
    verb: str,
    wanted: Wanted,
    reason: str,
    *,
    status: ClusterStatus | None = None,
    insist: bool = True,
) -> str:
    """Write what is wanted and start the run for it; the id of its operation.

    An operation that was under way ends as CANCELLED: something else is wanted now. Raises ``ConflictError``
    where the cluster goes down or is gone and, without ``insist``, where anybody changed it meanwhile.
    """
    for _ in range(_TRIES):
        now = world.clock.now()
        operation_id = world.ids.new("op")
        nothing_to_do = (
            wanted is Wanted.UP and cluster.wanted is Wanted.UP and cluster.status is ClusterStatus.UP
        )
        nothing_to_do |= wanted is Wanted.STOPPED and cluster.status is ClusterStatus.STOPPED
        operation = Operation(
            workspace=cluster.workspace,
            id=operation_id,
            verb=verb,
            cluster_id=cluster.id,
            cluster_name=cluster.name,
            status=OperationStatus.SUCCEEDED if nothing_to_do else OperationStatus.PENDING,
            created_at=now,
            ended_at=now if nothing_to_do else None,
            due_at=None if nothing_to_do else now + world.limits.launch_lease_seconds,
            expires_at=now + world.limits.retention_seconds if nothing_to_do else None,
            progress=(Progress(at=now, message=f"Cluster {cluster.name}: {reason}."),),
        )
        if nothing_to_do:
            world.store.transact([put(operation)])
            return operation_id
        changes = (
            starting(world, cluster, operation_id)
            if wanted is Wanted.UP
            else {
                "wanted": wanted,
                "status": status or cluster.status,
                "reason": reason,
                "due_at": now + RUN_BEGINS_SECONDS,
                "operation_id": operation_id,
                "settings_version": cluster.settings_version + 1,
                "failures": 0,
            }
        )
        changed = cluster.changed(**changes)
        try:
            world.store.transact([put(changed), put(operation)])
        except VersionConflictError:
            item = world.store.get(cluster_key(cluster.workspace, cluster.id))
            if item is None or load(Cluster, item).ended:
                raise ConflictError(f"Cluster {cluster.name!r} is gone.", code="cluster_not_up") from None
            cluster = load(Cluster, item)
            if cluster.wanted is Wanted.ABSENT and wanted is not Wanted.ABSENT:
                raise ConflictError(
                    f"Cluster {cluster.name!r} is going down.", code="cluster_not_up"
                ) from None
            if not insist:
                break
            continue
        superseded = StixError(f"Another request came: {verb}.", code="superseded")
        if cluster.operation_id:
            finish(world, cluster.workspace, cluster.operation_id, OperationStatus.CANCELLED, superseded)
        fail_waiting(world, cluster, f"another request came: {verb}")
        start_run(world, "terminate", changed.changed(version=changed.version + 1))
        return operation_id
    raise ConflictError(
        f"{cluster.name} is being changed by others too often.", hint="Try again.", code="busy"
    )


def _item(world: World, cluster: Cluster) -> Any:
    item = world.store.get(cluster_key(cluster.workspace, cluster.id))
    if item is None:
        raise ConflictError(f"Cluster {cluster.name!r} is gone.", code="cluster_not_up")
    return item
