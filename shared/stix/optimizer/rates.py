"""What disks and the transport of data cost, and how long the transport takes."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

__all__ = ["HOURS_PER_MONTH", "Place", "Rates", "Tiers", "tiered_cost"]

HOURS_PER_MONTH = 730.0
Place = tuple[str, str]
"""Cloud and region."""
Tiers = tuple[tuple[float, float], ...]
"""(GB of the month up to which it holds, USD per GB), the last one without an end."""


def tiered_cost(tiers: Tiers, gb: float) -> float:
    """USD for ``gb``, from the first tier on."""
    total = below = 0.0
    for upto, price in tiers:
        if gb <= below:
            break
        total += (min(gb, upto) - below) * price
        below = upto
    return total


def _free(_source: Place, _target: Place) -> Tiers:
    return ()


def _cloud(place: Place) -> Hashable:
    return place[0]


def _included(_cloud: str, _tier: str, _gb: float) -> float:
    return 0.0


@dataclass(frozen=True, slots=True)
class Rates:
    """How places charge.

    ``egress(source, target)``: the price of what leaves a region for another; inside a region nothing is due.
    ``area(place)``: two regions of a cloud with equal areas pay the same to each other and to any third.
    ``disk_hour(cloud, tier, gb)``: USD per hour of one disk.

    The speeds are in Gbit/s, between regions of one cloud and across clouds: what we assume of one task's
    data, not what a cloud promises.
    """

    egress: Callable[[Place, Place], Tiers] = _free
    area: Callable[[Place], Hashable] = _cloud
    disk_hour: Callable[[str, str, float], float] = _included
    between_gbps: float = 5.0
    across_gbps: float = 1.0

    def move_cost(self, source: Place, target: Place, gb: float) -> float:
        """USD for ``gb`` from one region to another."""
        return 0.0 if source == target or not gb else tiered_cost(self.egress(source, target), gb)

    def between_seconds(self, gb: float) -> float:
        return gb * 8 / self.between_gbps

    def across_seconds(self, gb: float) -> float:
        return gb * 8 / self.across_gbps
