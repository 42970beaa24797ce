"""Recorded spot availability: files in the format of the public `spot-traces` collection."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stix.model.errors import InvalidInputError

__all__ = ["Trace", "even_starts", "find_traces", "read_trace", "read_traces"]


@dataclass(frozen=True, slots=True)
class Trace:
    """``counts[i]``: machines that could be had, and kept, from ``i * gap`` to ``(i + 1) * gap`` seconds.
    ``prices``: of a spot machine in each tick, USD an hour, where the file has them."""

    name: str
    gap: float
    counts: tuple[int, ...]
    prices: tuple[float, ...] | None = None

    def available(self, machines: int) -> tuple[int, ...]:
        """1 in each tick in which that many machines could be had at once, else 0."""
        return tuple(int(count >= machines) for count in self.counts)

    def every(self, tick: float) -> Trace:
        """The same in ticks of ``tick`` seconds. Raises ``InvalidInputError`` where that divides no tick."""
        parts = round(self.gap / tick)
        if parts < 1 or abs(self.gap - parts * tick) > 1e-6:
            raise InvalidInputError(
                f"{self.name} has ticks of {self.gap:g} s, which {tick:g} s does not divide.",
                hint="Give --tick a length that does.",
            )
        counts = tuple(count for count in self.counts for _ in range(parts))
        prices = self.prices and tuple(price for price in self.prices for _ in range(parts))
        return Trace(self.name, tick, counts, prices)


def find_traces(places: Iterable[Path]) -> list[Path]:
    """Files as given, and every ``*.json`` below each folder, by name. Raises ``InvalidInputError``."""
    files: list[Path] = []
    for place in places:
        if place.is_dir():
            found = sorted(place.rglob("*.json"))
            if not found:
                raise InvalidInputError(f"--traces: the folder {place} holds no .json file.")
            files += found
        elif place.is_file():
            files.append(place)
        else:
            raise InvalidInputError(f"--traces: {place} does not exist.")
    return files


def read_traces(files: Sequence[Path]) -> list[Trace]:
    """All of them. Names are the files' without their ending, with folders where two are alike."""
    bare = [file.stem for file in files]
    names = [file.stem if bare.count(file.stem) == 1 else f"{file.parent.name}/{file.stem}" for file in files]
    return [read_trace(file, name) for file, name in zip(files, names, strict=True)]


def read_trace(file: Path, name: str = "") -> Trace:
    """Read one file. Raises ``InvalidInputError`` with the file, the field, what it holds and what it
    should."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise InvalidInputError(f"The trace {file} cannot be read as JSON: {exc}.") from exc
    if not isinstance(document, dict):
        raise _wrong(
            file, "content", document, 'an object {"metadata": {"gap_seconds": 600}, "data": [1, 0]}'
        )
    metadata = document.get("metadata")
    gap = metadata.get("gap_seconds") if isinstance(metadata, dict) else None
    if not isinstance(gap, (int, float)) or not _is_number(gap) or not 0 < gap <= 86400:
        raise _wrong(file, "metadata.gap_seconds", gap, "the seconds of a tick, above 0 and at most 86400")
    data = document.get("data")
    if not isinstance(data, list) or not data:
        raise _wrong(file, "data", data, "a list with the number of machines available in each tick")
    for tick, count in enumerate(data):
        if not _is_number(count) or count < 0 or count != int(count):
            raise _wrong(file, f"data[{tick}]", count, "a whole number of machines, 0 or more")
    prices = document.get("prices")
    if prices is not None:
        if not isinstance(prices, list) or len(prices) != len(data):
            given = f"{len(prices)} of them" if isinstance(prices, list) else prices
            raise _wrong(file, "prices", given, f"a list of {len(data)} prices, as many as data has ticks")
        for tick, price in enumerate(prices):
            if not _is_number(price) or not price > 0:
                raise _wrong(file, f"prices[{tick}]", price, "USD an hour, above 0")
    return Trace(
        name or file.stem,
        float(gap),
        tuple(map(int, data)),
        tuple(map(float, prices)) if prices is not None else None,
    )


def even_starts(length: int, ticks: int, count: int) -> list[int]:
    """``count`` starts spread evenly over a trace of ``length`` ticks, each with ``ticks`` after it."""
    room = length - ticks - 2
    if room < 0:
        return []
    return [at * room // max(count - 1, 1) for at in range(count)]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _wrong(file: Path, field: str, value: Any, accepted: str) -> InvalidInputError:
    shown = json.dumps(value, default=str)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return InvalidInputError(f"The trace {file} has {field} {shown}. It should be {accepted}.")
