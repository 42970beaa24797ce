"""RunPod: ``GET /v2/catalog/{gpus,cpus}`` for prices and places, GraphQL for sizes and interruptible prices.

The v2 catalog has neither the vCPUs and memory that come with a GPU nor the prices of interruptible pods;
``gpuTypes`` of the older GraphQL API has both.
"""

from __future__ import annotations

from typing import Any

from stix.catalog.fetchers.collect import Rows, items, number
from stix.catalog.fetchers.names import accelerator_name
from stix.catalog.fetchers.web import PriceApi
from stix.catalog.row import CatalogRow
from stix.catalog.source import Fetched, FetchError

__all__ = ["CLOUD", "fetch"]

CLOUD = "runpod"
URL = "https://api.runpod.io/v2/catalog"
GRAPHQL = "https://api.runpod.io/graphql"
_COUNTS = (1, 2, 4, 8)
_TIERS = ("secure", "community")
# Two boards of one chip that RunPod prices apart; people who do not care ask for several names.
_OWN = {
    "nvidia a100-sxm4-80gb": "A100-80GB-SXM",
    "nvidia a100 80gb pcie": "A100-80GB",
    "nvidia h100 80gb hbm3": "H100-SXM",
    "nvidia h100 pcie": "H100",
    "nvidia h100 nvl": "H100-NVL",
    "nvidia h200": "H200-SXM",
    "nvidia l40": "L40",
    "nvidia rtx pro 6000 blackwell server edition": "RTXPRO6000",
    "nvidia rtx pro 6000 blackwell workstation edition": "RTXPRO6000",
    "amd instinct mi300x oam": "MI300X",
}


def fetch(api: PriceApi) -> Fetched:
    """The client sends ``Authorization: Bearer`` with a key."""
    now = api.now()
    rows = Rows(CLOUD, now=now)
    sizes = _sizes(api)
    for tier in _TIERS:
        params = {"include": "AVAILABILITY", "product": "POD", "cloud": tier.upper()}
        for gpu in items(api.get(f"{URL}/gpus", params=params), "gpus"):
            try:
                _add_gpu(rows, gpu, tier, sizes, now)
            except (AttributeError, KeyError, TypeError, ValueError) as exc:
                rows.malformed(type(exc).__name__)
    for cpu in items(api.get(f"{URL}/cpus", params={"include": "AVAILABILITY", "product": "POD"}), "cpus"):
        try:
            _add_cpu(rows, cpu, now)
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            rows.malformed(type(exc).__name__)
    return rows.finish()


def _sizes(api: PriceApi) -> dict[str, dict[str, Any]]:
    """By GPU id: interruptible prices per GPU, and for each tier and count vCPUs and memory."""
    fields = " ".join(
        f"{tier}{count}: lowestPrice(input: {{gpuCount: {count}, secureCloud: {secure}}})"
        " { minVcpu minMemory }"
        for tier, secure in (("secure", "true"), ("community", "false"))
        for count in _COUNTS
    )
    query = f"query {{ gpuTypes {{ id secureSpotPrice communitySpotPrice {fields} }} }}"
    answer = api.post(GRAPHQL, {"query": query})
    if isinstance(answer, dict) and answer.get("errors"):
        raise FetchError(f"runpod: GraphQL refused the query: {str(answer['errors'])[:200]}")
    return {str(gpu.get("id")): gpu for gpu in items(answer, "data", "gpuTypes") if isinstance(gpu, dict)}


def _add_gpu(
    rows: Rows, gpu: dict[str, Any], tier: str, sizes: dict[str, dict[str, Any]], now: float
) -> None:
    memory = number(gpu["memory"])
    accelerator = accelerator_name(gpu["id"], memory_gib=memory, own=_OWN) or accelerator_name(
        gpu["name"], memory_gib=memory
    )
    if not accelerator:
        rows.skip(f"unknown accelerator: {gpu['id']}")
        return
    price, most = number(gpu["price"][tier]), int(gpu["maxCount"][tier])
    known = sizes.get(gpu["id"], {})
    spot = known.get(f"{tier}SpotPrice")
    for count in (count for count in _COUNTS if count <= most):
        size = known.get(f"{tier}{count}") or {}
        if not size.get("minVcpu") or not size.get("minMemory"):
            rows.skip("out of stock: no size known")
            continue
        for center in _centers(gpu):
            rows.add(
                CatalogRow(
                    cloud=CLOUD,
                    region=_country(center),
                    zone=center,
                    instance_type=f"{count}x_{accelerator}_{tier.upper()}",
                    vcpus=number(size["minVcpu"]),
                    memory_gib=number(size["minMemory"]),
                    accelerator=accelerator,
                    accelerator_count=count,
                    accelerator_memory_gib=memory,
                    price=round(price * count, 6),
                    spot_price=round(number(spot) * count, 6) if spot else None,
                    as_of=now,
                    source=URL,
                )
            )


def _add_cpu(rows: Rows, cpu: dict[str, Any], now: float) -> None:
    per_vcpu, memory = number(cpu["price"]["securePerVcpu"]), number(cpu["ramGbPerVcpu"])
    vcpus = max(1, int(cpu["vcpu"]["min"]))
    while vcpus <= int(cpu["vcpu"]["max"]):  # powers of two: what the API accepts
        for center in _centers(cpu):
            rows.add(
                CatalogRow(
                    cloud=CLOUD,
                    region=_country(center),
                    zone=center,
                    instance_type=f"{cpu['id']}-{vcpus}-{memory * vcpus:g}",
                    vcpus=vcpus,
                    memory_gib=memory * vcpus,
                    price=round(per_vcpu * vcpus, 6),
                    as_of=now,
                    source=URL,
                )
            )
        vcpus *= 2


def _centers(entry: dict[str, Any]) -> list[str]:
    """Data centres that have the thing now; the key is absent where none has."""
    return [
        str(center["id"]) for center in entry.get("dataCenters") or () if center["availability"] != "NONE"
    ]


def _country(center: str) -> str:
    """``EUR-IS-1`` and ``US-KS-2``: a country, or a continent and a country."""
    parts = center.split("-")
    return parts[1] if parts[0] in ("EU", "EUR", "AP", "OC", "SEA") and len(parts) > 2 else parts[0]
