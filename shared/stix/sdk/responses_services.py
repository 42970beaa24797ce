"""The shapes of the API's answers about services, field for field those of ``stix.api.v1_services``."""

from __future__ import annotations

from typing import TypedDict

__all__ = [
    "Service",
    "ServiceAccepted",
    "ServiceDecision",
    "ServiceExplanation",
    "ServiceReplica",
    "ServiceVersion",
]


class ServiceAccepted(TypedDict):
    name: str
    version: int
    port: int
    endpoint: str


class ServiceReplica(TypedDict):
    id: int
    version: int
    status: str
    reason: str
    since: float
    launched_at: float
    ready_at: float | None
    ended_at: float | None
    cluster: str
    place: str
    instance_type: str
    accelerators: str
    spot: bool
    price: float
    address: str
    in_flight: int | None


class ServiceVersion(TypedDict):
    number: int
    created_at: float
    mode: str
    resources: str
    failed: bool


class Service(TypedDict):
    name: str
    user: str
    status: str
    reason: str
    since: float
    created_at: float
    ready_at: float | None
    endpoint: str
    endpoints: list[str]
    port: int
    private: bool
    policy: str
    load_balancing_policy: str
    active_version: int
    serving: list[int]
    versions: list[ServiceVersion]
    target: int | None
    ready_replicas: int
    replicas: list[ServiceReplica]
    request_rate: float | None
    queue_length: float | None
    latency_p95: float | None
    figures_at: float | None
    problem: str
    item: int


class ServiceDecision(TypedDict):
    at: float
    version: int
    target: int
    reason: str
    figures: str
    actions: list[str]


class ServiceExplanation(TypedDict):
    service: Service
    decisions: list[ServiceDecision]
    cost: float
    next_look_at: float | None
