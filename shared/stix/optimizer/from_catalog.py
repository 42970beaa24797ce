"""The catalog's tables of data, disks and accelerators, in the optimizer's terms."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Protocol

from stix.optimizer.catalog import AcceleratorFacts
from stix.optimizer.rates import Place, Rates, Tiers

__all__ = ["facts_of", "rates_of"]


class _Tier(Protocol):
    @property
    def up_to_gb(self) -> float: ...
    @property
    def usd_per_gb(self) -> float: ...


class _Spec(Protocol):
    @property
    def memory_gb(self) -> float: ...
    @property
    def manufacturer(self) -> str: ...
    @property
    def fp16_tflops(self) -> float: ...


def facts_of(specs: Mapping[str, _Spec]) -> dict[str, AcceleratorFacts]:
    """By canonical name."""
    return {
        name: AcceleratorFacts(spec.memory_gb, spec.manufacturer, spec.fp16_tflops)
        for name, spec in specs.items()
    }


def rates_of(
    tiers: Callable[[str, str, str, str], Sequence[_Tier] | None],
    disk_hour: Callable[[str, str, float], float],
    area: Callable[[str, str], Hashable],
) -> Rates:
    """``tiers`` and ``area`` take clouds and regions; where no price is published (None) nothing is
    charged."""
    known: dict[tuple[Place, Place], Tiers] = {}

    def egress(source: Place, target: Place) -> Tiers:
        pair = (source, target)
        if pair not in known:
            found = tiers(*source, *target) or ()
            known[pair] = tuple((tier.up_to_gb, tier.usd_per_gb) for tier in found)
        return known[pair]

    return Rates(egress, lambda place: area(*place), disk_hour)
