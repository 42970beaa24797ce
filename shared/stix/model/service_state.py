"""A service, its replicas, and what gateways say of them, as they are kept."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from stix.model.offer import Offer
from stix.model.record import Record
from stix.model.service import ServiceSpec, parse_service
from stix.model.status import ReplicaStatus, ServiceStatus

__all__ = [
    "GatewayFigures",
    "GatewaySeen",
    "Replica",
    "ReplicaFigures",
    "Service",
    "ServiceDecision",
    "ServiceMemory",
    "ServiceVersion",
]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ServiceVersion(_Part):
    """One version of a service. ``spec`` is its ``service:`` section; ``request_key`` names the document with
    the task, without that section, and its files; ``secrets_key`` the task's secrets and ``tls_key`` the
    certificate and its key, where there are any. ``port``: where its replicas listen. ``blue_green``: how it
    takes over from the version before."""

    number: int
    created_at: float
    spec: dict[str, Any]
    request_key: str
    secrets_key: str = ""
    tls_key: str = ""
    port: int
    spot: bool = False
    num_nodes: int = 1
    resources: str = ""
    blue_green: bool = False
    failed: bool = False

    def parsed(self) -> ServiceSpec:
        spec = parse_service(self.spec)
        assert spec is not None
        return spec


class ServiceMemory(_Part):
    """What one decision leaves to the next (``stix.autoscaling``). ``lost_at``: when spot machines were last
    lost or refused in each place."""

    target: int | None = None
    above_since: float | None = None
    wanted: tuple[tuple[float, int], ...] = ()
    forgiven_at: float | None = None
    ready_version: int = 0
    lost_at: dict[str, float] = {}


class ServiceDecision(_Part):
    """A decision that did something, or wanted another number than the one before. ``figures``: what the
    gateways had counted, in words."""

    at: float
    version: int
    target: int
    reason: str
    figures: str = ""
    actions: tuple[str, ...] = ()


class Service(Record):
    """``uid`` is unique beyond its name, which another service may have later. ``port``: where its gateways
    listen, as long as it lives. ``tokens``: SHA-256 of those that let in, None where everybody may.

    ``active`` is the version that is launched: the newest, or after its failure the one before; ``serving``
    are those whose ready replicas take requests. ``replicas`` is the highest number that one had.
    ``down``: it is wanted to end; ``terminate``: replicas that a person wants ended. ``nudges`` counts the
    reasons to look at it, ``failures`` steps in a row that went wrong, ``refusals`` launches in a row that no
    place took; nothing is launched before ``launch_after``.
    """

    kind: ClassVar[str] = "service"

    name: str
    uid: str
    user: str = ""
    status: ServiceStatus = ServiceStatus.NO_REPLICA
    reason: str = ""
    since: float
    created_at: float
    ready_at: float | None = None
    ended_at: float | None = None
    down: bool = False
    port: int
    tokens: tuple[str, ...] | None = None
    versions: tuple[ServiceVersion, ...]
    active: int = 1
    serving: tuple[int, ...] = ()
    replicas: int = 0
    terminate: tuple[int, ...] = ()
    memory: ServiceMemory = ServiceMemory()
    decisions: tuple[ServiceDecision, ...] = ()
    nudges: int = 0
    failures: int = 0
    refusals: int = 0
    launch_after: float = 0.0

    @property
    def owner(self) -> str:
        """How a cluster or a run names the service it belongs to."""
        return f"service/{self.name}"

    def version_of(self, number: int) -> ServiceVersion:
        """Raises ``KeyError`` for one that is not kept any more."""
        for one in self.versions:
            if one.number == number:
                return one
        raise KeyError(number)

    @property
    def newest(self) -> ServiceVersion:
        return self.versions[-1]


class Replica(Record):
    """One cluster that runs a version of a service; ``id`` is never used again under the service's name.

    ``offer``: where it is, or will be asked for first. ``address`` and ``port``: where it takes requests,
    empty before its machine is up. ``gone_at``: notice was given that its machine is taken away by then.
    ``draining_since``: it takes no new requests; ``in_flight``: those in progress, None where nobody knows.
    ``ended_at``: its machines are to end, or are gone; ``closed``: its provider has said that none is left.
    """

    kind: ClassVar[str] = "replica"

    service: str
    service_uid: str
    id: int
    service_version: int
    status: ReplicaStatus = ReplicaStatus.PENDING
    reason: str = ""
    since: float
    offer: Offer
    launched_at: float
    ready_at: float | None = None
    ended_at: float | None = None
    cluster_id: str
    cluster_name: str
    cluster_job: int = 1
    address: str = ""
    port: int = 0
    gone_at: float | None = None
    draining_since: float | None = None
    in_flight: int | None = None
    closed: bool = False


class ReplicaFigures(_Part):
    """What a gateway says of a replica: its ``state`` as in ``status.json``."""

    state: str
    reason: str = ""
    in_flight: int | None = None


class GatewayFigures(Record):
    """What one gateway last said of one service, written only when it is news. Rates are requests per second,
    times seconds; ``metric`` is the custom metric's sum over its replicas."""

    kind: ClassVar[str] = "gateway_figures"

    service: str
    gateway_id: str
    at: float
    problem: str = ""
    requests: int = 0
    request_rate: float = 0.0
    in_flight: int = 0
    waiting: int = 0
    latency_p95: float | None = None
    metric: float | None = None
    replicas: dict[str, ReplicaFigures] = {}


class GatewaySeen(Record):
    """When a gateway was last heard: until then its figures held."""

    kind: ClassVar[str] = "gateway_seen"

    gateway_id: str
    at: float
