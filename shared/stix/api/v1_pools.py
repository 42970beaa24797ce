"""Version 1 of the people's HTTP API: pools of workers for managed jobs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stix.api.v1 import LogPage, Progress, Request, Response, TaskRequest

__all__ = [
    "Pool",
    "PoolAccepted",
    "PoolApplyRequest",
    "PoolDownAccepted",
    "PoolDownRequest",
    "PoolList",
    "PoolWorker",
    "WorkerLogPage",
]


class PoolApplyRequest(Request):
    """``task`` says what its workers are: resources and setup, and in ``pool`` how many. ``workers`` is their
    number instead; without ``task`` of a pool that exists. ``mode``: how other workers take over."""

    task: TaskRequest | None = None
    workers: int | None = Field(default=None, ge=0, le=500)
    mode: Literal["rolling", "blue_green"] = "rolling"


class PoolDownRequest(Request):
    """``drain``: its jobs end first; else they are cancelled."""

    drain: bool = False


class PoolAccepted(Response):
    """``version`` of the worker template; ``created``: there was no such pool before."""

    name: str
    version: int
    created: bool


class PoolDownAccepted(Response):
    name: str


class PoolWorker(Response):
    """``status`` is SkyPilot's ReplicaStatus, ``price`` USD an hour, ``jobs`` the managed jobs it has."""

    number: int
    version: int
    status: str
    reason: str = ""
    since: float
    cluster: str
    launched_at: float
    ready_at: float | None = None
    place: str = ""
    spot: bool = False
    price: float = 0.0
    jobs: list[int] = Field(default=[])


class Pool(Response):
    """``waiting`` and ``running`` count jobs; ``target`` is how many workers there are to be now. ``past``
    are the last workers that are gone; both lists and ``decisions`` are empty in a list of pools."""

    name: str
    user: str = ""
    status: str
    reason: str = ""
    since: float
    created_at: float
    version: int
    mode: str
    resources: str = ""
    num_nodes: int = 1
    min_workers: int
    max_workers: int
    queue_length_threshold: int
    upscale_delay_seconds: float
    downscale_delay_seconds: float
    target: int
    ready: int
    waiting: int
    running: int
    workers: list[PoolWorker] = Field(default=[])
    past: list[PoolWorker] = Field(default=[])
    decisions: list[Progress] = Field(default=[])


class PoolList(Response):
    """Newest first."""

    pools: list[Pool]
    next: str | None = None


class WorkerLogPage(LogPage):
    """As ``LogPage``, of a worker's setup."""
