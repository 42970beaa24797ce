"""Google's SKUs: what a core, a gigabyte, a GPU and local SSD cost per hour, by region and market.

Machines have no SKU of their own: a machine's price is the sum of its parts'.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stix.catalog.fetchers.collect import number

__all__ = ["Parts"]

HOURS_PER_MONTH = 730.0
"""Google's own, for SKUs that are sold by the month."""

_LEFT_OUT = re.compile(
    r"custom|extended|premium|reserved|sole tenancy|commitment|suspended|upgrade|DWS|calendar|flex.start",
    re.IGNORECASE,
)
_SPOT = re.compile(r"^(spot )?preemptible ", re.IGNORECASE)
_MACHINE = re.compile(r"^(?P<family>.*?) ?(?:Instance )?(?P<part>Core|Ram) running in ", re.IGNORECASE)
_GPU = re.compile(
    r"^(?:nvidia )?(?:tesla )?(?P<name>.+?) GPU "
    r"(?:running in|attached to (?:spot )?preemptible VMs running in) ",
    re.IGNORECASE,
)
_LOCAL_SSD = re.compile(
    r"^SSD backed Local Storage(?: attached to (?:Spot )?Preemptible VMs)?(?: in |$)", re.I
)
_FAMILY = re.compile(r"[a-z]+[0-9]+[a-z]*")
_OLD_FAMILIES = {"compute optimized": "c2", "memory-optimized": "m1"}
_GPUS: Mapping[str, str] = {
    "p4": "P4",
    "p100": "P100",
    "v100": "V100",
    "t4": "T4",
    "l4": "L4",
    "a100": "A100",
    "a100 80gb": "A100-80GB",
    "h100 80gb": "H100",
    "h100 80gb mega": "H100-MEGA",
    "h100 80gb plus": "H100-MEGA",
    "h200 141gb": "H200",
    "h200": "H200",
    "b200": "B200",
    "b200 180gb": "B200",
    "gb200": "GB200",
    "rtx 6000 96gb": "RTXPRO6000",
    "rtx pro 6000": "RTXPRO6000",
    "rtx pro 6000 96gb": "RTXPRO6000",
}


@dataclass(slots=True)
class Parts:
    """USD per hour by part, region and market: ``core n2``, ``ram n2`` and ``ssd`` (per GiB), ``gpu T4``."""

    _prices: dict[tuple[str, str, bool], float] = field(default_factory=dict)

    def price(self, part: str, region: str, *, spot: bool) -> float | None:
        return self._prices.get((part, region, spot))

    def add(self, sku: Mapping[str, Any]) -> None:
        """Of any SKU of Compute Engine; those of no use are passed over.

        Raises ``KeyError``, ``TypeError``, ``ValueError`` and ``IndexError`` for one of another format.
        """
        category = sku["category"]
        if category["usageType"] not in ("OnDemand", "Preemptible"):
            return
        description = str(sku["description"])
        part = _part(category["resourceFamily"], _SPOT.sub("", description))
        if not part or _LEFT_OUT.search(description):
            return
        price = _unit_price(sku["pricingInfo"][-1]["pricingExpression"])
        if part == "ssd":
            price /= HOURS_PER_MONTH
        for region in sku["serviceRegions"]:
            self._prices[part, region, category["usageType"] == "Preemptible"] = price


def _part(resource_family: str, description: str) -> str:
    if resource_family == "Storage":
        return "ssd" if _LOCAL_SSD.match(description) else ""
    if resource_family != "Compute":
        return ""
    if gpu := _GPU.match(description):
        name = _GPUS.get(gpu["name"].lower(), "")
        return f"gpu {name}" if name else ""
    if machine := _MACHINE.match(description):
        family = _family(machine["family"].lower())
        return f"{machine['part'].lower()} {family}" if family else ""
    return ""


def _family(text: str) -> str:
    """``n2d amd`` is n2d; the two first special families were named in words."""
    first = text.partition(" ")[0]
    return first if _FAMILY.fullmatch(first) else _OLD_FAMILIES.get(text.removesuffix(" instance"), "")


def _unit_price(expression: Mapping[str, Any]) -> float:
    """USD of the dearest tier: a first tier may be a free allowance."""
    prices = []
    for tier in expression["tieredRates"]:
        price = tier["unitPrice"]
        if price["currencyCode"] != "USD":
            raise ValueError("not in USD")
        prices.append(number(price.get("units") or 0) + number(price.get("nanos") or 0) / 1e9)
    return max(prices)
