"""Version 1 of the people's HTTP API: managed jobs."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from stix.api.v1 import LogPage, Progress, Request, Response, TaskRequest

__all__ = [
    "JobEventList",
    "JobRunList",
    "JobsCancelRequest",
    "JobsLaunchRequest",
    "ManagedJob",
    "ManagedJobAccepted",
    "ManagedJobEvent",
    "ManagedJobExplanation",
    "ManagedJobList",
    "ManagedJobRun",
    "ManagedJobTask",
    "PoolName",
    "RunLogPage",
]

JobName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?$", max_length=63)]


PoolName = Annotated[str, Field(pattern=r"^[A-Za-z]([-_.A-Za-z0-9]*[A-Za-z0-9])?$", max_length=63)]
MOST_JOBS = 10_000
"""Of one submission."""


class JobsLaunchRequest(Request):
    """Run tasks as one managed job: one task, or a pipeline (each with its ``depends_on``, else in a chain).
    With ``pool`` on workers of that pool, there also ``num_jobs`` times, each a job of its own. ``header``
    is the first document of a file of several, as a mapping."""

    name: JobName | None = None
    header: dict[str, Any] = Field(default={})
    pool: PoolName | None = None
    num_jobs: int = Field(default=1, ge=1, le=MOST_JOBS)
    tasks: list[TaskRequest] = Field(min_length=1, max_length=100)


class JobsCancelRequest(Request):
    """Managed jobs by number, every one of a pool, or every one of the caller's that has not ended.
    ``grace_seconds``: how long their tasks have after SIGTERM."""

    job_ids: list[Annotated[int, Field(ge=1)]] = Field(default=[], max_length=1000)
    all: bool = False
    pool: PoolName | None = None
    grace_seconds: float = Field(default=30.0, ge=0, le=300)


class ManagedJobAccepted(Response):
    """With ``num_jobs`` the numbers are ``job_id`` and those after it."""

    job_id: int
    name: str
    num_jobs: int = 1


class ManagedJobTask(Response):
    """``status`` is SkyPilot's ManagedJobStatus. ``after`` are the places of the tasks it runs after;
    ``recoveries`` counts lost machines, ``restarts`` repetitions after its own errors. One that is not
    ``primary`` ends with those that are."""

    index: int
    name: str = ""
    status: str
    reason: str = ""
    since: float
    resources: str = ""
    num_nodes: int = 1
    after: list[int] = Field(default=[])
    primary: bool = True
    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    strategy: str = ""
    recoveries: int = 0
    restarts: int = 0
    cluster: str = ""
    place: str = ""
    spot: bool = False
    task_id: str = ""


class ManagedJob(Response):
    """``status`` is SkyPilot's ManagedJobStatus; ``version`` grows with every change. ``group``: the name by
    which its tasks know each other, empty where they do not run side by side."""

    id: int
    name: str
    user: str = ""
    group: str = ""
    status: str
    reason: str = ""
    since: float
    submitted_at: float
    started_at: float | None = None
    ended_at: float | None = None
    deadline_at: float | None = None
    max_cost: float | None = None
    recoveries: int = 0
    pool: str = ""
    rank: int = 0
    num_jobs: int = 1
    version: int
    tasks: list[ManagedJobTask]


class ManagedJobList(Response):
    """Jobs that have not ended first, each half newest first."""

    jobs: list[ManagedJob]
    next: str | None = None


class ManagedJobEvent(Response):
    number: int
    at: float
    name: str
    task: int | None = None
    place: str = ""
    reason: str = ""


class JobEventList(Response):
    events: list[ManagedJobEvent]
    next: str | None = None


class ManagedJobRun(Response):
    """One run of one task; its log is at ``/v1/jobs/{job_id}/runs/{number}/logs``."""

    number: int
    task: int
    cluster: str
    begun_at: float
    reason: str = ""
    status: str = ""
    place: str = ""


class JobRunList(Response):
    runs: list[ManagedJobRun]
    next: str | None = None


class RunLogPage(LogPage):
    """As ``LogPage``; ``job`` is the run on its cluster."""


class ManagedJobExplanation(Response):
    """``decisions``: the newest events, oldest first. ``cost``: USD of all its clusters up to now;
    ``work_done`` of ``work``: seconds, where the job has a deadline."""

    job: ManagedJob
    decisions: list[Progress]
    cost: float
    work: float = 0.0
    work_done: float = 0.0
    next_look_at: float | None = None
