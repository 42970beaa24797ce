"""Google Cloud: Cloud Billing SKUs composed with Compute Engine's machine and accelerator types.

``services/6F81-5844-456A/skus`` (page token), ``machineTypes`` and ``acceleratorTypes`` as aggregated lists
(page token). A row per zone; an N1 machine with GPUs attached is called ``n1-standard-8+T4:1``. Cloud TPUs,
whose SKUs are another service's, are not listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stix.catalog.fetchers.collect import Rows, items, number
from stix.catalog.fetchers.gcp_skus import Parts
from stix.catalog.fetchers.web import PriceApi
from stix.catalog.row import CatalogRow
from stix.catalog.source import Fetched, FetchError
from stix.clouds.gcp.facts import sold_on_demand

__all__ = ["CLOUD", "fetch"]

CLOUD = "gcp"
SKUS_URL = "https://cloudbilling.googleapis.com/v1/services/6F81-5844-456A/skus"
COMPUTE_URL = "https://compute.googleapis.com/compute/v1/projects"
_MOST_PAGES = 500
_SSD_PARTITION_GIB = 375.0
# The resource's name -> the catalog's, GiB of one (Google's page of GPU machine types).
ACCELERATORS: Mapping[str, tuple[str, float]] = {
    "nvidia-tesla-p4": ("P4", 8),
    "nvidia-tesla-p100": ("P100", 16),
    "nvidia-tesla-v100": ("V100", 16),
    "nvidia-tesla-t4": ("T4", 16),
    "nvidia-l4": ("L4", 24),
    "nvidia-tesla-a100": ("A100", 40),
    "nvidia-a100-80gb": ("A100-80GB", 80),
    "nvidia-h100-80gb": ("H100", 80),
    "nvidia-h100-mega-80gb": ("H100-MEGA", 80),
    "nvidia-h200-141gb": ("H200", 141),
    "nvidia-b200": ("B200", 180),
    "nvidia-gb200": ("GB200", 186),
    "nvidia-rtx-pro-6000": ("RTXPRO6000", 96),
}
# GPUs that N1 machines take: for each count the most vCPUs and GiB (the same page).
_ON_N1: Mapping[str, Mapping[int, tuple[int, int]]] = {
    "nvidia-tesla-t4": {1: (48, 312), 2: (48, 312), 4: (96, 624)},
    "nvidia-tesla-p4": {1: (24, 156), 2: (48, 312), 4: (96, 624)},
    "nvidia-tesla-v100": {1: (12, 78), 2: (24, 156), 4: (48, 312), 8: (96, 624)},
    "nvidia-tesla-p100": {1: (16, 104), 2: (32, 208), 4: (64, 208)},
}
# A SKU's family where it is not the first word of the machine's name.
_FAMILIES = {"a3-megagpu": "a3plus", "a3-ultragpu": "a3ultra"}
_UNPRICED_BY_PART = ("f1-", "g1-", "m2-")
_SHARED_VCPUS = {"e2-micro": 0.25, "e2-small": 0.5, "e2-medium": 1.0}
"""What these are billed for; they show two vCPUs."""


@dataclass(frozen=True, slots=True)
class _Machine:
    name: str
    zone: str
    vcpus: float
    memory_gib: float
    arch: str
    ssd_gib: float
    accelerator: str = ""
    count: int = 0
    accelerator_memory_gib: float = 0.0


def fetch(api: PriceApi, *, project: str) -> Fetched:
    """The client sends ``Authorization: Bearer`` with a token (scope ``cloud-platform.read-only``)."""
    now = api.now()
    rows = Rows(CLOUD, now=now)
    parts = Parts()
    for page in _pages(api, SKUS_URL, {"pageSize": "5000"}):
        for sku in items(page, "skus"):
            try:
                parts.add(sku)
            except (AttributeError, IndexError, KeyError, TypeError, ValueError) as exc:
                rows.malformed(f"SKU {type(exc).__name__}")
    attachable = _attachable(api, project)
    for zone, kind in _scoped(api, f"{COMPUTE_URL}/{project}/aggregated/machineTypes", "machineTypes"):
        try:
            machines = list(_machines(kind, zone, attachable.get(zone, ()), rows))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as exc:
            rows.malformed(type(exc).__name__)
            continue
        for machine in machines:
            _add(rows, machine, parts, now)
    return rows.finish()


def _pages(api: PriceApi, url: str, params: Mapping[str, str]) -> Iterator[Any]:
    token = ""
    for _ in range(_MOST_PAGES):
        page = api.get(url, params={**params, "pageToken": token} if token else params)
        yield page
        following = page.get("nextPageToken", "") if isinstance(page, dict) else ""
        if not following:
            return
        if following == token:
            break
        token = following
    raise FetchError(f"gcp: the pages of {url} do not end.")


def _scoped(api: PriceApi, url: str, kind: str) -> Iterator[tuple[str, Any]]:
    """(zone, thing) of an aggregated list. A scope without any thing has a warning in its place."""
    for page in _pages(api, url, {"maxResults": "500", "returnPartialSuccess": "false"}):
        scopes = page.get("items") if isinstance(page, dict) else None
        if scopes is None:
            raise FetchError("gcp: an aggregated list has no 'items': its format may have changed.")
        for scope, content in scopes.items():
            if scope.startswith("zones/"):
                for thing in content.get(kind) or ():
                    yield scope.removeprefix("zones/"), thing


def _attachable(api: PriceApi, project: str) -> dict[str, list[str]]:
    """Zone -> accelerators that N1 machines there can be given."""
    found: dict[str, list[str]] = {}
    url = f"{COMPUTE_URL}/{project}/aggregated/acceleratorTypes"
    for zone, accelerator in _scoped(api, url, "acceleratorTypes"):
        if accelerator.get("name") in _ON_N1:
            found.setdefault(zone, []).append(accelerator["name"])
    return found


def _machines(kind: dict[str, Any], zone: str, attachable: Any, rows: Rows) -> Iterator[_Machine]:
    name = kind["name"]
    if "deprecated" in kind or name.startswith(_UNPRICED_BY_PART):
        rows.skip("retired or not sold by part")
        return
    vcpus, memory = number(kind["guestCpus"]), number(kind["memoryMb"]) / 1024
    arch = "arm64" if kind.get("architecture") == "ARM64" else "x86_64"
    partitions = number((kind.get("bundledLocalSsds") or {}).get("partitionCount") or 0)
    # Titanium SSDs come in disks of other sizes, which the answer does not say.
    if partitions and name.startswith(("c4", "z3", "h4", "a4")):
        rows.skip("local disks of unknown size")
        return
    plain = _Machine(
        name, zone, _SHARED_VCPUS.get(name, vcpus), memory, arch, partitions * _SSD_PARTITION_GIB
    )
    built_in = kind.get("accelerators") or []
    if built_in:
        found = ACCELERATORS.get(built_in[0]["guestAcceleratorType"])
        if found is None:
            rows.skip(f"unknown accelerator: {built_in[0]['guestAcceleratorType']}")
            return
        count = int(built_in[0]["guestAcceleratorCount"])
        yield _Machine(name, zone, vcpus, memory, arch, plain.ssd_gib, found[0], count, found[1])
        return
    yield plain
    if name.startswith(("n1-standard-", "n1-highmem-")):
        for accelerator in attachable:
            for count, (most_vcpus, most_gib) in _ON_N1[accelerator].items():
                if vcpus <= most_vcpus and memory <= most_gib:
                    known, each = ACCELERATORS[accelerator]
                    own = f"{name}+{known}:{count}"
                    yield _Machine(own, zone, vcpus, memory, arch, 0.0, known, count, each)


def _add(rows: Rows, machine: _Machine, parts: Parts, now: float) -> None:
    region = machine.zone.rpartition("-")[0]
    price, spot_price = (_price(machine, region, parts, spot=spot) for spot in (False, True))
    if not sold_on_demand(machine.name):
        price = None
    if price is None and spot_price is None:
        rows.skip("unpriced")
        return
    rows.add(
        CatalogRow(
            cloud=CLOUD,
            region=region,
            zone=machine.zone,
            instance_type=machine.name,
            vcpus=2.0 if machine.name in _SHARED_VCPUS else machine.vcpus,
            memory_gib=machine.memory_gib,
            accelerator=machine.accelerator,
            accelerator_count=machine.count,
            accelerator_memory_gib=machine.accelerator_memory_gib,
            arch=machine.arch,
            price=price,
            spot_price=spot_price,
            as_of=now,
            local_disk_gib=machine.ssd_gib,
            source=SKUS_URL,
        )
    )


def _price(machine: _Machine, region: str, parts: Parts, *, spot: bool) -> float | None:
    """None when any part of the machine has no price there."""
    family = _FAMILIES.get(machine.name.rpartition("-")[0], machine.name.partition("-")[0])
    needed = {f"core {family}": machine.vcpus, f"ram {family}": machine.memory_gib}
    if machine.accelerator:
        needed[f"gpu {machine.accelerator}"] = float(machine.count)
    if machine.ssd_gib:
        needed["ssd"] = machine.ssd_gib
    total = 0.0
    for part, amount in needed.items():
        unit = parts.price(part, region, spot=spot)
        if unit is None:
            return None
        total += amount * unit
    return round(total, 6)
