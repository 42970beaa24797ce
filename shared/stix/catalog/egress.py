"""What moving data costs: the tiers in ``data/egress.csv``, with their sources.

USD per GB (10^9 bytes) that leaves, by the month's volume; what arrives is free everywhere. Free monthly
allowances below 1 TB belong to the account and are not counted: another task may have used them.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

__all__ = ["EgressTier", "Kind", "egress_area", "egress_cost", "egress_kind", "egress_tiers"]

Kind = Literal["internet", "between_regions", "within_region"]

_FILE = Path(__file__).parent / "data" / "egress.csv"


@dataclass(frozen=True, slots=True)
class EgressTier:
    """``usd_per_gb`` for each GB up to ``up_to_gb`` of the month (infinite for the last tier)."""

    up_to_gb: float
    usd_per_gb: float


def egress_kind(cloud: str, region: str, to_cloud: str, to_region: str) -> Kind:
    """Between clouds it is the internet. ``within_region`` is between zones; inside a zone nothing is due."""
    if cloud != to_cloud:
        return "internet"
    return "within_region" if region == to_region else "between_regions"


def egress_tiers(cloud: str, region: str, to_cloud: str, to_region: str) -> tuple[EgressTier, ...] | None:
    """The tiers from one place to another, cheapest volume last; None where no price is published."""
    return _tiers(cloud, egress_kind(cloud, region, to_cloud, to_region), region, to_region)


@cache
def _tiers(cloud: str, kind: str, region: str, to_region: str) -> tuple[EgressTier, ...] | None:
    """Of the rules whose regions' beginnings fit, the one with the longest beginnings."""
    fitting = [
        (len(start) + len(end), start, end)
        for start, end in _rules().get((cloud, kind), {})
        if region.startswith(start) and to_region.startswith(end)
    ]
    if not fitting:
        return None
    _, start, end = max(fitting)
    return _rules()[cloud, kind][start, end]


_Rules = Mapping[tuple[str, str], Mapping[tuple[str, str], tuple[EgressTier, ...]]]


@cache
def _rules() -> _Rules:
    found: dict[tuple[str, str], dict[tuple[str, str], tuple[EgressTier, ...]]] = {}
    with _FILE.open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            rules = found.setdefault((line["cloud"], line["kind"]), {})
            tier = EgressTier(float(line["up_to_gb"] or "inf"), float(line["usd_per_gb"]))
            places = (line["from_region"], line["to_region"])
            rules[places] = (*rules.get(places, ()), tier)
    return found


def egress_cost(gb: float, tiers: tuple[EgressTier, ...]) -> float:
    """USD for ``gb`` in one month, from the first tier on."""
    cost, below = 0.0, 0.0
    for tier in tiers:
        if gb <= below:
            break
        cost += (min(gb, tier.up_to_gb) - below) * tier.usd_per_gb
        below = tier.up_to_gb
    return cost


def egress_area(cloud: str, region: str) -> tuple[str, ...]:
    """Regions of one cloud with equal areas pay the same for whatever leaves them for the same place, and so
    does what leaves any place for them."""
    return tuple(start for start in _beginnings(cloud) if region.startswith(start))


@cache
def _beginnings(cloud: str) -> tuple[str, ...]:
    named = {start for (of, _), rules in _rules().items() if of == cloud for pair in rules for start in pair}
    return tuple(sorted(named))
