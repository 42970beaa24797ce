"""The replays of docs/recovery.md: every policy over the windows of a published study, beside what was
published.

The windows are those of *Can't Be Late* (NSDI 2024): eight zones and machines of spot-traces
(``availability/1-node/aws-10-26-2022``) by the study's 300 starts. Neither is part of this project: see
``FOLDER``.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean

from stix.recovery.situation import Policy
from stix.simulate.grid import Sweep, Window, settings_of
from stix.simulate.settings import PolicyName, Setting
from stix.simulate.traces import find_traces, read_traces

FOLDER = Path(os.environ.get("STIX_TRACES") or Path(__file__).parents[3] / "shared" / "traces")
"""``availability/`` of the public collection spot-traces, and ``nsdi24_starts_2week.json``, a list of
ticks."""
_SET = FOLDER / "availability" / "1-node" / "aws-10-26-2022"
_STARTS = FOLDER / "nsdi24_starts_2week.json"

TICK = 600.0
WORK = 48.0
PRICE_RATIO = 3.06 / 0.9731
CHANGEOVERS = (0.02, 0.1, 0.2, 0.4)
DEADLINES = (52.0, 56.0, 60.0, 64.0, 70.0, 80.0, 92.0)
SLICES = (*range(1, 11), 12, 14, 18, 24, 30, 36, 42, 50)
COLUMNS = ("greedy", "sliced", "uniform-plain", "uniform", "uniform-oracle", "late-uniform")

# Greedy, sliced with the best number of slices, uniform-plain, uniform, uniform-oracle, omniscient, as
# measured with the study's own simulator; None where that was not. Key: changeover and deadline in hours.
PUBLISHED: dict[tuple[float, float], tuple[float | None, ...]] = {
    (0.02, 52): (0.8362, 0.7382, 0.6397, 0.6899, 0.6397, 0.6283),
    (0.02, 60): (0.7345, 0.6496, 0.5965, 0.6056, 0.5965, 0.5815),
    (0.02, 70): (0.6543, 0.5884, 0.5622, 0.5643, 0.5622, 0.5308),
    (0.02, 80): (0.5739, 0.5513, 0.5381, 0.5388, 0.5381, 0.4917),
    (0.02, 92): (0.5151, 0.5151, 0.5146, 0.5148, 0.5146, 0.4574),
    (0.1, 52): (0.8575, 0.8091, 0.7352, 0.7704, None, 0.6714),
    (0.1, 60): (0.7594, 0.7119, 0.6488, 0.6648, None, 0.6169),
    (0.1, 80): (0.6092, 0.5963, 0.5747, 0.5768, None, 0.5262),
    (0.2, 52): (0.8736, 0.8537, 0.8337, 0.8304, 0.7669, 0.7105),
    (0.2, 56): (0.8209, 0.7954, 0.7545, 0.7621, 0.6989, 0.6737),
    (0.2, 60): (0.7844, 0.7569, 0.7226, 0.7229, 0.6760, 0.6489),
    (0.2, 64): (0.7590, 0.7297, 0.6973, 0.6935, 0.6600, 0.6279),
    (0.2, 70): (0.7197, 0.6900, 0.6686, 0.6625, 0.6424, 0.5994),
    (0.2, 80): (0.6500, 0.6394, 0.6301, 0.6262, 0.6195, 0.5586),
    (0.2, 92): (0.5931, 0.5931, 0.5948, 0.5936, 0.5961, 0.5219),
    (0.4, 52): (0.9022, 0.9022, 0.9052, 0.8974, 0.8309, 0.7711),
    (0.4, 60): (0.8237, 0.8156, 0.8181, 0.8012, 0.7317, 0.7000),
    (0.4, 80): (0.7097, 0.7031, 0.7275, 0.7064, 0.6761, 0.6116),
    (0.4, 92): (0.6536, 0.6536, 0.6876, 0.6725, 0.6531, 0.5735),
}
HISTORY_TARGETS = {52.0: 0.800, 60.0: 0.708, 70.0: 0.650, 80.0: 0.605, 92.0: 0.562}
LATE_CELLS = [(d, r) for d in (0.02, 0.2, 0.4) for r in (52.0, 60.0, 70.0, 80.0, 92.0)]


@dataclass(frozen=True)
class Cell:
    """Mean relative costs of one setting; ``best_slices`` is the number that ``costs["sliced"]`` was had
    with."""

    costs: dict[str, float]
    best_slices: int
    omniscient: float
    missed: int


@dataclass(frozen=True)
class Grid:
    cells: dict[tuple[float, float], Cell]
    windows: int
    cpu_seconds: float
    window_ms: float
    """The slowest policy's mean time for one window."""
    omniscient_ms: float
    """The slowest setting's mean time for one window."""


@dataclass(frozen=True)
class HistoryCell:
    """Of the policy with history: mean cost, that of uniform progress, and the tail of the difference."""

    cost: float
    uniform: float
    worse: float
    clearly_worse: float
    worst: float
    missed: int


def present() -> bool:
    """The traces are there."""
    return _SET.is_dir() and _STARTS.is_file()


@cache
def public_sweep() -> tuple[Sweep, list[int]]:
    traces = read_traces(find_traces([_SET]))
    return Sweep({trace.name: trace.available(1) for trace in traces}, TICK), json.loads(_STARTS.read_text())


def run_grid(
    sweep: Sweep,
    windows: Sequence[Window],
    keys: Sequence[tuple[float, float]] = tuple((d, r) for d in CHANGEOVERS for r in DEADLINES),
) -> Grid:
    """All policies without history, and the optimum, over all windows of every setting."""
    _warm(sweep, windows[0])
    cells, spent, of_policy, of_optimum = {}, 0.0, [0.0], [0.0]
    for changeover, deadline in keys:
        (setting,) = settings_of([changeover], [deadline], work=WORK, price_ratio=PRICE_RATIO)
        began = time.process_time()
        costs: dict[str, float] = {}
        missed = 0
        for name in COLUMNS:
            if name == "sliced":
                continue
            at = time.process_time()
            found, late = sweep.costs(setting, PolicyName(Policy(name)), windows)
            of_policy.append((time.process_time() - at) / len(set(windows)))
            costs[name], missed = fmean(found), missed + late
        sliced = []
        for count in SLICES:
            found, late = sweep.costs(setting, PolicyName(Policy.SLICED, count), windows)
            sliced.append((fmean(found), count))
            missed += late
        costs["sliced"], best = min(sliced)
        at = time.process_time()
        least = fmean(sweep.omniscient(setting, windows))
        of_optimum.append((time.process_time() - at) / len(set(windows)))
        spent += time.process_time() - began
        cells[changeover, deadline] = Cell(costs, best, least, missed)
    return Grid(cells, len(windows), spent, max(of_policy) * 1000, max(of_optimum) * 1000)


def run_history(
    sweep: Sweep, windows: Sequence[Window], deadline: float, changeover: float = 0.2
) -> HistoryCell:
    """The policy with history, each plan made from what came before its window."""
    (setting,) = settings_of([changeover], [deadline], work=WORK, price_ratio=PRICE_RATIO)
    found, missed = sweep.costs(setting, PolicyName(Policy.HISTORY), windows)
    uniform, _ = sweep.costs(setting, PolicyName(Policy.UNIFORM), windows)
    more = [one - other for one, other in zip(found, uniform, strict=True)]
    return HistoryCell(
        fmean(found),
        fmean(uniform),
        fmean(one > 1e-9 for one in more),
        fmean(one > 0.01 for one in more),
        max(more),
        missed,
    )


def published_difference(grid: Grid) -> float:
    """The largest difference of any cell from what was published."""
    found = [0.0]
    for key, row in PUBLISHED.items():
        if key not in grid.cells:
            continue
        cell = grid.cells[key]
        ours = [cell.costs[name] for name in COLUMNS[:5]] + [cell.omniscient]
        found += [abs(own - theirs) for own, theirs in zip(ours, row, strict=True) if theirs is not None]
    return max(found)


def late_ratios(grid: Grid) -> list[float]:
    """Late-anchored over uniform progress, for the settings in which the default must not be worse."""
    return [grid.cells[key].costs["late-uniform"] / grid.cells[key].costs["uniform"] for key in LATE_CELLS]


def _warm(sweep: Sweep, window: Window) -> None:
    """Compile, outside of what is timed."""
    setting = Setting(3600.0, 7200.0, 720.0, PRICE_RATIO)
    for name in (PolicyName(Policy.GREEDY), PolicyName(Policy.HISTORY)):
        sweep.costs(setting, name, [window])
    sweep.omniscient(setting, [window])
