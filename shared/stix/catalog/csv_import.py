"""Reading catalogs in SkyPilot's CSV format: ``DIR/<cloud>/vms.csv``."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from stix.catalog.accelerators import find_accelerator, marketed_memory
from stix.catalog.row import CatalogRow
from stix.model.errors import InvalidInputError

__all__ = ["ImportedCloud", "import_folder"]

_REQUIRED = ("InstanceType", "AcceleratorName", "AcceleratorCount", "vCPUs", "MemoryGiB", "Price", "Region")
_ARM = re.compile(r"arm|aarch", re.ASCII | re.IGNORECASE)
_MIB = re.compile(r"'TotalGpuMemoryInMiB': *([0-9.]+)", re.ASCII)
_HINT = (
    "Columns are InstanceType, AcceleratorName, AcceleratorCount, vCPUs, MemoryGiB, Price, SpotPrice, Region."
)


@dataclass(frozen=True, slots=True)
class ImportedCloud:
    """``left_out``: lines that are no offer of a machine, by reason."""

    cloud: str
    rows: tuple[CatalogRow, ...]
    left_out: Mapping[str, int]


def import_folder(folder: Path) -> list[ImportedCloud]:
    """Every cloud of a folder, in order. Prices are as old as their file.

    Raises ``InvalidInputError`` that names the file, and the line and column of a figure that is none.
    """
    files = sorted(folder.glob("*/vms.csv"))
    if not files:
        raise InvalidInputError(
            f"There is no CLOUD/vms.csv in {folder}.", hint="Give the folder that holds one folder per cloud."
        )
    return [_import(path) for path in files]


def _import(path: Path) -> ImportedCloud:
    cloud = path.parent.name
    left_out: dict[str, int] = {}
    rows: dict[tuple[str, str, str], CatalogRow] = {}
    as_of = path.stat().st_mtime
    for number, line in _lines(path):
        reason = _unusable(line)
        if reason:
            left_out[reason] = left_out.get(reason, 0) + 1
            continue
        row = _row(path, number, line, cloud, as_of)
        rows[row.region, row.zone, row.instance_type] = row
    return ImportedCloud(cloud, tuple(rows.values()), left_out)


def _lines(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in _REQUIRED if name not in (reader.fieldnames or ())]
            if missing:
                raise InvalidInputError(f"{path} has no column {', '.join(missing)}.", hint=_HINT)
            for line in reader:
                yield reader.line_num, {key: (value or "").strip() for key, value in line.items() if key}
    except (UnicodeDecodeError, csv.Error) as exc:
        raise InvalidInputError(f"{path} is not a CSV file in UTF-8: {exc}.", hint=_HINT) from exc


def _unusable(line: Mapping[str, str]) -> str:
    if not line["InstanceType"]:
        # GPUs and TPUs that are priced apart from a host of the user's choice.
        return "accelerator without a machine"
    if not line["Region"]:
        return "no region"
    if not (line["Price"] or line.get("SpotPrice")):
        return "no price"
    if not (line["vCPUs"] and line["MemoryGiB"]):
        return "no size"
    return ""


def _row(path: Path, number: int, line: Mapping[str, str], cloud: str, as_of: float) -> CatalogRow:
    def figure(column: str) -> float:
        text = line.get(column, "")
        try:
            value = float(text) if text else 0.0
        except ValueError:
            value = -1.0
        if not 0 <= value < 1e9:
            raise InvalidInputError(
                f"{path}, line {number}, {column}: {text!r} is not a number of 0 or more.",
                hint="Correct the line, or take it out.",
            )
        return value

    given = line["AcceleratorName"]
    known = find_accelerator(given) if given else None
    count = figure("AcceleratorCount") if given else 0.0
    described = _MIB.search(line.get("GpuInfo", ""))
    memory = float(described[1]) / 1024 / count if described and count else 0.0
    # 0 stands for an unknown spot price in some of these files: no machine is free of charge there.
    spot_price = figure("SpotPrice") or None
    return CatalogRow(
        cloud=cloud,
        region=line["Region"],
        zone=line.get("AvailabilityZone", ""),
        instance_type=line["InstanceType"],
        vcpus=figure("vCPUs"),
        memory_gib=figure("MemoryGiB"),
        accelerator=(known.name if known is not None and known.name.lower() == given.lower() else given)
        if count
        else "",
        accelerator_count=count,
        accelerator_memory_gib=marketed_memory(given, round(memory, 1)) if count else 0.0,
        arch="arm64" if _ARM.search(line.get("Arch", "")) else "x86_64",
        price=figure("Price") if line["Price"] else None,
        spot_price=spot_price,
        as_of=as_of,
        local_disk_gib=figure("LocalDiskSize") * (figure("LocalDiskCount") or 1),
        source=f"imported: {cloud}/vms.csv",
    )
