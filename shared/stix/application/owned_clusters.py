"""Clusters of managed jobs: made, and used again, together with what the job writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stix.api.v1 import LaunchRequest
from stix.application.end_machines import open_intents
from stix.application.planning import store_plan
from stix.application.records import child_records, name_held_by, put
from stix.application.runs import RUN_BEGINS_SECONDS, start_run
from stix.application.submit import commit, job_writes, last_use, read_task
from stix.application.tokens import UserPrincipal, hash_token
from stix.application.wakes import wake_nodes
from stix.application.world import World
from stix.model.cluster import Cluster, Node
from stix.model.job import Job
from stix.model.offer import Offer
from stix.model.operation import Operation, Progress
from stix.model.status import ClusterStatus, NodeStatus
from stix.model.task import Task
from stix.optimizer.rank import RankedOffer
from stix.ports.state_store import Write
from stix.ports.surroundings import Event

__all__ = ["OwnedRun", "launch_owned", "replace_owned", "rerun_owned"]


@dataclass(frozen=True, slots=True)
class OwnedRun:
    """A run of a managed job: whose it is, and what is written together with it.

    ``ranked`` are the offers in the order in which they are tried, ranked by the launch where there are none;
    ``managed`` is what the agent is told.
    ``writes`` gives what must be true at once with the new cluster and job, or else none of it.
    ``worker``: it prepares a pool's worker; ``own_cpus``: the task's ``cpus`` are what it holds, not the size
    of its machine.
    ``awaits_hosts``: the run begins once its nodes know those of its job group.
    """

    owner: str
    user: str
    name: str
    task_id: str
    managed: Mapping[str, Any]
    reason: str
    writes: Callable[[Cluster, Job], list[Write]]
    ranked: Sequence[RankedOffer] = ()
    worker: bool = False
    own_cpus: bool = False
    awaits_hosts: bool = False


def launch_owned(world: World, workspace: str, request: LaunchRequest, run: OwnedRun) -> Cluster:
    """Make a cluster for a run of a managed job and queue the run there, in one transaction with what the job
    writes. Raises ``VersionConflictError``: then nothing was begun.
    """
    task = read_task(request, managed=not run.worker)
    now = world.clock.now()
    cluster_id, operation_id = world.ids.new("c"), world.ids.new("op")
    name = f"{run.name}-{cluster_id[-6:]}"
    cluster = Cluster(
        workspace=workspace,
        id=cluster_id,
        name=name,
        since=now,
        reason="waiting for an offer",
        created_at=now,
        due_at=now + RUN_BEGINS_SECONDS,
        user=run.user,
        owner=run.owner,
        awaits_hosts=run.awaits_hosts,
        num_nodes=task.num_nodes,
        requested=task.resources.to_config(),
        last_use=last_use(task),
        plan_key=store_plan(world, workspace, cluster_id, list(run.ranked)) if run.ranked else "",
        offers=len(run.ranked),
        operation_id=operation_id,
        cluster_key=hash_token(world.ids.secret()),
        labels=dict(task.resources.labels),
        ports=task.resources.ports,
    )
    operation = Operation(
        workspace=workspace,
        id=operation_id,
        verb="launch",
        cluster_id=cluster_id,
        cluster_name=name,
        job_id=1,
        created_at=now,
        due_at=now + world.limits.launch_lease_seconds,
        progress=(Progress(at=now, message=f"For {run.owner}: {run.reason}."),),
    )
    job, writes = _writes(world, workspace, cluster, request, task, run)
    pointer = name_held_by(world, workspace, name, cluster_id)
    commit(world, job, [pointer, put(cluster), put(operation), *writes, *run.writes(cluster, job)])
    start_run(world, "launch", cluster.changed(version=1))
    detail = {"name": name, "user": run.user, "num_nodes": task.num_nodes}
    world.events.publish(Event("ClusterRequested", workspace, cluster_id, now, detail))
    return cluster


def rerun_owned(world: World, cluster: Cluster, request: LaunchRequest, run: OwnedRun) -> None:
    """Run a managed job's task once more, with setup, on the cluster that it has. Raises
    ``VersionConflictError``, also where the cluster is no longer what was read."""
    task = read_task(request, managed=True)
    job, writes = _writes(world, cluster.workspace, cluster, request, task, run)
    commit(world, job, [put(cluster), *writes, *run.writes(cluster, job)])
    wake_nodes(world, cluster)


def replace_owned(
    world: World,
    cluster: Cluster,
    request: LaunchRequest,
    run: OwnedRun,
    offer: Offer,
    ranks: tuple[int, ...],
) -> None:
    """Begin to make machines of ``offer`` for ``ranks`` of a cluster that has lost theirs, and queue the run
    that begins once they have joined the others. Raises ``VersionConflictError``: then nothing was begun.
    """
    task = read_task(request, managed=True)
    now, workspace = world.clock.now(), cluster.workspace
    operation = Operation(
        workspace=workspace,
        id=world.ids.new("op"),
        verb="launch",
        cluster_id=cluster.id,
        cluster_name=cluster.name,
        created_at=now,
        due_at=now + world.limits.launch_lease_seconds,
        progress=(Progress(at=now, message=f"For {run.owner}: {run.reason}."),),
    )
    begun = cluster.changed(
        status=ClusterStatus.INIT,
        reason=run.reason,
        since=now,
        due_at=now + RUN_BEGINS_SECONDS,
        operation_id=operation.id,
        replacing=ranks,
        dropping=True,
        offer=None,
        plan_key=store_plan(world, workspace, cluster.id, [RankedOffer(offer, run.reason)]),
        offers=1,
        attempt=cluster.attempt + 1,
        cursor=0,
        insisted=True,  # A place that refused others lately is not asked all the same.
        boot_until=0.0,
        failures=0,
    )
    job, writes = _writes(world, workspace, begun, request, task, run)
    intents = [one.without(ranks) for one in open_intents(world, cluster)]
    nodes = [one for one in child_records(world, Node, workspace, cluster.id) if one.rank in ranks]
    vacant = {
        "status": NodeStatus.PENDING,
        "reason": "another machine takes its place",
        "since": now,
        "due_at": now + world.limits.launch_lease_seconds,
        "expires_at": None,
        **dict.fromkeys(("machine_id", "token_hash", "address", "public_address", "notice"), ""),
        "peer_port": 0,
        "notice_at": None,
    }
    writes += [*map(put, intents), *(put(node.changed(**vacant)) for node in nodes)]
    operation = operation.changed(job_id=job.id)
    commit(world, job, [put(begun), put(operation), *writes, *run.writes(begun, job)])
    start_run(world, "launch", begun.changed(version=cluster.version + 1))


def _writes(
    world: World, workspace: str, cluster: Cluster, request: LaunchRequest, task: Task, run: OwnedRun
) -> tuple[Job, list[Write]]:
    of_job = {"task_id": run.task_id, "owner": run.owner, "managed": run.managed}
    who = UserPrincipal(workspace, run.user)
    return job_writes(
        world, who, cluster, request, task, run_setup=True, own_cpus=run.own_cpus, of_job=of_job
    )
