"""What is known of each accelerator: the table in ``data/accelerators.csv``, with its sources."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

__all__ = ["AcceleratorSpec", "accelerators", "find_accelerator", "marketed_memory"]

_TOLERANCE = 0.1
_FILE = Path(__file__).parent / "data" / "accelerators.csv"


@dataclass(frozen=True, slots=True)
class AcceleratorSpec:
    """One chip as its maker's datasheet has it.

    Attributes:
        memory_gb: of one, as marketed.
        fp16_tflops: peak dense TFLOP/s of matrix products in FP16 or BF16 with FP32 accumulation, without
            sparsity; of chips without matrix units their plain FP16 or, failing that, FP32 peak.
        bandwidth_gb_s: of its memory.
        source: key of the list in docs/reference/catalog.md.
    """

    name: str
    manufacturer: str
    memory_gb: float
    fp16_tflops: float
    bandwidth_gb_s: float
    aliases: tuple[str, ...]
    source: str


@cache
def accelerators() -> Mapping[str, AcceleratorSpec]:
    """By canonical name, in the table's order."""
    with _FILE.open(newline="", encoding="utf-8") as file:
        return MappingProxyType({line["name"]: _spec(line) for line in csv.DictReader(file)})


def _spec(line: Mapping[str, str]) -> AcceleratorSpec:
    return AcceleratorSpec(
        name=line["name"],
        manufacturer=line["manufacturer"],
        memory_gb=float(line["memory_gb"]),
        fp16_tflops=float(line["fp16_tflops"]),
        bandwidth_gb_s=float(line["bandwidth_gb_s"]),
        aliases=tuple(line["aliases"].split()),
        source=line["source"],
    )


def find_accelerator(name: str) -> AcceleratorSpec | None:
    """By canonical name or alias, in any case; None for one that is not in the table."""
    return _by_any_name().get(name.lower())


def marketed_memory(name: str, reported_gib: float) -> float:
    """The memory of one as its maker has it where the reported one is about that (drivers report a little
    less, each cloud otherwise) or 0; else the reported one, since boards of other sizes are sold too."""
    spec = find_accelerator(name)
    if spec is None or (reported_gib and abs(reported_gib / spec.memory_gb - 1) > _TOLERANCE):
        return reported_gib
    return spec.memory_gb


@cache
def _by_any_name() -> Mapping[str, AcceleratorSpec]:
    found = {}
    for spec in accelerators().values():
        for name in (*spec.aliases, spec.name):
            found[name.lower()] = spec
    return found
