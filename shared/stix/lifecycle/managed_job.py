"""What follows for a managed job from how its tasks and their runs stand. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Sequence

from stix.model.managed_job import JobTask, ManagedJob
from stix.model.status import ManagedJobStatus

__all__ = [
    "MOST_TROUBLES",
    "failed_task",
    "job_status",
    "may_begin",
    "primaries_done",
    "queue_entries",
    "refusal_pause",
    "restart_pause",
    "restarts",
]

MOST_TROUBLES = 3
"""Runs in a row that healthy machines did not carry out; then the task is given up."""

_QUICK_SECONDS = 60.0
_SHORTEST_PAUSE, _LONGEST_PAUSE = 5.0, 300.0
_MOST_PLACES = 10
_ORDER = (
    ManagedJobStatus.RECOVERING,
    ManagedJobStatus.RUNNING,
    ManagedJobStatus.STARTING,
    ManagedJobStatus.CANCELLING,
)


def failed_task(tasks: Sequence[JobTask]) -> JobTask | None:
    """The first of those whose failure is the job's: what merely serves the others may fail."""
    return next((task for task in tasks if task.primary and task.status.failed), None)


def primaries_done(tasks: Sequence[JobTask]) -> bool:
    """Whether what the job is there for has succeeded, so that the other tasks are to end."""
    return all(task.status is ManagedJobStatus.SUCCEEDED for task in tasks if task.primary)


def job_status(tasks: Sequence[JobTask], *, cancelling: bool) -> tuple[ManagedJobStatus, str]:
    """The status of the whole, and its reason: the first failure among its tasks, else what goes on. Tasks
    that are not primary count only while they go on."""
    failed = failed_task(tasks)
    if all(task.status.terminal for task in tasks):
        if failed is not None:
            return failed.status, _named(tasks, failed)
        ended = [task for task in tasks if task.primary]
        cancelled = next((task for task in ended if task.status is ManagedJobStatus.CANCELLED), None)
        if cancelled is not None:
            return ManagedJobStatus.CANCELLED, cancelled.reason
        return ManagedJobStatus.SUCCEEDED, ""
    if cancelling or failed is not None:
        return ManagedJobStatus.CANCELLING, "" if failed is None else _named(tasks, failed)
    going = [task for task in tasks if task.primary and not task.status.terminal] or tasks
    for status in _ORDER:
        found = next((task for task in going if task.status is status), None)
        if found is not None:
            return status, _named(tasks, found)
    waiting = next(task for task in going if not task.status.terminal)
    return ManagedJobStatus.PENDING, _named(tasks, waiting)


def _named(tasks: Sequence[JobTask], task: JobTask) -> str:
    if len(tasks) == 1 or not task.reason:
        return task.reason
    return f"{task.name or f'task {task.index + 1}'}: {task.reason}"


def may_begin(tasks: Sequence[JobTask], task: JobTask) -> bool:
    """Whether all that it runs after has succeeded."""
    return all(tasks[parent].status is ManagedJobStatus.SUCCEEDED for parent in task.parents)


def restarts(task: JobTask, exit_code: int | None) -> tuple[bool, bool]:
    """After an error of the task's own: whether it is run again, and whether that counts towards
    ``max_restarts_on_errors``."""
    if exit_code is not None and exit_code in task.restart_codes:
        return True, False
    return task.errors < task.max_restarts, True


def restart_pause(task: JobTask, ran_for: float) -> float:
    """Seconds before a run that ended with an error is repeated: none after a run of a minute, longer with
    each quick one, so that a program that cannot start does not spin."""
    if ran_for >= _QUICK_SECONDS:
        return 0.0
    return float(min(_LONGEST_PAUSE, _SHORTEST_PAUSE * 2 ** min(task.restarts, 10)))


def refusal_pause(task: JobTask) -> float:
    """Seconds before the next launch after ``refusals`` in a row. Places that refused are left alone by what
    is remembered of them; this is for refusals that say nothing of a place. With a deadline at most half a
    minute."""
    longest = _LONGEST_PAUSE if task.deadline_at is None else 30.0
    return float(min(longest, _SHORTEST_PAUSE * 2 ** min(task.refusals, 10)))


def queue_entries(job: ManagedJob) -> list[str]:
    """By what a job that has ended is found: its user, its status, and where its tasks were last."""
    found = [f"user={job.user}", f"status={job.status}"]
    for place in list(dict.fromkeys(task.place for task in job.tasks if task.place))[:_MOST_PLACES]:
        parts = place.split("/")
        found += [f"infra={'/'.join(parts[: length + 1])}" for length in range(len(parts))]
    return list(dict.fromkeys(found))
