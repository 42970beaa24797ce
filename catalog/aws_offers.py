"""AWS: sizes and zones as moto knows them, prices from the price table.

CPU machines are listed per region; machines with accelerators per zone, since few zones have them. A price of
0 in the table means that it is not known.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from catalog.price_table import PriceTable
from stix.catalog.row import CatalogRow

__all__ = ["machines", "offers", "zones"]

# Current general, compute and memory families without local disks, fast networks or other extras.
# fmt: off
CPU_FAMILIES = frozenset({
    "t3", "t3a", "t4g",
    "m5", "m5a", "m6i", "m6a", "m6g", "m7i", "m7i-flex", "m7a", "m7g", "m8g",
    "c5", "c5a", "c6i", "c6a", "c6g", "c7i", "c7i-flex", "c7a", "c7g", "c8g",
    "r5", "r5a", "r6i", "r6a", "r6g", "r7i", "r7a", "r7g", "r8g",
})
# fmt: on
# moto's name, and the least MiB of one, to ours.
_NAMES: dict[str, tuple[tuple[int, str], ...]] = {
    "A100": ((81920, "A100-80GB"), (0, "A100")),
    "V100": ((32768, "V100-32GB"), (0, "V100")),
    "RTX PRO 4500": ((0, "RTXPRO4500"),),
    "RTX PRO Server 6000": ((0, "RTXPRO6000"),),
    "Radeon Pro V520": ((0, "Radeon-Pro-V520"),),
}
_PLAIN = frozenset({"T4", "T4g", "A10G", "L4", "L40S", "H100", "H200", "B200", "B300"})
# Per device; moto has the sum of a machine for the newest.
_NEURON_GIB = {"Trainium2": 96.0}


def _resources() -> Path:
    found = find_spec("moto")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "ec2" / "resources"


def _load(path: Path) -> Any:
    with gzip.open(path) as file:
        return json.load(file)


@cache
def zones() -> dict[str, dict[str, set[str]]]:
    """Region -> instance type -> zones that offer it."""
    found: dict[str, dict[str, set[str]]] = {}
    for path in sorted((_resources() / "instance_type_offerings" / "availability-zone").glob("*.json.gz")):
        kinds: dict[str, set[str]] = defaultdict(set)
        for entry in _load(path):
            kinds[entry["InstanceType"]].add(entry["Location"])
        found[path.name.removesuffix(".json.gz")] = dict(kinds)
    return found


@cache
def machines() -> dict[str, CatalogRow]:
    """Instance type -> a row without place and price, for the families that we list."""
    found = {}
    for name, details in _load(_resources() / "instance_types.json.gz").items():
        if details.get("BareMetal"):
            continue
        accelerator, count, gib = _accelerator(details)
        if accelerator or name.partition(".")[0] in CPU_FAMILIES:
            arch = "arm64" if "arm64" in details["ProcessorInfo"]["SupportedArchitectures"] else "x86_64"
            found[name] = CatalogRow(
                cloud="aws",
                region="",
                zone="",
                instance_type=name,
                vcpus=float(details["VCpuInfo"]["DefaultVCpus"]),
                memory_gib=details["MemoryInfo"]["SizeInMiB"] / 1024,
                accelerator=accelerator,
                accelerator_count=count,
                accelerator_memory_gib=gib,
                arch=arch,
                local_disk_gib=float(details.get("InstanceStorageInfo", {}).get("TotalSizeInGB", 0)),
            )
    return found


def _accelerator(details: dict[str, Any]) -> tuple[str, float, float]:
    for gpu in details.get("GpuInfo", {}).get("Gpus", ()):
        mib = gpu["MemoryInfo"]["SizeInMiB"]
        share = gpu.get("GpuPartitionSize", 1.0)
        count = float(gpu["Count"]) or float(gpu["LogicalGpuCount"]) * share
        name = gpu["Name"] if gpu["Name"] in _PLAIN else ""
        name = next((ours for least, ours in _NAMES.get(gpu["Name"], ()) if mib >= least), name)
        if name:
            return name, count, round(mib / share / 1024, 1)
    for device in details.get("NeuronInfo", {}).get("NeuronDevices", ()):
        gib = _NEURON_GIB.get(device["Name"], device["MemoryInfo"]["SizeInMiB"] / 1024)
        return device["Name"], float(device["Count"]), gib
    return "", 0.0, 0.0


def offers(table: PriceTable) -> Iterator[CatalogRow]:
    kinds, offered = machines(), zones()
    for name, prices in table.compute["ec2_linux"].items():
        for region, price in prices.items():
            places = offered.get(region, {}).get(name)
            if name in kinds and places and price:
                yield from placed(kinds[name], region, places, price, as_of=table.as_of, source="libcloud")


def placed(
    kind: CatalogRow, region: str, places: set[str], price: float, *, as_of: float, source: str
) -> Iterator[CatalogRow]:
    """One row for each of ``places`` where the machine has accelerators, else one for the region."""
    values = {field: getattr(kind, field) for field in CatalogRow.__slots__}
    values |= {"region": region, "price": price, "as_of": as_of, "source": source}
    for zone in sorted(places) if kind.accelerator else [""]:
        yield CatalogRow(**(values | {"zone": zone}))
