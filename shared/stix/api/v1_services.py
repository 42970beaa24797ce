"""Version 1 of the people's HTTP API: services."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stix.api.v1 import ClusterNameField, LogPage, Request, Response, Sha256, TaskRequest

__all__ = [
    "ReplicaLogPage",
    "ReplicaTerminateRequest",
    "Service",
    "ServiceAccepted",
    "ServiceDecision",
    "ServiceDownRequest",
    "ServiceExplanation",
    "ServiceList",
    "ServiceReplica",
    "ServiceUpRequest",
    "ServiceUpdateRequest",
    "ServiceVersion",
    "TlsFiles",
]


class TlsFiles(Request):
    """PEM texts: the certificate with its chain, and its key."""

    certificate: Annotated[str, Field(min_length=1, max_length=200_000)]
    key: Annotated[str, Field(min_length=1, max_length=200_000, repr=False)]


class ServiceUpRequest(TaskRequest):
    """Serve a task that has a ``service:`` section. ``tls``: the files that the section names. ``tokens``:
    SHA-256 in hexadecimal of those that let in; None for a service that everybody may use."""

    name: ClusterNameField | None = None
    tls: TlsFiles | None = None
    tokens: list[Sha256] | None = Field(default=None, min_length=1, max_length=100)


class ServiceUpdateRequest(TaskRequest):
    """A new version of a service. ``mode``: replicas one by one, or all requests at once when as many are
    ready as are wanted."""

    mode: Literal["rolling", "blue_green"] = "rolling"
    tls: TlsFiles | None = None


class ServiceDownRequest(Request):
    """``purge``: forget the service even if its clouds cannot be reached."""

    purge: bool = False


class ReplicaTerminateRequest(Request):
    """``purge``: at once, without waiting for requests in progress or for its cloud."""

    purge: bool = False


class ServiceAccepted(Response):
    """``endpoint``: empty until a gateway is up."""

    name: str
    version: int
    port: int
    endpoint: str = ""


class ServiceReplica(Response):
    """``status`` is SkyPilot's ReplicaStatus. ``ended_at``: its machines are gone, or told to go."""

    id: int
    version: int
    status: str
    reason: str = ""
    since: float
    launched_at: float
    ready_at: float | None = None
    ended_at: float | None = None
    cluster: str = ""
    place: str = ""
    instance_type: str = ""
    accelerators: str = ""
    spot: bool = False
    price: float = 0.0
    address: str = ""
    in_flight: int | None = None


class ServiceVersion(Response):
    """``failed``: none of its replicas was ever ready, and one failed."""

    number: int
    created_at: float
    mode: str
    resources: str = ""
    failed: bool = False


class Service(Response):
    """``status`` is SkyPilot's ServiceStatus. ``active_version`` is launched; ``serving`` take requests;
    ``target`` is the number of replicas settled on; ``endpoints``: one for each gateway. Rates are requests
    a second over the last minute, latency seconds; ``figures_at``: as of when, None where no gateway has
    reported. ``item`` grows with every change."""

    name: str
    user: str = ""
    status: str
    reason: str = ""
    since: float
    created_at: float
    ready_at: float | None = None
    endpoint: str = ""
    endpoints: list[str] = Field(default=[])
    port: int
    private: bool = False
    policy: str = ""
    load_balancing_policy: str = ""
    active_version: int
    serving: list[int] = Field(default=[])
    versions: list[ServiceVersion] = Field(default=[])
    target: int | None = None
    ready_replicas: int = 0
    replicas: list[ServiceReplica] = Field(default=[])
    request_rate: float | None = None
    queue_length: float | None = None
    latency_p95: float | None = None
    figures_at: float | None = None
    problem: str = ""
    item: int = 0


class ServiceList(Response):
    """Newest first."""

    services: list[Service]
    next: str | None = None


class ReplicaLogPage(LogPage):
    """As ``LogPage``; ``job`` is the run of the replica."""


class ServiceDecision(Response):
    """``figures``: what the gateways had counted."""

    at: float
    version: int
    target: int
    reason: str
    figures: str = ""
    actions: list[str] = Field(default=[])


class ServiceExplanation(Response):
    """``decisions``: the last ones that did or wanted something else, oldest first. ``cost``: USD of the
    replicas that are listed, up to now."""

    service: Service
    decisions: list[ServiceDecision]
    cost: float
    next_look_at: float | None = None
