"""What a decision about a service is made from, and what comes out of it. Times are epoch seconds, lengths
seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from stix.model.offer import Offer
from stix.model.service import ReplicaPolicy
from stix.model.status import ReplicaStatus

__all__ = [
    "Action",
    "Decision",
    "Drain",
    "Launch",
    "Memory",
    "Metrics",
    "Replica",
    "Terminate",
    "Terms",
]

_WITHOUT_MACHINE = frozenset({ReplicaStatus.PENDING, ReplicaStatus.PROVISIONING})
_ALIVE = frozenset({*_WITHOUT_MACHINE, ReplicaStatus.STARTING, ReplicaStatus.READY, ReplicaStatus.NOT_READY})


@dataclass(frozen=True, slots=True)
class Memory:
    """What one decision leaves to the next; the caller keeps it with the service.

    ``target``: the number of replicas last settled on. ``above_since``: since when more have been wanted.
    ``wanted``: falling numbers that were wanted lately, each with the last moment at which it was.
    ``forgiven_at``: when all places that had lost machines were last taken back. ``ready_version``: the
    newest version of which a replica has been ready.
    """

    target: int | None = None
    above_since: float | None = None
    wanted: tuple[tuple[float, int], ...] = ()
    forgiven_at: float | None = None
    ready_version: int = 0


@dataclass(frozen=True, slots=True)
class Terms:
    """The service as it is wanted.

    ``spot``: its replicas run on spot machines. ``version``: the one that is wanted; replicas of older ones
    give way, one by one as new ones become ready or with ``blue_green`` all at once. ``drain``: the longest
    that requests in progress are waited for.
    """

    policy: ReplicaPolicy
    spot: bool = False
    version: int = 1
    blue_green: bool = False
    drain: float = 120.0
    memory: Memory = Memory()


@dataclass(frozen=True, slots=True)
class Metrics:
    """What the gateway counted, as of ``as_of``.

    ``request_rate``: requests a second over the last minute. ``queue_length``: requests that were taken and
    are not answered, waiting or in progress. ``latency_p95``: of the answers of the last minute; None without
    any. ``custom``: the custom metric's sum over all replicas; None where nobody could be asked.
    """

    as_of: float
    request_rate: float = 0.0
    queue_length: float = 0.0
    latency_p95: float | None = None
    custom: float | None = None


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica as it was last seen.

    ``since``: of its status. ``gone_at``: notice was given that its machine will be taken away by then.
    ``draining_since``: it takes no new requests; its status is then ``SHUTTING_DOWN``, which without this
    means that its machine is being ended. ``in_flight``: requests in progress there, None where nobody knows.
    ``gone``: its machine is gone, and this is the record of it.
    """

    id: int
    offer: Offer
    status: ReplicaStatus
    since: float
    launched_at: float
    version: int = 1
    gone_at: float | None = None
    draining_since: float | None = None
    in_flight: int | None = None
    gone: bool = False

    @property
    def alive(self) -> bool:
        """It serves, or is on the way to it."""
        return not self.gone and self.status in _ALIVE

    @property
    def ready(self) -> bool:
        return not self.gone and self.status is ReplicaStatus.READY

    @property
    def leaving(self) -> bool:
        return self.gone_at is not None

    @property
    def has_machine(self) -> bool:
        return self.alive and self.status not in _WITHOUT_MACHINE


@dataclass(frozen=True, slots=True)
class Launch:
    """Start a replica of the wanted version on a machine of ``offer``."""

    offer: Offer
    reason: str


@dataclass(frozen=True, slots=True)
class Drain:
    """Send no new requests there; those in progress go on."""

    replica: int
    reason: str


@dataclass(frozen=True, slots=True)
class Terminate:
    """End its machine."""

    replica: int
    reason: str


Action: TypeAlias = Launch | Drain | Terminate


@dataclass(frozen=True, slots=True)
class Decision:
    """``versions``: those whose ready replicas take requests. ``version_failed``: the wanted version failed
    before any replica of it was ready, and is not launched again. ``missing``: replicas that are to be
    launched, also where no offer was given for them. ``look_again_at``: decide again by then
    even if nothing happens; None where nothing but news can change the decision."""

    actions: tuple[Action, ...]
    reason: str
    target: int
    versions: tuple[int, ...]
    memory: Memory
    look_again_at: float | None = None
    version_failed: bool = False
    missing: int = 0
