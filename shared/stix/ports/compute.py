"""What a cloud must be able to do, and the extra powers it may have.

Contract for every provider:

* ``create`` returns as soon as the provider accepted; called twice with one token it makes one gang.
* ``terminate``, ``stop``, ``release``: an absent or already ended machine is success.
* Nothing here sleeps or polls. "Not finished" is a state in ``describe``, or ``NotYetTerminatedError``.
* Every refusal is raised as a ``ProviderError`` subclass (``stix.model.errors``). A call whose outcome nobody
  knows (time-out, broken connection, the provider's 5xx) raises ``UnavailableError``: the same call again,
  with the same token, finds what the first one made.
* Listing goes through the provider's paginator to the last page, and shows whatever may still cost money.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from stix.model.errors import Blocks, ProviderError, StixError
from stix.model.offer import Offer

__all__ = [
    "AgentSource",
    "Compute",
    "DiscoversOffers",
    "GangRequest",
    "HoldsMore",
    "Machine",
    "MachineState",
    "Place",
    "Quota",
    "Refusal",
    "ReportsQuotas",
    "StopsMachines",
]


class MachineState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    TERMINATING = "terminating"
    TERMINATED = "terminated"


@dataclass(frozen=True, slots=True)
class Place:
    """Where an account's machines are listed: a cloud and a region of it."""

    cloud: str
    region: str


@dataclass(frozen=True, slots=True)
class AgentSource:
    """Where a machine fetches its agent: ``{api_url}/agent/v1/archive/{sha256}`` answers with a redirect."""

    api_url: str
    sha256: str


@dataclass(frozen=True, slots=True)
class GangRequest:
    """``count`` equal machines in one network, all or nothing.

    Attributes:
        token: deterministic and unique for the attempt; goes into the provider's idempotency field. 32 hex
            digits.
        offer: where no zone is named, the provider may take any zone of the region, one for the whole gang.
        tags: written on every machine; at least ``stix-deployment``, ``stix-cluster`` and ``stix-intent``.
        join_token: what the agents join with; expires.
        api_url: where the agents call.
        agent: what the machines run; None where the provider brings the agent itself (the local one).
        boot_seconds: after this the control plane gives up on the gang.
        ports: opened to the world with the cluster, as people write them: ``8080``, ``9000-9010``.
        disk_size_gib: of the boot disk; 0 leaves it to the provider's default.
        disk_tier: ``low``, ``medium``, ``high``, ``ultra``, ``best``; empty for the default.
        image: the machine image in the provider's own words, or ``docker:NAME`` (the agent runs it;
            Kubernetes makes it the pod's image); empty for the default.
    """

    token: str
    count: int
    offer: Offer
    tags: Mapping[str, str]
    join_token: str
    api_url: str
    boot_seconds: int
    ports: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    agent: AgentSource | None = None
    disk_size_gib: int = 0
    disk_tier: str = ""
    image: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a ``ProviderError`` said: its class by ``default_code``, and how far it reaches."""

    code: str
    blocks: Blocks

    @classmethod
    def of(cls, error: StixError | None) -> Refusal | None:
        """None for what is no refusal of a provider."""
        return cls(error.default_code, error.blocks) if isinstance(error, ProviderError) else None


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine as its provider describes it.

    ``id`` is what the machine itself can find out and joins with. ``address`` is the private one,
    ``public_address`` empty where it has none. ``preempted``: the provider took it, or is about to.
    ``refusal``: the creation was accepted first, and refused since (``CloudFacts.refuses_late``).
    ``ended_at``: since when it does not run, where its provider says so, else 0.
    """

    id: str
    state: MachineState
    tags: Mapping[str, str]
    address: str = ""
    reason: str = ""
    public_address: str = ""
    zone: str = ""
    preempted: bool = False
    refusal: Refusal | None = None
    ended_at: float = 0.0


class Compute(Protocol):
    """The small core that every cloud has."""

    cloud: str

    def create(self, request: GangRequest) -> list[str]:
        """Ids of the accepted machines, ``request.count`` of them or none (then an error was raised)."""
        ...

    def describe(self, place: Place, machine_ids: Sequence[str]) -> list[Machine]:
        """In the order of the ids; a machine that the provider does not know is TERMINATED."""
        ...

    def terminate(self, place: Place, machine_ids: Sequence[str]) -> None: ...

    def list_tagged(self, place: Place, deployment: str) -> Iterator[Machine]:
        """Every machine tagged ``stix-deployment=<deployment>`` that is not TERMINATED."""
        ...

    def identity(self) -> str:
        """Who the provider says the credentials are, for people. Raises ``CredentialsError``."""
        ...


@runtime_checkable
class StopsMachines(Protocol):
    """Machines can be stopped, keeping their disks, and started again."""

    def stop(self, place: Place, machine_ids: Sequence[str]) -> None: ...

    def start(self, place: Place, machine_ids: Sequence[str]) -> None: ...


@runtime_checkable
class DiscoversOffers(Protocol):
    """Offers come from looking (this machine, a Kubernetes cluster), not from the catalog."""

    def offers(self) -> list[Offer]: ...


@runtime_checkable
class HoldsMore(Protocol):
    """A gang holds more than its machines: a firewall rule, a launch template, a resource group."""

    def release(self, place: Place, token: str) -> None:
        """Delete all that was made for the gang besides its machines, which are gone.

        Raises ``NotYetTerminatedError`` while the provider still holds it.
        """
        ...


@dataclass(frozen=True, slots=True)
class Quota:
    """What an account may have in a region of one family (``CloudFacts.quota_family``) and market.

    ``limit`` and ``used`` are in ``unit``: ``vcpus``, ``accelerators`` or ``machines``.
    """

    family: str
    spot: bool
    limit: float
    used: float
    unit: str


@runtime_checkable
class ReportsQuotas(Protocol):
    """The account's quotas can be asked."""

    def quotas(self, place: Place) -> list[Quota]:
        """Those that bound machines; ``used`` is 0 where the provider does not say."""
        ...
