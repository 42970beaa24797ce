"""What the optimizer asks of a catalog, and what it must know of accelerators. The compiled index is one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from stix.optimizer.request import Machine

__all__ = ["AcceleratorFacts", "Catalog", "PricedOffer"]


class PricedOffer(Protocol):
    """One machine in one place of one market; USD per hour, GiB, epoch seconds."""

    @property
    def cloud(self) -> str: ...
    @property
    def region(self) -> str: ...
    @property
    def zone(self) -> str: ...
    @property
    def instance_type(self) -> str: ...
    @property
    def vcpus(self) -> float: ...
    @property
    def memory_gib(self) -> float: ...
    @property
    def accelerator(self) -> str: ...
    @property
    def accelerator_count(self) -> float: ...
    @property
    def arch(self) -> str: ...
    @property
    def spot(self) -> bool: ...
    @property
    def price(self) -> float: ...
    @property
    def as_of(self) -> float: ...


class Catalog(Protocol):
    """Offers that meet a machine, cheapest first; of equal prices fewer accelerators, the smaller machine,
    and names decide. An accelerator's count is met exactly where it is 1 or more, and by any share from it
    up to a whole one below that."""

    def best_per_place(self, need: Machine, *, spot: bool) -> Sequence[PricedOffer]: ...
    def best_per_region(self, need: Machine, *, spot: bool) -> Sequence[PricedOffer]: ...
    def matching(self, need: Machine, *, spot: bool) -> Iterator[PricedOffer]: ...
    def accelerator_memory(self) -> Mapping[str, float]: ...
    def accelerator_counts(self, name: str) -> Sequence[float]: ...
    def places(self) -> Sequence[tuple[str, str, str]]: ...


@dataclass(frozen=True, slots=True)
class AcceleratorFacts:
    """``tflops``: peak dense FP16/BF16 of one; 0 where it is not known."""

    memory_gib: float
    manufacturer: str = ""
    tflops: float = 0.0
