"""Google Cloud: the price table's prices of cores and memory, put together into machine types.

The spot price is the table's preemptible one. Sizes are Google's published machine types of each family.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from catalog.price_table import PriceTable
from stix.catalog.row import CatalogRow

__all__ = ["offers"]


@dataclass(frozen=True, slots=True)
class _Series:
    family: str
    kind: str
    gib_per_vcpu: float
    sizes: tuple[int, ...]


_N2_SIZES = (2, 4, 8, 16, 32, 48, 64, 80, 96)
SERIES = (
    _Series("e2", "standard", 4, (2, 4, 8, 16, 32)),
    _Series("e2", "highmem", 8, (2, 4, 8, 16)),
    _Series("e2", "highcpu", 1, (2, 4, 8, 16, 32)),
    _Series("n1", "standard", 3.75, (1, 2, 4, 8, 16, 32, 64, 96)),
    _Series("n1", "highmem", 6.5, (2, 4, 8, 16, 32, 64, 96)),
    _Series("n2", "standard", 4, (*_N2_SIZES, 128)),
    _Series("n2", "highmem", 8, _N2_SIZES),
    _Series("n2", "highcpu", 1, _N2_SIZES),
    _Series("n2d", "standard", 4, (*_N2_SIZES, 128, 224)),
    _Series("n2d", "highmem", 8, _N2_SIZES),
    _Series("n2d", "highcpu", 1, (*_N2_SIZES, 128, 224)),
    _Series("c2", "standard", 4, (4, 8, 16, 30, 60)),
)


def offers(table: PriceTable) -> Iterator[CatalogRow]:
    for series in SERIES:
        parts = table.compute["gce_instances"][series.family]
        for region in sorted(parts["cpu"]["on_demand"]):
            core, memory = (_unit(parts, part, "on_demand", region) for part in ("cpu", "ram"))
            spot_core, spot_memory = (_unit(parts, part, "preemptible", region) for part in ("cpu", "ram"))
            for vcpus in series.sizes:
                gib = vcpus * series.gib_per_vcpu
                price = vcpus * core + gib * memory if core and memory else None
                spot = vcpus * spot_core + gib * spot_memory if spot_core and spot_memory else None
                if price is not None:
                    yield CatalogRow(
                        cloud="gcp",
                        region=region,
                        zone="",
                        instance_type=f"{series.family}-{series.kind}-{vcpus}",
                        vcpus=float(vcpus),
                        memory_gib=gib,
                        price=round(price, 6),
                        spot_price=round(spot, 6) if spot is not None else None,
                        as_of=table.as_of,
                        source="libcloud",
                    )


def _unit(
    parts: dict[str, dict[str, dict[str, dict[str, float]]]], part: str, market: str, region: str
) -> float:
    """0 where it is not known."""
    return float(parts[part][market].get(region, {}).get("price", 0.0))
