"""The shapes of the API's answers about pools, field for field those of ``stix.api.v1_pools``."""

from __future__ import annotations

from typing import TypedDict

from stix.sdk.responses import Progress

__all__ = ["Pool", "PoolAccepted", "PoolWorker"]


class PoolAccepted(TypedDict):
    name: str
    version: int
    created: bool


class PoolWorker(TypedDict):
    number: int
    version: int
    status: str
    reason: str
    since: float
    cluster: str
    launched_at: float
    ready_at: float | None
    place: str
    spot: bool
    price: float
    jobs: list[int]


class Pool(TypedDict):
    name: str
    user: str
    status: str
    reason: str
    since: float
    created_at: float
    version: int
    mode: str
    resources: str
    num_nodes: int
    min_workers: int
    max_workers: int
    queue_length_threshold: int
    upscale_delay_seconds: float
    downscale_delay_seconds: float
    target: int
    ready: int
    waiting: int
    running: int
    workers: list[PoolWorker]
    past: list[PoolWorker]
    decisions: list[Progress]
