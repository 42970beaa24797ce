"""A normalised offer, as fetchers write it and the index stores it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ARCHITECTURES", "CatalogRow"]

ARCHITECTURES = ("x86_64", "arm64")


@dataclass(frozen=True, slots=True)
class CatalogRow:
    """One instance type in one zone (or a whole region: ``zone`` empty) of a cloud.

    Attributes:
        accelerator: canonical name (``A100-80GB``), empty for none; ``accelerator_count`` may be fractional.
        accelerator_memory_gib: of one accelerator; 0 when unknown.
        price: on-demand USD per machine-hour; None where it cannot be had on demand.
        spot_price: USD per machine-hour; None where there is no spot market or no price is known.
        as_of: epoch seconds of the price.
        local_disk_gib: instance storage included in the price; 0 for none.
    """

    cloud: str
    region: str
    zone: str
    instance_type: str
    vcpus: float
    memory_gib: float
    accelerator: str = ""
    accelerator_count: float = 0.0
    accelerator_memory_gib: float = 0.0
    arch: str = "x86_64"
    price: float | None = None
    spot_price: float | None = None
    as_of: float = 0.0
    local_disk_gib: float = 0.0
    source: str = ""
