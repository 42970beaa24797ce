"""Cudo Compute: ``GET /v1/vms/machine-types-2``, prices by the vCPU, gigabyte and GPU for each data centre.

Sizes are free within each machine type's bounds; the rows are a ladder of common ones. The price of a public
address, which a machine gets unless it is told otherwise, is included.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stix.catalog.fetchers.collect import Rows, items, number
from stix.catalog.fetchers.names import accelerator_name
from stix.catalog.fetchers.web import PriceApi
from stix.catalog.row import CatalogRow
from stix.catalog.source import Fetched

__all__ = ["CLOUD", "fetch"]

CLOUD = "cudo"
URL = "https://rest.compute.cudo.org/v1/vms/machine-types-2"
_COUNTS = (1, 2, 4, 8)
_VCPUS = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96)
_GIB_PER_VCPU = (2, 4, 8)
_OWN = {"rtx a6000": "RTXA6000", "a800 pcie": "A800"}
_MEMORY_GIB = {"A40": 48.0, "A100-80GB": 80.0, "H100": 80.0, "L40S": 48.0, "V100": 16.0}


def fetch(api: PriceApi) -> Fetched:
    """Works without a key."""
    now = api.now()
    rows = Rows(CLOUD, now=now)
    for machine in items(api.get(URL), "machineTypes"):
        try:
            _add(rows, machine, now)
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            rows.malformed(type(exc).__name__)
    return rows.finish()


def _add(rows: Rows, machine: dict[str, Any], now: float) -> None:
    model = str(machine.get("gpuModel") or "")
    accelerator = ""
    if model:
        # Their A100 is the 80 GB board; the name says so only in some places.
        accelerator = accelerator_name(model, own=_OWN)
        accelerator = "A100-80GB" if accelerator == "A100" else accelerator
        if not accelerator:
            rows.skip(f"unknown accelerator: {model}")
            return
    price = {name: _price(machine, f"{name}PriceHr") for name in ("vcpu", "memoryGib", "gpu", "ipv4")}
    for gpus, vcpus, memory in _sizes(machine, bool(accelerator)):
        total = vcpus * price["vcpu"] + memory * price["memoryGib"] + gpus * price["gpu"] + price["ipv4"]
        rows.add(
            CatalogRow(
                cloud=CLOUD,
                region=machine["dataCenterId"],
                zone="",
                instance_type=f"{machine['machineType']}_{gpus}x{vcpus}v{memory}gb",
                vcpus=vcpus,
                memory_gib=memory,
                accelerator=accelerator,
                accelerator_count=gpus,
                accelerator_memory_gib=_MEMORY_GIB.get(accelerator, 0.0),
                price=round(total, 6),
                as_of=now,
                source=URL,
            )
        )


def _price(machine: dict[str, Any], field: str) -> float:
    """A decimal in a ``{"value": "0.0045"}``; no object means that it costs nothing."""
    return number(machine[field]["value"]) if machine.get(field) else 0.0


def _sizes(machine: dict[str, Any], gpu: bool) -> Iterator[tuple[int, int, int]]:
    """GPUs, vCPUs and GiB within the type's bounds and what one machine can still be given."""
    least_ratio = number(machine.get("minVcpuPerMemoryGib") or 0)
    most_ratio = number(machine.get("maxVcpuPerMemoryGib") or 1e9)
    least_each = number(machine.get("minVcpuPerGpu") or 0)
    most_each = number(machine.get("maxVcpuPerGpu") or 1e9)
    for gpus in _COUNTS if gpu else (0,):
        if gpus > number(machine.get("maxGpuFree") or 0):
            continue
        for vcpus in _VCPUS:
            if vcpus > number(machine["maxVcpuFree"]):
                continue
            if gpus and not least_each * gpus <= vcpus <= most_each * gpus:
                continue
            for memory in (vcpus * ratio for ratio in _GIB_PER_VCPU):
                fits = memory <= number(machine["maxMemoryGibFree"])
                if fits and least_ratio * memory <= vcpus <= most_ratio * memory:
                    yield gpus, vcpus, memory
