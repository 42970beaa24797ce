"""One bounded step of a managed job: look at what it has, decide, and act on it by launching or letting go.

Every step is one conditional write of the job, with its events and, where it launches, with the new cluster.
What it does besides (taking a cluster down, asking an agent to end a run) may be done twice. A job ends only
after the table says of each of its clusters that it is to go.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stix.application.advance_task import advance_task, end_held, take_late_success
from stix.application.checkpoints import forget
from stix.application.job_copies import make_copies
from stix.application.job_costs import stop_at_limit
from stix.application.job_draft import Draft, find_job
from stix.application.job_groups import tell_hosts, to_end_now
from stix.application.observe_run import cluster_and_job, log_is_whole
from stix.application.pool_seats import close_seats
from stix.application.records import managed_job_key, update
from stix.application.runs import failure_reason
from stix.application.take_steps import OVER, take_steps
from stix.application.want import begin
from stix.application.world import World
from stix.lifecycle.managed_job import failed_task
from stix.model.managed_job import ManagedJob
from stix.model.status import ClusterStatus, JobStatus, ManagedJobStatus, Wanted

__all__ = ["advance", "record_failure"]

_STEPS = 40
_FIRST_RETRY, _LONGEST_RETRY = 10.0, 600.0


def advance(world: World, workspace: str, number: int) -> dict[str, Any]:
    """Step until there is nothing to do now.

    ``outcome``: ENDED; SETTLED; SOON, where the next moment is less than a minute away, ``wait_seconds`` from
    now; or BUSY, where others write the job all the time: it stays due. Raises the errors of the stores and
    providers, to be tried again.
    """

    def step() -> float | None:
        job = find_job(world, workspace, number)
        return OVER if job is None or job.status.terminal else _step(world, job)

    return take_steps(world, step, _STEPS)


def _step(world: World, job: ManagedJob) -> float | None:
    """Take one step: when to look again, None for at once."""
    if job.made < job.num_jobs:
        make_copies(world, job)
        return None
    draft = Draft(world, job)
    _take_down(draft)
    stop_at_limit(draft)
    every = range(len(job.tasks))
    why = "cancelled" if job.cancel_requested else draft.job.stopped
    if why or failed_task(job.tasks) is not None:
        _cancel_tasks(draft, every, why or "another task failed")
    else:
        _cancel_tasks(draft, to_end_now(draft), "the primary tasks have ended")
        for index in every:
            if advance_task(draft, index):
                return None  # it launched, which wrote the step
        if job.connected:
            tell_hosts(draft)
    if job.pool:
        close_seats(draft)
    over = not draft.job.leaving and all(task.status.terminal for task in draft.job.tasks)
    if over and not forget(world, draft.job):
        draft.look_at(draft.now + 1.0)
    else:
        draft.settle()
    draft.commit()
    ended = {task.index for task in job.tasks if task.status.terminal}
    # A task that ended may let another begin, and what was let go may be taken down already.
    more = any(one.status.terminal and one.index not in ended for one in draft.job.tasks)
    more |= draft.job.stopped != job.stopped
    more |= any(one.until <= draft.now for one in draft.job.leaving)
    return None if more else draft.due_at


def _take_down(draft: Draft) -> None:
    """End the clusters that the job has moved on from, once their runs have ended and told all."""
    world, kept, succeeded = draft.world, [], []
    for one in draft.job.leaving:
        cluster, run = cluster_and_job(world, draft.job.workspace, one.cluster_id, one.cluster_job)
        if run is not None and run.status is JobStatus.SUCCEEDED and one.task is not None:
            succeeded.append(one.task)
        if cluster is None or cluster.ended or cluster.wanted is Wanted.ABSENT:
            continue
        over = run is None or (run.status.terminal and log_is_whole(world, run))
        if over or draft.now >= one.until or cluster.status is not ClusterStatus.UP:
            if not one.kept:
                begin(world, cluster, "down", Wanted.ABSENT, one.reason)
            continue
        kept.append(one)
        draft.look_at(one.until)
    draft.change(leaving=tuple(kept))
    for index in succeeded:
        take_late_success(draft, index)


def _cancel_tasks(draft: Draft, indices: Iterable[int], reason: str) -> None:
    """Ask the agents to end what runs, with their grace, and let its clusters go."""
    for task in [draft.task(index) for index in indices]:
        if task.status.terminal:
            continue
        end_held(draft, task.index, reason)
        draft.end_task(task.index, ManagedJobStatus.CANCELLED, reason)


def record_failure(world: World, workspace: str, number: int, failure: dict[str, Any]) -> dict[str, Any]:
    """A step went wrong, however often it was tried: say so, and look again later."""
    now = world.clock.now()
    reason = failure_reason(failure)

    def change(job: ManagedJob) -> ManagedJob | None:
        if job.status.terminal:
            return None
        wait = min(_LONGEST_RETRY, _FIRST_RETRY * 2 ** min(job.failures, 10))
        return job.changed(failures=job.failures + 1, due_at=now + wait, reason=f"a step failed: {reason}")

    job = update(world, ManagedJob, managed_job_key(workspace, number), change)
    return {"outcome": "MOVED" if job is None or job.status.terminal else "RECORDED"}
