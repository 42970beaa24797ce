"""The shapes of the API's answers about managed jobs, field for field those of ``stix.api.v1_jobs``."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from stix.sdk.responses import Progress

__all__ = [
    "ManagedJob",
    "ManagedJobAccepted",
    "ManagedJobEvent",
    "ManagedJobExplanation",
    "ManagedJobRun",
    "ManagedJobTask",
]


class ManagedJobAccepted(TypedDict):
    job_id: int
    name: str
    num_jobs: NotRequired[int]


class ManagedJobTask(TypedDict):
    index: int
    name: str
    status: str
    reason: str
    since: float
    resources: str
    num_nodes: int
    after: list[int]
    primary: bool
    started_at: float | None
    ended_at: float | None
    exit_code: int | None
    strategy: str
    recoveries: int
    restarts: int
    cluster: str
    place: str
    spot: bool
    task_id: str


class ManagedJob(TypedDict):
    id: int
    name: str
    user: str
    group: str
    status: str
    reason: str
    since: float
    submitted_at: float
    started_at: float | None
    ended_at: float | None
    deadline_at: float | None
    max_cost: float | None
    recoveries: int
    pool: str
    rank: int
    num_jobs: int
    version: int
    tasks: list[ManagedJobTask]


class ManagedJobEvent(TypedDict):
    number: int
    at: float
    name: str
    task: int | None
    place: str
    reason: str


class ManagedJobRun(TypedDict):
    number: int
    task: int
    cluster: str
    begun_at: float
    reason: str
    status: str
    place: str


class ManagedJobExplanation(TypedDict):
    job: ManagedJob
    decisions: list[Progress]
    cost: float
    work: float
    work_done: float
    next_look_at: float | None
