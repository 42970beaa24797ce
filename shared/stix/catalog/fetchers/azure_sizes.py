"""What an Azure size is, from its name: Azure's prices do not say, and its sizes API wants an account.

Names follow Azure's published convention ``Standard_<family><vCPUs><features>[_<GPU>]_v<version>``; a family
has so much memory per vCPU. Only families whose sizes are all regular are here, and GPU sizes one by one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from stix.catalog.row import CatalogRow

__all__ = ["Size", "size_of"]


@dataclass(frozen=True, slots=True)
class Size:
    """``accelerator_count`` below 1 is a share of one; memory in GiB, of one whole accelerator."""

    vcpus: float
    memory_gib: float
    accelerator: str = ""
    accelerator_count: float = 0.0
    accelerator_memory_gib: float = 0.0
    arch: str = "x86_64"

    def row(
        self,
        name: str,
        region: str,
        *,
        price: float | None,
        spot_price: float | None,
        as_of: float,
        source: str,
    ) -> CatalogRow:
        """The offer of this size under its ``name``; Azure prices whole regions."""
        return CatalogRow(
            cloud="azure",
            region=region,
            zone="",
            instance_type=name,
            vcpus=self.vcpus,
            memory_gib=self.memory_gib,
            accelerator=self.accelerator,
            accelerator_count=self.accelerator_count,
            accelerator_memory_gib=self.accelerator_memory_gib,
            arch=self.arch,
            price=price,
            spot_price=spot_price,
            as_of=as_of,
            source=source,
        )


# Azure's pages of the NC, ND and NV series. The shares of an A10 are a sixth, a third and a half.
_GPU_SIZES = {
    "Standard_NC4as_T4_v3": Size(4, 28, "T4", 1, 16),
    "Standard_NC8as_T4_v3": Size(8, 56, "T4", 1, 16),
    "Standard_NC16as_T4_v3": Size(16, 110, "T4", 1, 16),
    "Standard_NC64as_T4_v3": Size(64, 440, "T4", 4, 16),
    "Standard_NC6s_v3": Size(6, 112, "V100", 1, 16),
    "Standard_NC12s_v3": Size(12, 224, "V100", 2, 16),
    "Standard_NC24s_v3": Size(24, 448, "V100", 4, 16),
    "Standard_NC24rs_v3": Size(24, 448, "V100", 4, 16),
    "Standard_ND40rs_v2": Size(40, 672, "V100-32GB", 8, 32),
    "Standard_NC24ads_A100_v4": Size(24, 220, "A100-80GB", 1, 80),
    "Standard_NC48ads_A100_v4": Size(48, 440, "A100-80GB", 2, 80),
    "Standard_NC96ads_A100_v4": Size(96, 880, "A100-80GB", 4, 80),
    "Standard_ND96asr_v4": Size(96, 900, "A100", 8, 40),
    "Standard_ND96amsr_A100_v4": Size(96, 1900, "A100-80GB", 8, 80),
    "Standard_NC40ads_H100_v5": Size(40, 320, "H100-NVL", 1, 94),
    "Standard_NC80adis_H100_v5": Size(80, 640, "H100-NVL", 2, 94),
    "Standard_ND96isr_H100_v5": Size(96, 1900, "H100", 8, 80),
    "Standard_ND96isr_H200_v5": Size(96, 1850, "H200", 8, 141),
    "Standard_ND96isr_MI300X_v5": Size(96, 1850, "MI300X", 8, 192),
    "Standard_ND128isr_NDR_GB200_v6": Size(128, 900, "GB200", 4, 192, "arm64"),
    "Standard_NV6ads_A10_v5": Size(6, 55, "A10", 0.167, 24),
    "Standard_NV12ads_A10_v5": Size(12, 110, "A10", 0.333, 24),
    "Standard_NV18ads_A10_v5": Size(18, 220, "A10", 0.5, 24),
    "Standard_NV36ads_A10_v5": Size(36, 440, "A10", 1, 24),
    "Standard_NV36adms_A10_v5": Size(36, 880, "A10", 1, 24),
    "Standard_NV72ads_A10_v5": Size(72, 880, "A10", 2, 24),
}

_NAME = re.compile(
    r"Standard_(?P<family>[DEF])(?P<vcpus>\d+)(?P<features>[a-z]*)_v(?P<version>[2-9])", re.ASCII
)
# (family, l/m feature) -> GiB per vCPU. F is 2 up to version 2, and 4 (l: 2, m: 8) from version 6.
_GIB_PER_VCPU = {
    ("D", ""): 4.0,
    ("D", "l"): 2.0,
    ("E", ""): 8.0,
    ("F", ""): 4.0,
    ("F", "l"): 2.0,
    ("F", "m"): 8.0,
}
# Machines with less than their family's share, since the host has no more.
_MOST_REGULAR_VCPUS = {"E": 48, "D": 96, "F": 64}


def size_of(name: str) -> Size | None:
    """None for a size whose figures its name does not give."""
    if name in _GPU_SIZES:
        return _GPU_SIZES[name]
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    family, features, version = match["family"], match["features"], int(match["version"])
    vcpus = int(match["vcpus"])
    if vcpus > _MOST_REGULAR_VCPUS[family] or (family in "DE" and version < 3):
        return None
    share = next((letter for letter in "lm" if letter in features), "")
    per_vcpu = 2.0 if family == "F" and version == 2 else _GIB_PER_VCPU.get((family, share))
    if per_vcpu is None or (family == "F" and version not in (2, 6, 7)):
        return None
    return Size(vcpus, vcpus * per_vcpu, arch="arm64" if "p" in features else "x86_64")
