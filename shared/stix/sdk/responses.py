"""The shapes of the API's answers as plain dictionaries: reading needs no model library.

Field for field the response models of ``stix.api.v1``; a server may add fields. Times are epoch seconds,
memory is GiB, money is USD.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

__all__ = [
    "Attempt",
    "Autostop",
    "Budget",
    "CloudCheck",
    "CloudChecks",
    "Cluster",
    "CostLine",
    "CostReport",
    "Endpoint",
    "Endpoints",
    "ErrorBody",
    "ExplainedOffer",
    "Explanation",
    "Health",
    "Job",
    "JobAccepted",
    "LaunchAccepted",
    "LogChunk",
    "LogPage",
    "Node",
    "NodeLog",
    "Operation",
    "OperationAccepted",
    "Plan",
    "PlannedOffer",
    "Progress",
    "Rebuild",
    "SshAccess",
    "SshNode",
    "Tunnel",
    "UploadTarget",
]


class ErrorBody(TypedDict):
    code: str
    message: str
    hint: NotRequired[str]
    details: NotRequired[dict[str, Any]]


class Health(TypedDict):
    status: str
    version: str
    protocol: int
    runtime: str
    deployment: str


class UploadTarget(TypedDict):
    key: str
    url: str | None
    method: str
    headers: dict[str, str]


class Autostop(TypedDict):
    idle_minutes: int | None
    down: bool
    wait_for: str


class PlannedOffer(TypedDict):
    rank: int
    cloud: str
    region: str
    zone: str
    instance_type: str
    vcpus: float
    memory_gib: float
    accelerators: str
    spot: bool
    num_nodes: int
    hourly_price: float
    price_as_of: float
    reason: str


class Plan(TypedDict):
    offers: list[PlannedOffer]


class LaunchAccepted(TypedDict):
    operation_id: str
    cluster: str
    job_id: int | None
    created: bool


class OperationAccepted(TypedDict):
    operation_id: str


class JobAccepted(TypedDict):
    cluster: str
    job_id: int


class Progress(TypedDict):
    at: float
    message: str


class Operation(TypedDict):
    id: str
    kind: str
    cluster: str
    status: str
    created_at: float
    ended_at: float | None
    job_id: int | None
    progress: list[Progress]
    error: ErrorBody | None


class Node(TypedDict):
    rank: int
    status: str
    reason: str
    address: str
    public_address: str
    machine_id: str
    vcpus: float | None
    memory_gib: float | None
    gpus: list[str]
    limits: dict[str, str]
    last_seen: float | None
    idle_since: float | None


class SshNode(TypedDict):
    rank: int
    up: bool
    ready: bool
    problem: str
    user: str
    port: int
    host_keys: list[str]
    session_manager: bool
    machine_id: str
    address: str
    public_address: str


class SshAccess(TypedDict):
    cluster: str
    cluster_id: str
    cloud: str
    region: str
    nodes: list[SshNode]


class Tunnel(TypedDict):
    id: str
    url: str


class Endpoint(TypedDict):
    port: int
    host: str
    url: str


class Endpoints(TypedDict):
    endpoints: list[Endpoint]
    reason: str


class Attempt(TypedDict):
    at: float
    place: str
    instance_type: str
    outcome: str
    reason: str
    spot: bool
    price: float
    seconds: float
    until: float


class ExplainedOffer(TypedDict):
    place: str
    instance_type: str
    spot: bool
    price: float
    price_as_of: float
    reason: str


class Explanation(TypedDict):
    name: str
    id: str
    status: str
    reason: str
    since: float
    created_at: float
    requested: dict[str, Any]
    num_nodes: int
    offers: int
    chosen: ExplainedOffer | None
    attempts: list[Attempt]
    next: list[ExplainedOffer]
    decisions: list[Progress]
    cost: float
    ends_at: float | None
    ends_because: str


class CostLine(TypedDict):
    cluster: str
    cluster_id: str
    user: str
    labels: dict[str, str]
    cloud: str
    region: str
    zone: str
    instance_type: str
    spot: bool
    num_nodes: int
    hourly_price: float
    price_as_of: float
    started_at: float
    ended_at: float | None
    seconds: float
    cost: float


class CostReport(TypedDict):
    since: float
    until: float
    lines: list[CostLine]
    truncated: bool


class Cluster(TypedDict):
    name: str
    id: str
    status: str
    reason: str
    since: float
    created_at: float
    last_use: str
    num_nodes: int
    cloud: str
    region: str
    zone: str
    instance_type: str
    vcpus: float | None
    memory_gib: float | None
    accelerators: str
    spot: bool
    hourly_price: float | None
    autostop: Autostop | None
    autostop_at: float | None
    user: str
    owner: NotRequired[str]
    labels: dict[str, str]
    ports: list[str]
    addresses: list[str]
    nodes: list[Node] | None
    attempts: list[Attempt] | None


class Job(TypedDict):
    id: int
    name: str
    cluster: str
    status: str
    reason: str
    user: str
    num_nodes: int
    resources: str
    submitted_at: float
    started_at: float | None
    ended_at: float | None
    exit_codes: list[int | None]
    exit_code: int | None
    task_id: str


class LogChunk(TypedDict):
    n: int
    url: str
    headers: dict[str, str]


class NodeLog(TypedDict):
    rank: int
    address: str
    count: int
    complete: bool
    chunks: list[LogChunk]


class LogPage(TypedDict):
    job: Job
    nodes: list[NodeLog]
    cursor: str
    done: bool


class CloudCheck(TypedDict):
    cloud: str
    enabled: bool
    reason: str
    hint: str
    details: dict[str, str]


class CloudChecks(TypedDict):
    clouds: list[CloudCheck]


class Rebuild(TypedDict):
    armed: bool
    reason: str
    waiting: list[str]
    visited: list[str]
    clusters: list[str]


class Budget(TypedDict):
    monthly: float | None
    spent: float
    rate: float
    since: float
    until: float
