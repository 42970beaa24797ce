"""Oracle Cloud: the public data of its cost estimator (``shapes.json``, ``products.json``).

Oracle's prices are the same in every commercial region. Which shape a region has is not public: the caller
passes the regions, and fixed shapes are listed only where ``published`` rows have them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from stix.catalog.fetchers.collect import Rows, items, number
from stix.catalog.fetchers.web import PriceApi
from stix.catalog.row import CatalogRow
from stix.catalog.source import Fetched, FetchError

__all__ = ["CLOUD", "fetch"]

CLOUD = "oci"
URL = "https://www.oracle.com/a/ocom/docs/cloudestimator2/data"
# "Preemptible instances cost 50% less": Oracle's documentation of preemptible instances. Virtual machines
# of the standard series only.
_PREEMPTIBLE_SHARE = 0.5
_OCPUS = (1, 2, 4, 8, 16, 32, 64)
_GIB_PER_OCPU = (8, 16)
_GIB_PER_ARM_OCPU = (4, 8)
# A name's part -> accelerator and its GiB (Oracle's page of GPU shapes). GPU2 to GPU4 are generations.
_ACCELERATORS = {
    "GPU2": ("P100", 16.0),
    "GPU3": ("V100", 16.0),
    "GPU4": ("A100", 40.0),
    "A10": ("A10", 24.0),
    "A100-V2": ("A100-80GB", 80.0),
    "L40S": ("L40S", 48.0),
    "H100": ("H100", 80.0),
    "H200": ("H200", 141.0),
    "B200": ("B200", 180.0),
    "GB200": ("GB200", 192.0),
    "MI300X": ("MI300X", 192.0),
}
# The estimator calls these ARM, after NVIDIA's Ampere generation of GPUs.
_AMPERE_GPUS = ("GPU4", "A10", "A100-V2")


@dataclass(frozen=True, slots=True)
class _Size:
    name: str
    vcpus: float
    memory_gib: float
    price: float
    accelerator: str = ""
    count: float = 0.0
    accelerator_memory_gib: float = 0.0
    arch: str = "x86_64"
    preemptible: bool = False


def fetch(api: PriceApi, published: Iterable[CatalogRow]) -> Fetched:
    """No key is needed."""
    now = api.now()
    rows = Rows(CLOUD, now=now)
    known = tuple(published)
    regions = sorted({row.region for row in known})
    if not regions:
        raise FetchError("oci: no region is known: the catalog that is refreshed has no Oracle offers.")
    fixed_in: dict[str, set[str]] = {}
    for row in known:
        fixed_in.setdefault(row.instance_type, set()).add(row.region)
    prices = dict(_prices(items(api.get(f"{URL}/products.json"), "items")))
    for shape in items(api.get(f"{URL}/shapes.json"), "items"):
        try:
            sizes = list(_sizes(shape, prices, rows))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as exc:
            rows.malformed(type(exc).__name__)
            continue
        for size in sizes:
            places = fixed_in.get(size.name, set()) if size.accelerator else regions
            if not places:
                rows.skip("no region known")
            for region in sorted(places):
                rows.add(_row(size, region, now))
    return rows.finish()


def _prices(products: list[Any]) -> Iterator[tuple[str, float]]:
    """USD per hour of each part number that is sold by the hour as one goes."""
    for product in products:
        try:
            if product["pricetype"] != "HOUR":
                continue
            for place in product["currencyCodeLocalizations"]:
                if place["currencyCode"] == "USD":
                    values = [one["value"] for one in place["prices"] if one["model"] == "PAY_AS_YOU_GO"]
                    # A tier that is free up to a monthly allowance comes first.
                    yield product["partNumber"], max(number(value) for value in values)
        except (KeyError, TypeError, ValueError):
            continue  # a product of another service, in another form


def _sizes(shape: dict[str, Any], prices: dict[str, float], rows: Rows) -> Iterator[_Size]:
    if shape["hidden"] or shape["status"] != "ACTIVE":
        rows.skip("retired")
        return
    name = shape["name"]
    parts = {product["type"]["value"]: product for product in shape["products"]}
    if not set(parts) <= {"ocpu", "memory"} or any(
        product["partNumber"] not in prices for product in parts.values()
    ):
        rows.skip("unpriced")
        return
    ocpu_price = prices[parts["ocpu"]["partNumber"]]
    arm = shape["processorType"]["value"] == "arm"
    preemptible = name.startswith("VM.Standard")
    if shape["subType"]["value"] == "flexible":
        memory_price = prices[parts["memory"]["partNumber"]]
        for ocpus in _OCPUS:
            for ratio in _GIB_PER_ARM_OCPU if arm else _GIB_PER_OCPU:
                vcpus, memory = ocpus if arm else 2 * ocpus, ocpus * ratio
                yield _Size(
                    f"{name}$_{vcpus}_{memory}",
                    vcpus,
                    memory,
                    ocpus * ocpu_price + memory * memory_price,
                    arch="arm64" if arm else "x86_64",
                    preemptible=preemptible,
                )
        return
    cores = number(parts["ocpu"]["qty"])
    bundled = number(shape["bundleMemoryQty"])
    if shape["subType"]["value"] != "gpu" or not shape.get("gpuQty"):
        arch = "arm64" if arm else "x86_64"
        threads = cores if arm else 2 * cores
        yield _Size(name, threads, bundled, cores * ocpu_price, arch=arch, preemptible=preemptible)
        return
    found = next((part for part in name.upper().split(".")[1:] if part in _ACCELERATORS), "")
    if not found:
        rows.skip(f"unknown accelerator: {name}")
        return
    accelerator, accelerator_memory = _ACCELERATORS[found]
    arm = arm and found not in _AMPERE_GPUS
    count = number(shape["gpuQty"])
    yield _Size(
        name,
        cores if arm else 2 * cores,
        bundled,
        count * ocpu_price,  # the part of a GPU shape is sold by the GPU
        accelerator,
        count,
        accelerator_memory,
        arch="arm64" if arm else "x86_64",
    )


def _row(size: _Size, region: str, now: float) -> CatalogRow:
    return CatalogRow(
        cloud=CLOUD,
        region=region,
        zone="",
        instance_type=size.name,
        vcpus=size.vcpus,
        memory_gib=size.memory_gib,
        accelerator=size.accelerator,
        accelerator_count=size.count,
        accelerator_memory_gib=size.accelerator_memory_gib,
        arch=size.arch,
        price=round(size.price, 6),
        spot_price=round(size.price * _PREEMPTIBLE_SHARE, 6) if size.preemptible else None,
        as_of=now,
        source=URL,
    )
