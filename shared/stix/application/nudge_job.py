"""Something happened that a managed job should look at: it is due now, and a run of its machine begins."""

from __future__ import annotations

import re

from stix.application.nudge_pool import nudge_pool, worker_of
from stix.application.nudge_service import nudge_service, service_name
from stix.application.records import managed_job_key, update
from stix.application.runs import RUN_BEGINS_SECONDS
from stix.application.world import World
from stix.model.managed_job import ManagedJob

__all__ = ["ask_to_end", "job_number", "nudge", "start_job_run", "wait_topic"]

_OWNER = re.compile(r"job/([0-9]{1,10})", re.ASCII)


def job_number(owner: str) -> int | None:
    """The number of the managed job that an ``owner`` names; None for no owner."""
    found = _OWNER.fullmatch(owner)
    return int(found[1]) if found else None


def wait_topic(workspace: str, number: int) -> str:
    """What a reader of a managed job waits on."""
    return f"managed/{workspace}/{number}"


def nudge(world: World, workspace: str, owner: str, *, again: float = RUN_BEGINS_SECONDS) -> None:
    """Let the managed job or the service ``owner`` look at what it has; one that has ended, or is none, stays
    as it is.

    The write comes first: a process that dies before the run begins leaves a job that is due
    in ``again`` seconds.
    """
    service = service_name(owner)
    if service is not None:
        nudge_service(world, workspace, service)
        return
    number = job_number(owner)
    if number is None:
        worker = worker_of(owner)  # of a pool, which looks at it in its place
        if worker is not None:
            nudge_pool(world, workspace, worker[0], worker=worker[1])
        return
    due_at = world.clock.now() + again

    def change(job: ManagedJob) -> ManagedJob | None:
        return None if job.status.terminal else job.changed(due_at=due_at, nudges=job.nudges + 1)

    job = update(world, ManagedJob, managed_job_key(workspace, number), change)
    if job is not None and not job.status.terminal:
        start_job_run(world, job)


def ask_to_end(world: World, workspace: str, number: int, *, grace: float) -> ManagedJob | None:
    """Ask for the end of a managed job, whose tasks have ``grace`` seconds after SIGTERM; None for one that
    has ended already, or is none."""

    def change(job: ManagedJob) -> ManagedJob | None:
        if job.status.terminal:
            return None
        return job.changed(cancel_requested=True, cancel_grace=grace)

    job = update(world, ManagedJob, managed_job_key(workspace, number), change)
    if job is None or job.status.terminal:
        return None
    nudge(world, workspace, job.owner)
    return job


def start_job_run(world: World, job: ManagedJob) -> bool:
    """Start ``job`` for the version that was just written; one version runs once."""
    where = {"workspace": job.workspace, "id": job.id}
    return world.workflows.start("job", f"{job.uid}-{job.version}", {"job": where})
