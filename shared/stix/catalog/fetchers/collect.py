"""Every row of every fetcher passes here: checked, unique, and counted where it is left out."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stix.catalog.accelerators import find_accelerator
from stix.catalog.row import ARCHITECTURES, CatalogRow
from stix.catalog.source import Fetched, FetchError

__all__ = ["Rows", "items", "number", "problem"]

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._$+/():-]{0,79}", re.ASCII)
_EARLIEST = 1_136_073_600.0  # 2006: no cloud sold machines before
_DAY = 86400.0
_MOST_USD_PER_HOUR = 5000.0
_MALFORMED_SHARE = 0.1
_FIGURES: Mapping[str, tuple[float, float]] = {
    "vcpus": (0.01, 4096),
    "memory_gib": (0.01, 65536),
    "accelerator_count": (0, 1024),
    "accelerator_memory_gib": (0, 2048),
    "local_disk_gib": (0, 2_000_000),
}


def problem(row: CatalogRow, *, now: float, free: bool = False) -> str:
    """Why the catalog must not hold this row; empty for a sound one. ``free``: a price may be 0."""
    for name in ("cloud", "region", "instance_type"):
        if not _WORD.fullmatch(getattr(row, name)):
            return name
    if row.zone and not _WORD.fullmatch(row.zone):
        return "zone"
    for name, (least, most) in _FIGURES.items():
        value = getattr(row, name)
        if not (math.isfinite(value) and least <= value <= most):
            return name
    if bool(row.accelerator) != (row.accelerator_count > 0):
        return "accelerator_count"
    if row.accelerator_count > 1 and row.accelerator_count != int(row.accelerator_count):
        return "accelerator_count"
    if row.arch not in ARCHITECTURES:
        return "arch"
    if row.price is None and row.spot_price is None:
        return "price"
    for name in ("price", "spot_price"):
        value = getattr(row, name)
        if value is not None and not (
            math.isfinite(value) and (value > 0 or (free and value == 0)) and value <= _MOST_USD_PER_HOUR
        ):
            return name
    if not _EARLIEST <= row.as_of <= now + _DAY:
        return "as_of"
    return ""


class Rows:
    """Collects the rows of one fetch of ``cloud``. Of two for the same machine and place the first stays."""

    def __init__(self, cloud: str, *, now: float, free: bool = False):
        self._cloud = cloud
        self._free = free
        self._now = now
        self._rows: dict[tuple[str, str, str], CatalogRow] = {}
        self._skipped: Counter[str] = Counter()
        self._malformed: Counter[str] = Counter()

    def add(self, row: CatalogRow) -> None:
        """Keep a sound row; count one that is not as malformed."""
        row = _as_marketed(row)
        bad = problem(row, now=self._now, free=self._free) if row.cloud == self._cloud else "cloud"
        if bad:
            self._malformed[f"malformed: {bad}"] += 1
            return
        key = (row.region, row.zone, row.instance_type)
        self._rows.setdefault(key, row)

    def skip(self, reason: str) -> None:
        """Something that is rightly no offer (unpriced, retired, an unknown accelerator)."""
        self._skipped[reason] += 1

    def malformed(self, reason: str) -> None:
        """A record that is not of the published format."""
        self._malformed[f"malformed: {reason}"] += 1

    def finish(self) -> Fetched:
        """Raises ``FetchError`` when nothing is left, or when over a tenth of the records are malformed."""
        broken = sum(self._malformed.values())
        if broken > _MALFORMED_SHARE * (broken + len(self._rows)):
            worst = ", ".join(f"{reason} ({count})" for reason, count in self._malformed.most_common(3))
            raise FetchError(
                f"{self._cloud}: {broken} of {broken + len(self._rows)} prices are not as its API describes"
                f" them: {worst}. Its format may have changed.",
            )
        if not self._rows:
            raise FetchError(f"{self._cloud}: its price list has no usable row.")
        return Fetched(tuple(self._rows.values()), dict(self._skipped + self._malformed))


def _as_marketed(row: CatalogRow) -> CatalogRow:
    """The accelerator's memory: clouds show what the driver leaves, 22.4 GiB of an L4's 24."""
    spec = find_accelerator(row.accelerator) if row.accelerator else None
    return row if spec is None else replace(row, accelerator_memory_gib=spec.memory_gb)


def items(answer: Any, *path: str) -> list[Any]:
    """The list below ``path`` of a JSON answer. Raises ``FetchError`` when it is not one."""
    value = answer
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    if not isinstance(value, list):
        raise FetchError(f"the answer has no list '{'.'.join(path)}': its format may have changed.")
    return value


def number(value: Any) -> float:
    """A finite figure from a JSON number or its text. Raises ``ValueError`` and ``TypeError``."""
    if isinstance(value, bool) or value is None:
        raise TypeError(f"{value!r} is no number")
    result = float(value)
    if not math.isfinite(result):
        raise ValueError(f"{value!r} is not finite")
    return result
