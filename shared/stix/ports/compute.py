"""What a cloud must be able to do, and the extra powers it may have.

Contract for every provider:

* ``create`` returns as soon as the provider accepted; called twice with one token it makes one gang.
* ``terminate``, ``stop``: an absent or already ended machine is success.
* Nothing here sleeps or polls. "Not finished" is a state in ``describe``, never an exception.
* Every refusal is raised as a ``ProviderError`` subclass (``stix.model.errors``).
* Listing goes through the provider's paginator to the last page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from stix.model.offer import Offer

__all__ = ["Compute", "DiscoversOffers", "GangRequest", "Machine", "MachineState", "Place", "StopsMachines"]


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
class GangRequest:
    """``count`` equal machines in one network, all or nothing.

    Attributes:
        token: deterministic and unique for the attempt; goes into the provider's idempotency field.
        tags: written on every machine; at least ``stix-deployment``, ``stix-cluster`` and ``stix-intent``.
        join_token: what the agents join with; expires.
        api_url: where the agents call.
        boot_seconds: after this the control plane gives up on the gang.
        ports: opened to the world with the cluster.
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


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine as its provider describes it."""

    id: str
    state: MachineState
    tags: Mapping[str, str]
    address: str = ""
    reason: str = ""


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


@runtime_checkable
class StopsMachines(Protocol):
    """Machines can be stopped, keeping their disks, and started again."""

    def stop(self, place: Place, machine_ids: Sequence[str]) -> None: ...

    def start(self, place: Place, machine_ids: Sequence[str]) -> None: ...


@runtime_checkable
class DiscoversOffers(Protocol):
    """Offers come from looking (this machine, a Kubernetes cluster), not from the catalog."""

    def offers(self) -> list[Offer]: ...
