"""How many vCPUs, how much memory and how much storage a task asks for."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from stix.model.problems import refuse, shown

__all__ = [
    "Amount",
    "Memory",
    "number_text",
    "parse_cpus",
    "parse_gigabytes",
    "parse_memory",
    "parse_transfer",
]

_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z]*)\s*(\+?)", re.ASCII)
# As SkyPilot, and as people who write GB for memory mean it: multiples of 1024, and the result in GiB.
_UNITS = {
    **dict.fromkeys(("", "g", "gb", "gi", "gib"), 1.0),
    **dict.fromkeys(("m", "mb", "mi", "mib"), 1 / 1024),
    **dict.fromkeys(("t", "tb", "ti", "tib"), 1024.0),
}
_STORAGE_UNITS = {
    **_UNITS,
    **dict.fromkeys(("k", "kb", "ki", "kib"), 1 / 1024**2),
    **dict.fromkeys(("p", "pb", "pi", "pib"), 1024.0**2),
}
# Below the smallest, Python writes a float with an exponent.
_SMALLEST, _LARGEST = 1e-4, 1e6


def number_text(value: float) -> str:
    """The shortest text that reads back as ``value``: ``4`` and not ``4.0``."""
    return str(int(value)) if value == int(value) else repr(value)


def _plain(value: float) -> int | float:
    return int(value) if value.is_integer() else value


@dataclass(frozen=True, slots=True)
class Amount:
    """``value``, exactly, or with ``at_least`` that much or more."""

    value: float
    at_least: bool = False

    def allows(self, offered: float) -> bool:
        """Whether a machine with ``offered`` of it satisfies the request."""
        return offered >= self.value - 1e-9 if self.at_least else math.isclose(offered, self.value)

    def __str__(self) -> str:
        return number_text(self.value) + ("+" if self.at_least else "")

    def to_config(self) -> int | float | str:
        return str(self) if self.at_least else _plain(self.value)


@dataclass(frozen=True, slots=True)
class Memory:
    """``gib`` GiB for each machine or, with ``per_vcpu``, at least that much for each of its vCPUs."""

    gib: float
    at_least: bool = False
    per_vcpu: bool = False

    def allows(self, offered_gib: float, vcpus: float) -> bool:
        """Whether a machine with that memory and that many vCPUs satisfies the request."""
        if self.per_vcpu:
            return offered_gib >= self.gib * vcpus - 1e-9
        return Amount(self.gib, self.at_least).allows(offered_gib)

    def __str__(self) -> str:
        return number_text(self.gib) + ("x" if self.per_vcpu else "+" if self.at_least else "")

    def to_config(self) -> int | float | str:
        return str(self) if self.at_least or self.per_vcpu else _plain(self.gib)


def _read(value: Any) -> tuple[float, str, bool] | None:
    """Number, lower-case unit and whether a ``+`` follows; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if not isinstance(value, str):
        return (float(value), "", False) if abs(value) <= _LARGEST else None
    found = _NUMBER.fullmatch(value.strip()) if len(value) < 64 else None
    return (float(found[1]), found[2].lower(), bool(found[3])) if found else None


def parse_cpus(value: Any) -> Amount | None:
    """``4``, ``"4"``, ``"4+"``, ``0.5``; None stays None."""
    if value is None or isinstance(value, Amount):
        return value
    read = _read(value)
    if read is None or read[1] or not _SMALLEST <= read[0] <= _LARGEST:
        raise refuse(
            f"{shown(value)} is not a number of vCPUs.",
            'Write 4 (exactly), "4+" (at least) or 0.5.',
            value=value,
        )
    return Amount(read[0], read[2])


def parse_memory(value: Any) -> Memory | None:
    """``16``, ``"16+"``, ``16GB``, ``16GB+``, ``4x`` (GiB for each vCPU); None stays None."""
    if value is None or isinstance(value, Memory):
        return value
    read = _read(value)
    hint = 'Write GiB: 16 (exactly), "16+" (at least), "16GB", "16GB+" or "4x" (at least 4 for each vCPU).'
    if read is None or not (read[1] == "x" or read[1] in _UNITS):
        raise refuse(f"{shown(value)} is not an amount of memory.", hint, value=value)
    number, unit, at_least = read
    per_vcpu = unit == "x"
    gib = number if per_vcpu else number * _UNITS[unit]
    if not _SMALLEST <= gib <= _LARGEST:
        raise refuse(f"{shown(value)} is not an amount of memory that a machine can have.", hint, value=value)
    return Memory(gib, at_least and not per_vcpu, per_vcpu)


def parse_gigabytes(value: Any) -> int | None:
    """A size of storage in whole GB, rounded up: ``100``, ``100GB``, ``1.5TB``, ``200Gi``; 1 TB is 1024 GB
    and, as with memory, GB and GiB are one. None stays None."""
    if value is None:
        return None
    read = _read(value)
    hint = 'Write GB: 100, "100GB" or "1TB".'
    if read is None or read[2] or read[1] not in _STORAGE_UNITS:
        raise refuse(f"{shown(value)} is not a size of storage.", hint, value=value)
    size = math.ceil(round(read[0] * _STORAGE_UNITS[read[1]], 6))
    if not 1 <= size <= _LARGEST:
        raise refuse(f"{shown(value)} is not between 1 GB and 1000 TB.", hint, value=value)
    return size


def parse_transfer(value: Any) -> float:
    """An amount of data in GB, from 0: ``0.5``, ``50``, ``"50GB"``, ``"2TB"``."""
    read = _read(value)
    gb = read[0] * _STORAGE_UNITS[read[1]] if read and not read[2] and read[1] in _STORAGE_UNITS else -1.0
    if not 0 <= gb <= 1e9:
        raise refuse(
            f"{shown(value)} is not an amount of data.", 'Write GB: 50, "50GB" or "2TB".', value=value
        )
    return round(gb, 6)
