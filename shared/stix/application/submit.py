"""Accepting work: ``launch`` (make or reuse a cluster, run a task on it) and ``exec``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stix.api.v1 import ExecRequest, FileMount, LaunchRequest, TaskRequest
from stix.application.budgets import check_budget
from stix.application.fitting import check_fits
from stix.application.idempotency import Once
from stix.application.jobs import command_put, counter_key, new_job, numbered, store_spec
from stix.application.nudge_job import job_number
from stix.application.nudge_pool import worker_of
from stix.application.nudge_service import service_name
from stix.application.operations import finish
from stix.application.planning import plan
from stix.application.records import cluster_by_name, name_held_by, put
from stix.application.runs import RUN_BEGINS_SECONDS, start_run
from stix.application.tokens import UserPrincipal, hash_token
from stix.application.uploads import mount_source
from stix.application.wakes import wake_nodes
from stix.application.world import World
from stix.model.autostop import Autostop
from stix.model.cluster import Cluster, Lifetime
from stix.model.errors import ConflictError, InvalidInputError, NotFoundError, StixError
from stix.model.job import Job
from stix.model.operation import Operation, Progress
from stix.model.runnable import check_runnable
from stix.model.status import ClusterStatus, JobStatus, OperationStatus, Wanted
from stix.model.task import Task
from stix.ports.state_store import VersionConflictError, Write
from stix.ports.surroundings import Event

__all__ = [
    "commit",
    "execute",
    "existing_cluster",
    "job_writes",
    "last_use",
    "launch",
    "own_cluster",
    "read_task",
]

_TRIES = 20


def read_task(request: TaskRequest, *, uploaded: bool = True, managed: bool = False) -> Task:
    """The task of a request with its secrets; with ``uploaded``, its files must have been sent.

    Raises ``TaskError`` and ``InvalidInputError``.
    """
    task = Task.from_yaml_config(request.task).with_envs(secrets=request.secrets)
    check_runnable(task, managed=managed)
    if not uploaded:
        return task
    if task.workdir and request.workdir is None:
        raise InvalidInputError(
            f"workdir: {task.workdir!r} was not uploaded.",
            hint="Announce it with POST /v1/uploads and send it as `workdir` beside the task.",
        )
    sent = {mount.dst for mount in request.file_mounts}
    absent = [dst for dst in task.file_mounts if dst not in sent]
    if absent:
        raise InvalidInputError(
            f"file_mounts: the source of {absent[0]!r} was not uploaded.",
            hint="Announce it with POST /v1/uploads and send it in `file_mounts` beside the task.",
        )
    return task


def launch(world: World, who: UserPrincipal, request: LaunchRequest, key: str | None) -> dict[str, Any]:
    """Accept a launch: the body of ``LaunchAccepted``. Idempotent by ``key``.

    Raises ``TaskError``, ``NoOfferError``, ``ConflictError`` (another size or place under that name).
    """
    once = Once(world, who.workspace, key, "launch", request.model_dump(mode="json"))
    for _ in range(_TRIES):
        earlier = once.answer()
        if earlier is not None:
            return earlier
        task = read_task(request)
        existing = None if request.cluster is None else cluster_by_name(world, who.workspace, request.cluster)
        try:
            if existing is None or existing.ended:
                return _launch_new(world, who, request, task, once)
            return _launch_on(world, who, request, task, once, existing)
        except VersionConflictError:
            continue
    raise _busy(request.cluster or "the cluster")


def execute(
    world: World, who: UserPrincipal, name: str, request: ExecRequest, key: str | None
) -> dict[str, Any]:
    """Accept a job for a cluster that is UP: the body of ``JobAccepted``. Idempotent by ``key``."""
    once = Once(world, who.workspace, key, f"exec {name}", request.model_dump(mode="json"))
    for _ in range(_TRIES):
        earlier = once.answer()
        if earlier is not None:
            return earlier
        task = read_task(request)
        cluster = own_cluster(world, who.workspace, name)
        if cluster.status is not ClusterStatus.UP or cluster.wanted is not Wanted.UP:
            raise ConflictError(
                f"Cluster {name!r} is {cluster.status}, not UP.",
                hint=_way_up(cluster),
                code="cluster_not_up",
            )
        check_fits(cluster, task)
        try:
            job, writes = job_writes(world, who, cluster, request, task, run_setup=False, own_cpus=True)
            answer = {"cluster": name, "job_id": job.id}
            # With the cluster's version: a stop that came first is noticed, one that comes now sees the job.
            used = cluster.changed(last_use=last_use(task))
            commit(world, job, [put(used), *writes, *once.record(answer)])
        except VersionConflictError:
            continue
        wake_nodes(world, cluster)
        return answer
    raise _busy(name)


def existing_cluster(world: World, workspace: str, name: str) -> Cluster:
    """The cluster of that name. Raises ``NotFoundError``."""
    cluster = cluster_by_name(world, workspace, name)
    if cluster is None or cluster.ended:
        raise NotFoundError(
            f"There is no cluster {name!r}.",
            hint="`stix status` lists the clusters; `stix launch -c NAME task.yaml` makes one.",
            code="cluster_not_found",
            details={"cluster": name},
        )
    return cluster


def own_cluster(world: World, workspace: str, name: str) -> Cluster:
    """The cluster of that name, for what changes it. Raises ``NotFoundError``, and ``ConflictError`` for one
    that belongs to a managed job or a service."""
    cluster = existing_cluster(world, workspace, name)
    refuse_owned(cluster)
    return cluster


def refuse_owned(cluster: Cluster) -> None:
    """Raises ``ConflictError`` for a cluster that is a managed job's or a service's."""
    service = service_name(cluster.owner)
    if service is not None:
        raise ConflictError(
            f"Cluster {cluster.name!r} belongs to service {service!r}, which makes and ends it.",
            hint=f"`stix serve down {service}` ends the service and its clusters.",
            code="cluster_owned",
            details={"cluster": cluster.name, "service": service},
        )
    worker = worker_of(cluster.owner)
    if worker is not None:
        raise ConflictError(
            f"Cluster {cluster.name!r} is worker {worker[1]} of pool {worker[0]!r}, which makes and ends it.",
            hint=f"`stix jobs pool apply -p {worker[0]} --workers N` changes how many there are.",
            code="cluster_owned",
            details={"cluster": cluster.name, "pool": worker[0]},
        )
    number = job_number(cluster.owner)
    if number is not None:
        raise ConflictError(
            f"Cluster {cluster.name!r} belongs to managed job {number}, which makes and ends it.",
            hint=f"`stix jobs cancel {number}` ends the job and its cluster.",
            code="cluster_owned",
            details={"cluster": cluster.name, "job": number},
        )


def _launch_new(
    world: World, who: UserPrincipal, request: LaunchRequest, task: Task, once: Once
) -> dict[str, Any]:
    check_budget(world, who.workspace)
    ranked = plan(world, task)
    now = world.clock.now()
    cluster_id = world.ids.new("c")
    name = request.cluster or f"stix-{cluster_id[-6:]}"
    operation_id = world.ids.new("op")
    autostop = _autostop(request, task)
    cluster = Cluster(
        workspace=who.workspace,
        id=cluster_id,
        name=name,
        since=now,
        reason="waiting for an offer",
        created_at=now,
        due_at=now + RUN_BEGINS_SECONDS,
        user=who.user,
        num_nodes=task.num_nodes,
        requested=task.resources.to_config(),
        last_use=last_use(task),
        autostop=autostop,
        lifetime=_lifetime(request, task),
        retry_until_up=request.retry_until_up,
        race=request.race,
        operation_id=operation_id,
        cluster_key=hash_token(world.ids.secret()),
        labels=dict(task.resources.labels),
        ports=task.resources.ports,
    )
    job, writes = _launched_job(world, who, cluster, request, task)
    operation = Operation(
        workspace=who.workspace,
        id=operation_id,
        verb="launch",
        cluster_id=cluster_id,
        cluster_name=name,
        job_id=job.id if job else None,
        created_at=now,
        due_at=now + world.limits.launch_lease_seconds,
        progress=(Progress(at=now, message=f"Accepted: {len(ranked)} offer{'s' * (len(ranked) != 1)} fit."),),
    )
    answer = {"operation_id": operation_id, "cluster": name, "job_id": operation.job_id, "created": True}
    pointer = name_held_by(world, who.workspace, name, cluster_id)
    commit(world, job, [pointer, put(cluster), put(operation), *writes, *once.record(answer)])
    start_run(world, "launch", cluster.changed(version=1))
    detail = {"name": name, "user": who.user, "num_nodes": task.num_nodes}
    world.events.publish(Event("ClusterRequested", who.workspace, cluster_id, now, detail))
    return answer


def _launch_on(
    world: World, who: UserPrincipal, request: LaunchRequest, task: Task, once: Once, cluster: Cluster
) -> dict[str, Any]:
    """Run the task, with setup, on a cluster that exists; a stopped one is started first."""
    refuse_owned(cluster)
    if cluster.wanted is Wanted.ABSENT or cluster.status is ClusterStatus.AUTOSTOPPING:
        raise ConflictError(
            f"Cluster {cluster.name!r} is {'going down' if cluster.wanted is Wanted.ABSENT else 'stopping'}.",
            hint="Wait until it has ended (`stix status`), or launch under another name.",
            code="name_taken",
        )
    check_fits(cluster, task)
    now = world.clock.now()
    start = cluster.wanted is Wanted.STOPPED
    if start:
        check_budget(world, who.workspace)
    changes: dict[str, Any] = {"last_use": last_use(task)}
    autostop = _autostop(request, task)
    if autostop is not None:
        changes |= {"autostop": autostop, "settings_version": cluster.settings_version + 1}
    lifetime = _lifetime(request, task)
    if lifetime is not None:
        changes |= {"lifetime": lifetime}
    operation_id = world.ids.new("op")
    if start:
        changes |= starting(world, cluster, operation_id)
    changed = cluster.changed(**changes)
    job, writes = _launched_job(world, who, changed, request, task)
    up = cluster.status is ClusterStatus.UP and not start
    joins = cluster.status is ClusterStatus.INIT and not start
    operation = Operation(
        workspace=who.workspace,
        id=operation_id,
        verb="launch",
        cluster_id=cluster.id,
        cluster_name=cluster.name,
        job_id=job.id if job else None,
        status=OperationStatus.SUCCEEDED if up or joins else OperationStatus.PENDING,
        created_at=now,
        ended_at=now if up or joins else None,
        due_at=None if up or joins else now + world.limits.launch_lease_seconds,
        expires_at=now + world.limits.retention_seconds if up or joins else None,
        progress=(Progress(at=now, message=f"Cluster {cluster.name} is {cluster.status}: reusing it."),),
    )
    job_id = operation.job_id
    answer = {"operation_id": operation_id, "cluster": cluster.name, "job_id": job_id, "created": False}
    commit(world, job, [put(changed), put(operation), *writes, *once.record(answer)])
    if start:
        superseded = StixError("Another request came: launch.", code="superseded")
        finish(world, who.workspace, cluster.operation_id, OperationStatus.CANCELLED, superseded)
        start_run(world, "terminate", changed.changed(version=changed.version + 1))
    wake_nodes(world, cluster)
    return answer


def starting(world: World, cluster: Cluster, operation_id: str) -> dict[str, Any]:
    """The changes of a cluster that is to be started again."""
    now = world.clock.now()
    return {
        "wanted": Wanted.UP,
        "status": ClusterStatus.INIT,
        "reason": "starting",
        "since": now,
        "due_at": now + RUN_BEGINS_SECONDS,
        "operation_id": operation_id,
        "settings_version": cluster.settings_version + 1,
        "failures": 0,
        "boot_until": 0.0,
    }


def _launched_job(
    world: World, who: UserPrincipal, cluster: Cluster, request: LaunchRequest, task: Task
) -> tuple[Job | None, list[Write]]:
    """None where the task has nothing to do: then only the cluster is wanted."""
    if not (task.run or task.setup or task.workdir or task.file_mounts):
        return None, []
    return job_writes(world, who, cluster, request, task, run_setup=not request.no_setup)


def job_writes(
    world: World,
    who: UserPrincipal,
    cluster: Cluster,
    request: TaskRequest,
    task: Task,
    *,
    run_setup: bool,
    own_cpus: bool = False,
    of_job: Mapping[str, Any] | None = None,
) -> tuple[Job, list[Write]]:
    """The job and what is written with it, its secrets kept already. ``of_job``: the arguments of ``new_job``
    that a managed job's run has."""
    workdir = _mount(world, who.workspace, request.workdir)
    mounts = [_mount(world, who.workspace, mount) for mount in request.file_mounts]
    spec_key = store_spec(world, who.workspace, task, workdir, [mount for mount in mounts if mount])
    counter = world.store.get(counter_key(who.workspace, cluster.id))
    counting, job_id, seq = numbered(counter, who.workspace, cluster.id, jobs=1)
    secrets = task.secret_values()
    secrets_key = f"jobs/{who.workspace}/{cluster.id}/{world.ids.new('s')}" if secrets else ""
    job = new_job(
        world,
        workspace=who.workspace,
        cluster_id=cluster.id,
        cluster_name=cluster.name,
        job_id=job_id,
        task=task,
        spec_key=spec_key,
        user=who.user,
        status=JobStatus.PENDING if cluster.status is ClusterStatus.UP else JobStatus.INIT,
        follow=request.follow,
        run_setup=run_setup,
        secrets_key=secrets_key,
        own_cpus=own_cpus,
        **(of_job or {}),
    )
    if secrets:
        world.secrets.put(secrets_key, secrets)
    command = command_put(
        who.workspace, cluster.id, seq, {"type": "run", "job_id": job_id}, world.clock.now()
    )
    return job, [counting, put(job), command]


def commit(world: World, job: Job | None, writes: list[Write]) -> None:
    """Write all or nothing. Raises ``VersionConflictError``, and then the job's secrets are gone as well."""
    try:
        world.store.transact(writes)
    except VersionConflictError:
        if job is not None and job.secrets_key:
            world.secrets.delete(job.secrets_key)
        raise


def _mount(world: World, workspace: str, mount: FileMount | None) -> dict[str, Any] | None:
    return None if mount is None else mount_source(world, workspace, mount)


def _autostop(request: LaunchRequest, task: Task) -> Autostop | None:
    asked = request.autostop
    if asked is None:
        return task.resources.autostop
    if asked.idle_minutes is None:
        return None
    return Autostop(idle_minutes=asked.idle_minutes, down=asked.down, wait_for=asked.wait_for)


def _lifetime(request: LaunchRequest, task: Task) -> Lifetime | None:
    """The limits that the request names, and the task's ``max_cost``."""
    asked = request.lifetime
    found = Lifetime(
        max_lifetime=None if asked is None else asked.max_lifetime_seconds,
        delete_after=None if asked is None else asked.delete_after_seconds,
        max_cost=task.max_cost if asked is None or asked.max_cost is None else asked.max_cost,
    )
    return None if found == Lifetime() else found


def last_use(task: Task) -> str:
    first = next(iter((task.run or "").strip().splitlines()), "")
    return (task.name or first)[:80]


def _way_up(cluster: Cluster) -> str:
    if cluster.wanted is Wanted.ABSENT:
        return "It is going down; launch it again once it is gone."
    if cluster.status is ClusterStatus.INIT:
        return f"Wait until it is up, or queue the task with `stix launch -c {cluster.name} ...`."
    return f"Start it with `stix start {cluster.name}`."


def _busy(name: str) -> ConflictError:
    return ConflictError(f"{name} is being changed by others too often.", hint="Try again.", code="busy")
