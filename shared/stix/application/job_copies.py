"""The jobs of one submission (``--num-jobs``): the first is written with the numbers of all, and makes the
others. Each is a job of its own; only its rank tells it from the rest."""

from __future__ import annotations

from stix.application.job_draft import Draft, get_job
from stix.application.nudge_job import start_job_run
from stix.application.records import put
from stix.application.runs import RUN_BEGINS_SECONDS
from stix.application.world import World
from stix.model.managed_job import JobTask, ManagedJob

__all__ = ["make_copies"]

_BATCH = 40
"""Two writes each, and a transaction has at most 100."""


def make_copies(world: World, first: ManagedJob) -> None:
    """Make what is not made yet, each once: whoever dies in between leaves a job that is due within a minute.
    Raises ``VersionConflictError`` where somebody else moves the job."""
    while first.made < first.num_jobs:
        made = min(first.made + _BATCH, first.num_jobs)
        drafts = [_copy(world, first, rank) for rank in range(first.made, made)]
        counted = put(first.changed(made=made))
        written = [write for draft in drafts for write in draft.writes()]
        world.store.transact([counted, *written])
        for draft in drafts:
            draft.announce()
            start_job_run(world, draft.job.changed(version=1))
        first = get_job(world, first.workspace, first.id)


def _copy(world: World, first: ManagedJob, rank: int) -> Draft:
    number, uid, now = first.id + rank, f"{first.uid}-{rank}", world.clock.now()
    copy = ManagedJob(
        workspace=first.workspace,
        id=number,
        uid=uid,
        name=first.name,
        user=first.user,
        since=first.created_at,
        created_at=first.created_at,
        due_at=now + RUN_BEGINS_SECONDS,
        pool=first.pool,
        rank=rank,
        num_jobs=first.num_jobs,
        made=first.num_jobs,
        tasks=tuple(_task(world, first, task, uid, rank) for task in first.tasks),
    )
    draft = Draft(world, copy)
    draft.say("ManagedJobSubmitted", f"{copy.name}: {rank + 1} of {copy.num_jobs}, pool {copy.pool}")
    draft.look_at(now + RUN_BEGINS_SECONDS)
    return draft


def _task(world: World, first: ManagedJob, task: JobTask, uid: str, rank: int) -> JobTask:
    """As it was submitted, with secrets of its own: each job deletes those it has."""
    secrets_key = f"managed/{first.workspace}/{uid}/{task.index}" if task.secrets_key else ""
    if secrets_key:
        world.secrets.put(secrets_key, world.secrets.get(task.secrets_key))
    return JobTask(
        **task.model_dump(include=_SUBMITTED),
        since=first.created_at,
        secrets_key=secrets_key,
        task_id=f"{task.task_id}_{rank}",
    )


_SUBMITTED = {
    "index",
    "name",
    "parents",
    "request_key",
    "num_nodes",
    "resources",
    "policy",
    "work",
    "changeover",
    "checkpoint_seconds",
    "max_restarts",
    "restart_codes",
    "needs",
    "priority",
}
