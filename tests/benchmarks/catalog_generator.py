"""A catalog of realistic size and shape, from a seed: 3 clouds, 139 regions, about 115,000 offers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from stix.catalog.row import CatalogRow

__all__ = ["ACCELERATORS", "AS_OF", "generate"]

AS_OF = 1_790_000_000.0

# name: GiB of memory, USD per hour of one, share of the regions that have it
ACCELERATORS: dict[str, tuple[float, float, float]] = {
    "T4": (16, 0.35, 0.8),
    "L4": (24, 0.6, 0.7),
    "A10G": (24, 0.9, 0.6),
    "A10": (24, 0.85, 0.5),
    "V100": (16, 2.4, 0.5),
    "V100-32GB": (32, 3.0, 0.3),
    "A100": (40, 3.2, 0.5),
    "A100-80GB": (80, 4.1, 0.5),
    "H100": (80, 9.8, 0.45),
    "H200": (141, 11.5, 0.25),
    "B200": (180, 14.0, 0.15),
    "L40S": (48, 1.8, 0.4),
    "RTXPRO6000": (96, 2.9, 0.2),
    "MI300X": (192, 6.0, 0.15),
    "Trainium": (32, 1.3, 0.15),
    "Inferentia2": (32, 0.75, 0.3),
    "M60": (8, 0.7, 0.2),
    "P100": (16, 1.4, 0.2),
}


@dataclass(frozen=True)
class _Cloud:
    name: str
    regions: int
    zones: int
    families: int


_CLOUDS = (_Cloud("aws", 32, 3, 70), _Cloud("gcp", 42, 3, 36), _Cloud("azure", 65, 0, 100))
_SIZES = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192)
_RATIOS = (2.0, 4.0, 4.0, 8.0, 8.0, 16.0)


@dataclass(frozen=True)
class _Type:
    name: str
    vcpus: float
    memory: float
    accelerator: str
    count: float
    arch: str
    price: float
    everywhere: float


def generate(seed: int = 7) -> Iterator[CatalogRow]:
    """Rows cloud by cloud; the same seed gives the same rows."""
    rng = random.Random(seed)
    for cloud in _CLOUDS:
        types = [*_cpu_types(cloud, rng), *_accelerated_types(cloud, rng)]
        for number in range(cloud.regions):
            region = f"{cloud.name}-region-{number:02}"
            level = rng.choice((1.0, 1.0, 1.04, 1.1, 1.18, 1.25, 1.4)) * rng.uniform(0.98, 1.02)
            offered = [kind for kind in types if rng.random() < kind.everywhere]
            zones = [f"{region}-{letter}" for letter in "abcdef"[: cloud.zones]] or [""]
            for kind in offered:
                price = round(kind.price * level, 6)
                spot = rng.uniform(0.12, 0.75)
                for zone in zones:
                    if zone and rng.random() < 0.08:
                        continue
                    ratio = min(0.95, max(0.08, spot * rng.uniform(0.8, 1.25)))
                    yield CatalogRow(
                        cloud=cloud.name,
                        region=region,
                        zone=zone,
                        instance_type=kind.name,
                        vcpus=kind.vcpus,
                        memory_gib=kind.memory,
                        accelerator=kind.accelerator,
                        accelerator_count=kind.count,
                        accelerator_memory_gib=ACCELERATORS[kind.accelerator][0] if kind.accelerator else 0,
                        arch=kind.arch,
                        price=price,
                        spot_price=round(price * ratio, 6) if rng.random() < 0.9 else None,
                        as_of=AS_OF,
                        source="generated",
                    )


def _cpu_types(cloud: _Cloud, rng: random.Random) -> Iterator[_Type]:
    for number in range(cloud.families):
        ratio = rng.choice(_RATIOS)
        arch = "arm64" if rng.random() < 0.25 else "x86_64"
        per_vcpu = rng.uniform(0.024, 0.042) * (0.82 if arch == "arm64" else 1.0)
        per_gib = rng.uniform(0.002, 0.0045)
        everywhere = rng.uniform(0.5, 1.0)
        largest = rng.choice((32, 64, 96, 192))
        for size in _SIZES:
            if size > largest:
                break
            price = size * (per_vcpu + ratio * per_gib)
            yield _Type(
                f"{cloud.name[0]}{number}r{ratio:g}-{size}",
                size,
                size * ratio,
                "",
                0.0,
                arch,
                price,
                everywhere,
            )


def _accelerated_types(cloud: _Cloud, rng: random.Random) -> Iterator[_Type]:
    for name, (_, hourly, everywhere) in ACCELERATORS.items():
        if rng.random() < 0.2 and name not in ("A100", "H100", "L4"):
            continue
        for count in (1, 2, 4, 8):
            for variant in range(rng.choice((1, 2, 3))):
                vcpus = count * rng.choice((4, 8, 12, 16))
                gib = vcpus * rng.choice((4.0, 8.0))
                price = count * hourly * rng.uniform(0.8, 1.3) + 0.03 * vcpus + 0.003 * gib
                kind = f"{cloud.name[0]}-{name.lower()}-{count}x-v{variant}"
                yield _Type(kind, vcpus, gib, name, float(count), "x86_64", price, everywhere)
