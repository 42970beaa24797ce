"""Jobs: their documents, their numbers and their place in the head node's queue."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from stix.application.nudge_job import nudge
from stix.application.records import job_key, update
from stix.application.world import World
from stix.model.container import run_options
from stix.model.errors import ConflictError
from stix.model.job import Demand, Job
from stix.model.status import JobStatus
from stix.model.task import Task
from stix.ports.state_store import Item, Key, Put
from stix.ports.surroundings import Event

__all__ = [
    "JOB_CHECK_SECONDS",
    "command_put",
    "counter_key",
    "end_job",
    "job_topic",
    "new_job",
    "numbered",
    "store_spec",
]

JOB_CHECK_SECONDS = 3600.0
"""How often a job that nobody spoke of is looked at: its cluster may be gone."""

_DEFAULT_CPUS = 0.5
_COMMAND_SECONDS = 300 * 86400.0


def counter_key(workspace: str, cluster_id: str) -> Key:
    return Key.top(workspace, "counter", cluster_id)


def job_topic(cluster_id: str, job_id: int) -> str:
    """What a reader of the job or its log waits on."""
    return f"job/{cluster_id}/{job_id}"


def store_spec(
    world: World,
    workspace: str,
    task: Task,
    workdir: Mapping[str, Any] | None,
    file_mounts: Sequence[Mapping[str, Any]],
) -> str:
    """Keep what the agent runs under the hash of its content, so that equal jobs share one document."""
    document: dict[str, Any] = {
        "setup": task.setup,
        "run": task.run,
        "envs": dict(task.envs),
        "workdir": workdir,
        "file_mounts": list(file_mounts),
    }
    if task.resources.job_recovery is not None and task.resources.job_recovery.preemption:
        document["preemption"] = task.resources.job_recovery.preemption
    options = run_options(task)
    if options:
        document["run_options"] = options
    data = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    key = f"specs/{workspace}/{hashlib.sha256(data).hexdigest()}.json"
    if world.objects.size(key) is None:
        world.objects.put(key, data)
    return key


def numbered(
    counter: Item | None, workspace: str, cluster_id: str, *, jobs: int, commands: int = 1
) -> tuple[Put, int, int]:
    """Take the next job ids and numbers of the command queue: (write, first job id, first number)."""
    body = {"job": 0, "seq": 0} if counter is None else dict(counter.body)
    version = 0 if counter is None else counter.version
    taken = {"job": body["job"] + jobs, "seq": body["seq"] + commands}
    item = Item(counter_key(workspace, cluster_id), taken, version=version)
    return Put(item), int(body["job"]) + 1, int(body["seq"]) + 1


def command_put(workspace: str, cluster_id: str, seq: int, command: Mapping[str, Any], now: float) -> Put:
    """One entry of the queue that rank 0 reads in order. Read entries are deleted; what nobody read by then
    belongs to a cluster that is gone, or was stopped for most of a year."""
    key = Key(workspace, "command", cluster_id, f"{seq:012d}")
    return Put(Item(key, dict(command), created_at=now, expires_at=now + _COMMAND_SECONDS))


def new_job(
    world: World,
    *,
    workspace: str,
    cluster_id: str,
    cluster_name: str,
    job_id: int,
    task: Task,
    spec_key: str,
    user: str,
    status: JobStatus,
    follow: bool,
    run_setup: bool,
    secrets_key: str,
    own_cpus: bool,
    task_id: str = "",
    owner: str = "",
    managed: Mapping[str, Any] | None = None,
) -> Job:
    """A job as it is submitted. ``own_cpus``: the task's ``cpus`` are what this job holds (exec), not the
    size of the machine (launch). ``task_id``, ``owner`` and ``managed`` are those of a managed job's run."""
    now = world.clock.now()
    accelerator = task.resources.accelerator
    cpus = task.resources.cpus.value if own_cpus and task.resources.cpus is not None else _DEFAULT_CPUS
    demand = Demand(
        cpus=cpus,
        gpus=0.0 if accelerator is None else accelerator.count,
        gpu_name="" if accelerator is None else accelerator.name,
    )
    shape = f"{cpus:g} CPU" + (f", {accelerator}" if accelerator is not None else "")
    name = task.name or "job"
    stamp = world.ids.new("t").partition("-")[2]
    return Job(
        workspace=workspace,
        cluster_id=cluster_id,
        cluster_name=cluster_name,
        id=job_id,
        name=task.name or "",
        status=status,
        user=user,
        num_nodes=task.num_nodes,
        demand=demand,
        resources=shape if task.num_nodes == 1 else f"{task.num_nodes}x [{shape}]",
        submitted_at=now,
        due_at=now + JOB_CHECK_SECONDS,
        task_id=task_id or f"stix-{stamp}_{name}_{job_id}",
        spec_key=spec_key,
        secrets_key=secrets_key,
        run_setup=run_setup,
        follow_until=now + 60 if follow else None,
        owner=owner,
        managed=dict(managed or {}),
    )


def end_job(world: World, job: Job, status: JobStatus, reason: str) -> None:
    """End a job that its agent can no longer speak for. One that has ended stays as it is."""
    now = world.clock.now()

    changed: list[Job] = []

    def change(current: Job) -> Job | None:
        keep_until = now + world.limits.retention_seconds
        ended = current.changed(
            status=status, reason=reason, ended_at=now, due_at=None, expires_at=keep_until
        )
        changed[:] = [] if current.status.terminal else [ended]
        return changed[0] if changed else None

    if job.secrets_key:
        # Before the end is written: after it nobody would come back for them.
        world.secrets.delete(job.secrets_key)
    ended = update(world, Job, job_key(job.workspace, job.cluster_id, job.id), change)
    if ended is None:
        raise ConflictError(f"job {job.id} is not stored")
    if not changed:
        return
    world.wake.wake(job_topic(job.cluster_id, job.id))
    detail = {"job": job.id, "status": str(ended.status), "reason": ended.reason}
    world.events.publish(Event("JobEnded", job.workspace, job.cluster_id, now, detail))
    nudge(world, job.workspace, job.owner)
