"""AWS's bulk price list: one region's on-demand Linux machines out of a CSV file of a few hundred megabytes.

The file is read as it arrives and never kept. It also tells sizes, except which GPU a machine has.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from stix.catalog.fetchers.collect import number
from stix.catalog.fetchers.web import PriceApi
from stix.catalog.source import FetchError

__all__ = ["ListedMachine", "price_list", "regions"]

HOST = "https://pricing.us-east-1.amazonaws.com"
URL = f"{HOST}/offers/v1.0/aws/AmazonEC2/current"
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)?-[a-z]+-[0-9]", re.ASCII)  # not us-west-2-lax-1, a local zone
_DISKS = re.compile(r"(\d+) x (\d+)")
_WANTED: Mapping[str, tuple[str, ...]] = {
    "TermType": ("OnDemand",),
    "Tenancy": ("Shared",),
    "Operating System": ("Linux",),
    "CapacityStatus": ("Used",),
    "MarketOption": ("OnDemand",),
    "Pre Installed S/W": ("NA", ""),
    "Unit": ("Hrs",),
    "Currency": ("USD",),
    "Location Type": ("AWS Region",),
}
_READ = (
    "Instance Type",
    "PricePerUnit",
    "vCPU",
    "Memory",
    "Storage",
    "GPU",
    "Physical Processor",
    "Region Code",
)
_GB_IN_GIB = 1e9 / 2**30


@dataclass(frozen=True, slots=True)
class ListedMachine:
    """An instance type as the price list has it; ``gpus`` is 0 where the list names none."""

    instance_type: str
    price: float
    vcpus: float
    memory_gib: float
    gpus: float
    arch: str
    local_disk_gib: float


def regions(api: PriceApi) -> list[str]:
    """Every region with a price list, local and wavelength zones aside."""
    answer = api.get(f"{URL}/region_index.json")
    listed = answer.get("regions") if isinstance(answer, dict) else None
    if not isinstance(listed, dict) or not listed:
        raise FetchError("aws: region_index.json lists no regions: its format may have changed.")
    return sorted(name for name in listed if _REGION.fullmatch(name))


def price_list(api: PriceApi, region: str) -> tuple[list[ListedMachine], int]:
    """The machines of a region, and how many lines were not as published."""

    def consume(lines: Iterator[str]) -> tuple[list[ListedMachine], int]:
        return _machines(lines, region)

    machines, broken = api.read_lines(f"{URL}/{region}/index.csv", consume)
    return machines, broken


def _machines(lines: Iterator[str], region: str) -> tuple[list[ListedMachine], int]:
    reader = csv.reader(lines)
    columns = _columns(reader)
    wanted = [(columns[name], values) for name, values in _WANTED.items()]
    width = len(columns)
    found: dict[str, ListedMachine] = {}
    broken = 0
    record: list[str] = []
    for record in reader:
        if len(record) != width:
            broken += 1
            continue
        if any(record[index] not in values for index, values in wanted):
            continue
        if record[columns["Region Code"]] != region:
            continue
        try:
            machine = _machine({name: record[columns[name]] for name in _READ})
        except (TypeError, ValueError):
            broken += 1
            continue
        if machine is not None:
            found.setdefault(machine.instance_type, machine)
    if record and len(record) != width:
        raise FetchError(f"aws: the price list of {region} ends in the middle of a line.")
    return list(found.values()), broken


def _columns(reader: Iterator[list[str]]) -> dict[str, int]:
    """Index of each column, from the header below the five lines about the file."""
    for _, record in zip(range(20), reader, strict=False):
        if record and record[0] == "SKU":
            columns = {name: index for index, name in enumerate(record)}
            missing = [name for name in (*_WANTED, *_READ) if name not in columns]
            if missing:
                raise FetchError(f"aws: the price list has no column {missing[0]!r}: its format has changed.")
            return columns
    raise FetchError("aws: the price list has no header line.")


def _machine(record: Mapping[str, str]) -> ListedMachine | None:
    """None for a free line (host reservations). Raises ``ValueError``."""
    price = number(record["PricePerUnit"])
    if price == 0 or "." not in record["Instance Type"]:
        return None
    memory, unit = record["Memory"].replace(",", "").split()
    if unit != "GiB":
        raise ValueError(f"memory in {unit}")
    disks = _DISKS.search(record["Storage"])
    gibibytes = int(disks[1]) * int(disks[2]) * _GB_IN_GIB if disks else 0.0
    return ListedMachine(
        record["Instance Type"],
        price,
        number(record["vCPU"]),
        number(memory),
        number(record["GPU"]) if record["GPU"] not in ("", "NA") else 0.0,
        "arm64" if "Graviton" in record["Physical Processor"] else "x86_64",
        round(gibibytes, 1),
    )
