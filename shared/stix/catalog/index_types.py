"""What is asked of the index, and what it answers."""

from __future__ import annotations

from typing import NamedTuple, Protocol

__all__ = ["AcceleratorSummary", "CloudSummary", "MachineNeed", "PricedOffer"]


class MachineNeed(Protocol):
    """What one machine must have. Empty text and None ask for nothing.

    ``vcpus`` and ``memory_gib`` are exact unless ``..._at_least``; ``memory_gib`` is for each vCPU (at least)
    with ``memory_per_vcpu``. ``accelerator`` with a whole ``accelerator_count`` is exact; a share below 1 is
    met by any share from it up to a whole one.
    """

    @property
    def vcpus(self) -> float | None: ...
    @property
    def vcpus_at_least(self) -> bool: ...
    @property
    def memory_gib(self) -> float | None: ...
    @property
    def memory_at_least(self) -> bool: ...
    @property
    def memory_per_vcpu(self) -> bool: ...
    @property
    def accelerator(self) -> str: ...
    @property
    def accelerator_count(self) -> float: ...
    @property
    def instance_type(self) -> str: ...
    @property
    def cloud(self) -> str: ...
    @property
    def region(self) -> str: ...
    @property
    def zone(self) -> str: ...
    @property
    def arch(self) -> str: ...
    @property
    def local_disk_gib(self) -> float: ...


class PricedOffer(NamedTuple):
    """One machine in one place of one market. USD per hour, GiB, epoch seconds."""

    cloud: str
    region: str
    zone: str
    instance_type: str
    vcpus: float
    memory_gib: float
    accelerator: str
    accelerator_count: float
    arch: str
    spot: bool
    price: float
    as_of: float


class AcceleratorSummary(NamedTuple):
    """``memory_gib`` of one; the lowest prices of a machine with that many of it on that cloud."""

    accelerator: str
    accelerator_count: float
    cloud: str
    memory_gib: float
    regions: int
    price: float | None
    spot_price: float | None
    as_of: float


class CloudSummary(NamedTuple):
    cloud: str
    offers: int
    regions: int
    oldest: float
    newest: float
