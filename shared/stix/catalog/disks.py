"""What a machine's disk costs: the prices in ``data/disks.csv``, with their sources."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["HOURS_PER_MONTH", "DiskPrice", "disk_hourly_price", "disk_price"]

HOURS_PER_MONTH = 730.0

_BEST_FIRST = ("ultra", "high", "medium", "low")
_FILE = Path(__file__).parent / "data" / "disks.csv"


@dataclass(frozen=True, slots=True)
class DiskPrice:
    """A tier's volume as we would make it: USD per month, by the GB and for its extra performance as a whole.

    Attributes:
        volume: the provider's name of the volume type.
        usd_per_month: provisioned operations and throughput beyond what the size includes.
    """

    cloud: str
    tier: str
    volume: str
    usd_per_gb_month: float
    usd_per_month: float


def disk_price(cloud: str, tier: str) -> DiskPrice | None:
    """``tier``: low, medium (also when empty), high, ultra, or best for the highest that the cloud has.

    None where no price of its own is published.
    """
    if tier == "best":
        tier = next((name for name in _BEST_FIRST if (cloud, name) in _prices()), "")
    return _prices().get((cloud, tier or "medium"))


def disk_hourly_price(cloud: str, tier: str, gb: float) -> float:
    """USD per hour of a disk of ``gb``; 0 where ``disk_price`` has none."""
    price = disk_price(cloud, tier)
    if price is None:
        return 0.0
    return (gb * price.usd_per_gb_month + price.usd_per_month) / HOURS_PER_MONTH


@cache
def _prices() -> Mapping[tuple[str, str], DiskPrice]:
    with _FILE.open(newline="", encoding="utf-8") as file:
        return {
            (line["cloud"], line["tier"]): DiskPrice(
                cloud=line["cloud"],
                tier=line["tier"],
                volume=line["volume"],
                usd_per_gb_month=float(line["usd_per_gb_month"]),
                usd_per_month=float(line["usd_per_month"]),
            )
            for line in csv.DictReader(file)
        }
