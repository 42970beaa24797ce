"""Measured figures beside their limits."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LIMITS_FILE = Path(__file__).with_name("limits.toml")


class UnknownFigureError(Exception):
    """A benchmark measured something that limits.toml does not name, or left out something that it does."""


@dataclass(frozen=True)
class Limit:
    """``floor`` is a smallest value where ``most`` is a largest one; exactly one of them is given."""

    what: str
    unit: str
    most: float | None = None
    floor: float | None = None

    def __post_init__(self) -> None:
        if (self.most is None) == (self.floor is None):
            raise ValueError(f"{self.what}: give either most or floor")


@dataclass(frozen=True)
class Figure:
    name: str
    measured: float
    limit: Limit

    @property
    def ratio(self) -> float:
        """The used part of the limit: above 1 it is broken, whichever way the limit points."""
        if self.limit.floor is not None:
            return self.limit.floor / self.measured if self.measured > 0 else float("inf")
        assert self.limit.most is not None
        if self.limit.most == 0:
            return float("inf") if self.measured > 0 else 0.0
        return self.measured / self.limit.most

    @property
    def over(self) -> bool:
        return self.ratio > 1


def read_limits(path: Path = LIMITS_FILE) -> dict[str, dict[str, Limit]]:
    """Benchmark, figure, limit."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    return {name: {key: Limit(**entry) for key, entry in table.items()} for name, table in tables.items()}


class Record:
    """Collects one benchmark's figures; ``note`` prints what needs no limit but explains one."""

    def __init__(self, benchmark: str, limits: Mapping[str, Limit]):
        self._benchmark = benchmark
        self._limits = limits
        self.figures: list[Figure] = []

    def add(self, name: str, measured: float) -> None:
        """Raises ``UnknownFigureError``: a figure without a limit guards nothing."""
        if name not in self._limits:
            raise UnknownFigureError(f"limits.toml has no [{self._benchmark}.{name}]")
        self.figures.append(Figure(f"{self._benchmark}.{name}", measured, self._limits[name]))

    def note(self, text: str) -> None:
        print(f"  {self._benchmark}: {text}", flush=True)

    def check_complete(self) -> None:
        missing = self._limits.keys() - {figure.name.partition(".")[2] for figure in self.figures}
        if missing:
            raise UnknownFigureError(f"{self._benchmark} did not measure {', '.join(sorted(missing))}")


def table(figures: Sequence[Figure]) -> str:
    rows = [("FIGURE", "MEASURED", "LIMIT", "UNIT", "RATIO", "")]
    for figure in figures:
        limit = figure.limit
        bound = f">= {limit.floor:g}" if limit.floor is not None else f"<= {limit.most:g}"
        verdict = "OVER" if figure.over else "ok"
        rows.append(
            (figure.name, f"{figure.measured:.4g}", bound, limit.unit, f"{figure.ratio:.2f}", verdict)
        )
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    lines = []
    for name, measured, bound, unit, ratio, verdict in rows:
        cells = (
            name.ljust(widths[0]),
            measured.rjust(widths[1]),
            bound.rjust(widths[2]),
            unit.ljust(widths[3]),
            ratio.rjust(widths[4]),
            verdict,
        )
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def median(values: Sequence[float]) -> float:
    return percentile(values, 50)


def percentile(values: Sequence[float], percent: float) -> float:
    """Nearest rank; of one value it is that value."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
