"""What people see of managed jobs: records of the table as the bodies of the API's answers."""

from __future__ import annotations

from typing import Any

from stix.application.job_draft import get_job
from stix.application.job_offers import work_done
from stix.application.ledger import cluster_cost
from stix.application.observe_run import cluster_and_job
from stix.application.pool_views import waits_in_pool
from stix.application.records import child_records, load, managed_job_key
from stix.application.world import World
from stix.model.cluster import Cluster
from stix.model.errors import InvalidInputError, NotFoundError
from stix.model.job import Job
from stix.model.managed_job import JobEvent, JobRun, JobTask, ManagedJob
from stix.ports.state_store import Key

__all__ = [
    "explain_job",
    "job_body",
    "job_of_path",
    "list_events",
    "list_runs",
    "run_of_path",
]

_PAGE = 100
_DECISIONS = 50
_CLUSTERS = 200


def job_of_path(world: World, workspace: str, text: str) -> ManagedJob:
    """A managed job by number or ``latest``. Raises ``NotFoundError``."""
    if text == "latest":
        items = [
            *world.store.list(workspace, ManagedJob.kind, live=True, limit=1).items,
            *world.store.list(workspace, ManagedJob.kind, live=False, limit=1).items,
        ]
        jobs = [load(ManagedJob, item) for item in items]
        if not jobs:
            raise NotFoundError(
                "There is no managed job yet.", hint="`stix jobs launch` makes one.", code="job_not_found"
            )
        return max(jobs, key=lambda job: job.id)
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else 0
    return get_job(world, workspace, number)


def job_body(job: ManagedJob) -> dict[str, Any]:
    """The body of ``ManagedJob``."""
    return {
        "id": job.id,
        "name": job.name,
        "user": job.user,
        "group": job.group,
        "status": str(job.status),
        "reason": job.reason,
        "since": job.since,
        "submitted_at": job.created_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "deadline_at": job.deadline_at,
        "max_cost": _max_cost(job),
        "recoveries": sum(task.recoveries for task in job.tasks),
        "pool": job.pool,
        "rank": job.rank,
        "num_jobs": job.num_jobs,
        "version": job.version,
        "tasks": [_task_body(task) for task in job.tasks],
    }


def _max_cost(job: ManagedJob) -> float | None:
    """USD of the whole; that of its only task is the job's."""
    return job.tasks[0].max_cost if job.max_cost is None and len(job.tasks) == 1 else job.max_cost


def _task_body(task: JobTask) -> dict[str, Any]:
    return {
        "index": task.index,
        "name": task.name,
        "status": str(task.status),
        "reason": task.reason,
        "since": task.since,
        "resources": task.resources,
        "num_nodes": task.num_nodes,
        "after": list(task.parents),
        "primary": task.primary,
        "started_at": task.started_at,
        "ended_at": task.ended_at,
        "exit_code": task.exit_code,
        "strategy": task.policy,
        "recoveries": task.recoveries,
        "restarts": task.restarts,
        "cluster": task.cluster_name,
        "place": task.place,
        "spot": task.spot,
        "task_id": task.task_id,
    }


def _parent(job: ManagedJob) -> str:
    return managed_job_key(job.workspace, job.id).id


def list_events(world: World, job: ManagedJob, *, after: str | None) -> dict[str, Any]:
    """The body of ``JobEventList``, oldest first."""
    _check_after(after)
    page = world.store.children(job.workspace, JobEvent.kind, _parent(job), after=after, limit=_PAGE)
    events = [load(JobEvent, item) for item in page.items]
    return {"events": [_event_body(event) for event in events], "next": page.next}


def _event_body(event: JobEvent) -> dict[str, Any]:
    return {
        "number": event.number,
        "at": event.at,
        "name": event.name,
        "task": event.task,
        "place": event.place,
        "reason": event.reason,
    }


def list_runs(world: World, job: ManagedJob, *, after: str | None) -> dict[str, Any]:
    """The body of ``JobRunList``, oldest first."""
    _check_after(after)
    page = world.store.children(job.workspace, JobRun.kind, _parent(job), after=after, limit=_PAGE)
    return {"runs": [_run_body(world, load(JobRun, item)) for item in page.items], "next": page.next}


def _run_body(world: World, run: JobRun) -> dict[str, Any]:
    cluster, job = cluster_and_job(world, run.workspace, run.cluster_id, run.cluster_job)
    offer = None if cluster is None else cluster.offer
    return {
        "number": run.number,
        "task": run.task,
        "cluster": run.cluster_name,
        "begun_at": run.begun_at,
        "reason": run.reason,
        "status": "" if job is None else str(job.status),
        "place": "" if offer is None else offer.place,
    }


def run_of_path(world: World, job: ManagedJob, text: str) -> tuple[Cluster, Job]:
    """Where the log of a run is. Raises ``NotFoundError``."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 8 else 0
    item = world.store.get(Key(job.workspace, JobRun.kind, _parent(job), f"{number:08d}"))
    if item is not None:
        run = load(JobRun, item)
        cluster, queued = cluster_and_job(world, job.workspace, run.cluster_id, run.cluster_job)
        if cluster is not None and queued is not None:
            return cluster, queued
    raise NotFoundError(
        f"Managed job {job.id} has no run {text!r} whose log is kept.",
        hint=f"GET /v1/jobs/{job.id}/runs lists its runs.",
        code="job_not_found",
    )


def explain_job(world: World, job: ManagedJob) -> dict[str, Any]:
    """The body of ``ManagedJobExplanation``."""
    page = world.store.children(
        job.workspace, JobEvent.kind, _parent(job), limit=_DECISIONS, newest_first=True
    )
    events = [load(JobEvent, item) for item in reversed(page.items)]
    with_deadline = [task for task in job.tasks if task.deadline_at is not None]
    return {
        "job": job_body(job),
        "decisions": [
            *({"at": event.at, "message": _words(job, event)} for event in events),
            *({"at": world.clock.now(), "message": f"waits: {why}"} for why in waits_in_pool(world, job)),
        ],
        "cost": _cost(world, job),
        "work": sum(task.work for task in with_deadline),
        "work_done": sum(work_done(world, job.workspace, job.id, task) for task in with_deadline),
        "next_look_at": job.due_at,
    }


def _words(job: ManagedJob, event: JobEvent) -> str:
    task = "" if event.task is None or len(job.tasks) == 1 else f"{_label(job.tasks[event.task])}: "
    where = f" [{event.place}]" if event.place else ""
    return f"{task}{event.name}{where}{f': {event.reason}' if event.reason else ''}"


def _label(task: JobTask) -> str:
    return task.name or f"task {task.index + 1}"


def _cost(world: World, job: ManagedJob) -> float:
    """USD of its clusters up to now, of the newest ones where there were very many."""
    runs = child_records(world, JobRun, job.workspace, _parent(job))
    clusters = dict.fromkeys(run.cluster_id for run in reversed(runs))
    found = [cluster_and_job(world, job.workspace, one, 1)[0] for one in list(clusters)[:_CLUSTERS]]
    return sum(cluster_cost(world, cluster) for cluster in found if cluster is not None)


def _check_after(after: str | None) -> None:
    if after is not None and not (after.isascii() and after.isdigit()):
        raise InvalidInputError(
            f"after: {after!r:.80} is not a cursor of this list.", hint="Send back what the last page gave."
        )
