"""One step of a managed job: what it changes is collected, and written in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stix.application.job_entries import entry_writes
from stix.application.nudge_job import wait_topic
from stix.application.nudge_pool import nudge_pool
from stix.application.records import load, managed_job_key, put
from stix.application.world import World
from stix.lifecycle.managed_job import job_status
from stix.model.errors import NotFoundError
from stix.model.managed_job import JobEvent, JobTask, ManagedJob
from stix.model.status import ManagedJobStatus
from stix.ports.state_store import Write
from stix.ports.surroundings import Event

__all__ = ["CHECK_SECONDS", "EVENTS_KEPT_SECONDS", "Draft", "find_job", "get_job"]

CHECK_SECONDS = 3600.0
"""How often a job to which nothing happens is looked at."""
EVENTS_KEPT_SECONDS = 90 * 86400.0
"""As long as logs."""

_NAMES = {
    ManagedJobStatus.SUCCEEDED: "ManagedJobSucceeded",
    ManagedJobStatus.CANCELLED: "ManagedJobCancelled",
}


def find_job(world: World, workspace: str, number: int) -> ManagedJob | None:
    item = world.store.get(managed_job_key(workspace, number))
    return None if item is None else load(ManagedJob, item)


def get_job(world: World, workspace: str, number: int) -> ManagedJob:
    """Raises ``NotFoundError``."""
    job = find_job(world, workspace, number)
    if job is None:
        raise NotFoundError(
            f"There is no managed job {number}.", hint="`stix jobs queue` lists them.", code="job_not_found"
        )
    return job


class Draft:
    """A managed job as it was read, and as it will be. Times are those of its making."""

    def __init__(self, world: World, job: ManagedJob) -> None:
        self.world = world
        self.now = world.clock.now()
        self.job = job
        self._events: list[JobEvent] = []
        self._also: list[Write] = []
        self._moved_seats = False
        self._due_at = self.now + CHECK_SECONDS

    def change(self, **changes: Any) -> None:
        self.job = self.job.changed(**changes)

    def task(self, index: int) -> JobTask:
        return self.job.tasks[index]

    def change_task(self, index: int, **changes: Any) -> None:
        """A new status begins now."""
        task = self.job.tasks[index]
        if changes.get("status", task.status) is not task.status:
            changes.setdefault("since", self.now)
        tasks = list(self.job.tasks)
        tasks[index] = task.model_copy(update=changes)
        self.change(tasks=tuple(tasks))

    def write_seat(self, write: Write) -> None:
        """What is written of its place in a pool, together with the step; the pool hears of it afterwards."""
        self._also.append(write)
        self._moved_seats = True

    def look_at(self, moment: float) -> None:
        """Somebody must look by then."""
        self._due_at = min(self._due_at, moment)

    def say(self, name: str, reason: str, *, task: int | None = None, place: str = "") -> None:
        """Keep an event, and publish it once the step is written."""
        number = self.job.events + 1
        self.change(events=number)
        self._events.append(
            JobEvent(
                workspace=self.job.workspace,
                job_id=self.job.id,
                number=number,
                at=self.now,
                name=name,
                task=task,
                place=place,
                reason=reason,
                expires_at=self.now + EVENTS_KEPT_SECONDS,
            )
        )

    def end_task(self, index: int, status: ManagedJobStatus, reason: str) -> None:
        """The task is over; what it held must have been let go."""
        task = self.task(index)
        self.change_task(index, status=status, reason=reason, ended_at=self.now, not_before=0.0)
        if len(self.job.tasks) > 1:
            self.say("TaskEnded", f"{status}{f': {reason}' if reason else ''}", task=index)
        if task.plan_key:
            self.world.objects.delete(task.plan_key)
        if task.secrets_key:
            # Before the end is written: after it nobody would come back for them.
            self.world.secrets.delete(task.secrets_key)

    def settle(self) -> None:
        """The status of the whole follows from its tasks. It does not end before its clusters are to go."""
        ending = self.job.cancel_requested or bool(self.job.stopped)
        status, reason = job_status(self.job.tasks, cancelling=ending)
        if status.terminal and self.job.leaving:
            # Its last log is on its way: until then it shows what it did last.
            status = ManagedJobStatus.CANCELLING if ending else self.job.status
        changes: dict[str, Any] = {"reason": reason}
        if status is not self.job.status:
            changes |= {"status": status, "since": self.now}
        if self.job.started_at is None:
            began = [task.started_at for task in self.job.tasks if task.started_at is not None]
            changes |= {"started_at": min(began, default=None)}
        if status.terminal:
            changes |= {"ended_at": self.now, "expires_at": self.now + self.world.limits.retention_seconds}
            self.say(_NAMES.get(status, "ManagedJobFailed"), reason)
        self.change(failures=0, **changes)

    @property
    def due_at(self) -> float:
        return max(self._due_at, self.now + 1.0)

    def writes(self) -> list[Write]:
        """The job and its events, conditional on the version that was read."""
        due_at = None if self.job.status.terminal else self.due_at
        entries = entry_writes(self.job) if self.job.status.terminal else []
        events = [put(event) for event in self._events]
        return [put(self.job.changed(due_at=due_at)), *events, *entries, *self._also]

    def commit(self, also: Sequence[Write] = ()) -> None:
        """Raises ``VersionConflictError``: somebody else moved the job, and the step is to be taken again."""
        self.world.store.transact([*self.writes(), *also])
        self.announce()

    def announce(self) -> None:
        """Tell whoever waits, after the step was written."""
        workspace, number = self.job.workspace, self.job.id
        for event in self._events:
            detail: dict[str, Any] = {"job": self.job.name, "number": event.number, "reason": event.reason}
            if event.task is not None:
                detail["task"] = event.task
            if event.place:
                detail["place"] = event.place
            self.world.events.publish(Event(event.name, workspace, str(number), event.at, detail))
        self.world.wake.wake(wait_topic(workspace, number))
        if self._moved_seats:
            nudge_pool(self.world, workspace, self.job.pool)
