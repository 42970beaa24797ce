"""The simulator's speed, and its figures beside the published ones.

``python -m tests.benchmarks.simulating --write docs/recovery.md`` makes the tables of that page anew.
"""

from __future__ import annotations

import argparse
import random
import time
from functools import cache
from pathlib import Path

import numpy as np

from stix.model.offer import Offer
from stix.recovery.decide import decide
from stix.recovery.hazards import fit_hazards
from stix.recovery.plan import Plan, exact_fineness, make_plan, plan_tick
from stix.recovery.situation import Candidate, Held, Observations, Policy, Terms
from stix.simulate.compiled import KINDS, NO_PLAN, compiled_plan, planned_kind, replay, trace_array
from stix.simulate.grid import Sweep
from stix.simulate.replay import Step, replay_decisions, zone_of
from stix.simulate.settings import PolicyName, Setting
from tests.unit.semi_markov import availability

from . import spot_replays as replays
from .figures import Record, median
from .pages import write_or_print
from .spot_replays import Grid, HistoryCell

_SAME_WINDOWS = 2000
_MARKS = ("<!-- replays: begin -->", "<!-- replays: end -->")


def measure(record: Record) -> None:
    if not replays.present():
        record.note(f"no traces in {replays.FOLDER} (set STIX_TRACES): generated ones, no published figures")
    sweep, starts = _windows()
    grid = _grid()
    record.note(f"{len(grid.cells)} settings of {grid.windows} windows: {grid.cpu_seconds:.0f} CPU-s")
    record.add("grid", grid.cpu_seconds / 60)
    record.add("window", grid.window_ms)
    record.add("omniscient", grid.omniscient_ms)
    record.add("missed", sum(cell.missed for cell in grid.cells.values()))
    record.add("different_windows", different_windows(sweep, starts, _SAME_WINDOWS))
    record.add("decision", _history_decision_ms(record))


def measure_published(record: Record) -> None:
    """Needs the public traces."""
    grid, history = _published()
    record.add("difference", replays.published_difference(grid))
    ratios = replays.late_ratios(grid)
    record.add("late_uniform_mean", sum(ratios) / len(ratios))
    record.add("late_uniform_worst", max(ratios))
    for deadline, cell in history.items():
        record.add(f"history_{deadline:.0f}", cell.cost)
    record.add("history_worse", max(cell.worse for cell in history.values()))
    record.add("history_worst", max(cell.worst for cell in history.values()))
    missed = sum(cell.missed for cell in (*grid.cells.values(), *history.values()))
    record.add("missed", missed)


@cache
def _grid() -> Grid:
    sweep, starts = _windows()
    return replays.run_grid(sweep, sweep.windows(starts))


def _published() -> tuple[Grid, dict[float, HistoryCell]]:
    sweep, starts = replays.public_sweep()
    grid = _grid()
    every_third = sweep.windows(starts[::3])
    return grid, {
        deadline: replays.run_history(sweep, every_third, deadline) for deadline in replays.HISTORY_TARGETS
    }


def _windows() -> tuple[Sweep, list[int]]:
    if replays.present():
        return replays.public_sweep()
    generated = {f"zone-{seed}": availability(seed, up_hours=1 + seed % 4) for seed in range(8)}
    rng = random.Random(5)
    return Sweep(generated, replays.TICK), [rng.randrange(1200) for _ in range(300)]


def different_windows(sweep: Sweep, starts: list[int], count: int) -> int:
    """Of ``count`` random windows, policies and settings, in how many a tick's machine differs between the
    compiled loops and ``decide``."""
    rng = random.Random(7)
    different = 0
    names = list(sweep.available)
    for number in range(count):
        up = sweep.available[rng.choice(names)]
        start = rng.choice(starts)
        policy = list(KINDS)[number % len(KINDS)]
        setting = Setting(
            replays.WORK * 3600.0,
            rng.choice(replays.DEADLINES) * 3600.0,
            round(rng.choice(replays.CHANGEOVERS) * 3600.0),
            replays.PRICE_RATIO,
        )
        different += not same_actions(
            up, start, setting, PolicyName(policy, rng.choice((1, 3, 8, 50))), sweep.tick
        )
    return different


def same_actions(up: list[int], start: int, setting: Setting, name: PolicyName, tick: float) -> bool:
    """Whether the compiled loop and ``decide`` hold the same machine in every tick, with equal outcomes."""
    job = setting.terms(name, tick)
    kind, plan, table, points, fine = KINDS[name.policy], None, NO_PLAN, 1, 1
    if name.policy is Policy.HISTORY:
        fine = min(exact_fineness(setting.changeover, tick), 2)
        plan = compiled_plan(job, up, start, price_ratio=setting.price_ratio, fineness=fine, tick=tick)
        kind = planned_kind(plan)
        table, points = np.frombuffer(plan.actions, np.uint8), plan.slacks
    actions = np.zeros(setting.ticks(tick) + 1, np.int8)
    found = replay(
        kind,
        name.slices,
        trace_array(up),
        start,
        setting.work,
        setting.deadline,
        setting.changeover,
        tick,
        setting.price_ratio,
        table,
        fine,
        points,
        actions,
    )
    steps: list[Step] = []
    zone = zone_of("us-west-2a_v100_1", up, 1.0)
    out = replay_decisions(job, [zone], start, setting.price_ratio, plan=plan, steps=steps)
    return [step.kind for step in steps] == actions[: found[2]].tolist() and tuple(found) == (
        out.spot_ticks,
        out.on_demand_ticks,
        out.ticks,
        out.starts,
        out.preemptions,
    )


def _history_decision_ms(record: Record) -> float:
    """One production decision by a stored plan: reading the plan, and the decision, without compiled code."""
    job = Terms(Policy.HISTORY, 0.0, 48 * 3600.0, 92 * 3600.0, 720.0, 600.0)
    tick = plan_tick(job, 0.0)
    began = time.process_time()
    plan = make_plan(job, fit_hazards(availability(1)), price_ratio=3.0, now=0.0, tick=tick)
    made = time.process_time() - began
    stored = plan.to_bytes()
    record.note(f"a plan without compiled code: {made:.2f} CPU-s, {len(stored) / 1024:.0f} KiB stored")
    spot = Offer(
        cloud="aws", region="r", zone="a", instance_type="m", spot=True, vcpus=1, memory_gib=1, price=1
    )
    offers = [Candidate(spot), Candidate(spot.model_copy(update={"spot": False, "price": 3.0}))]
    spent = []
    for hour in range(40):
        began = time.process_time()
        seen = Observations(Held(spot.place, True, 0.0), hour * 1800.0, plan=Plan.from_bytes(stored))
        decide(job, seen, offers, hour * 3600.0)
        spent.append((time.process_time() - began) * 1000)
    return median(spent)


# -- the page ------------------------------------------------------------------------------------------------


def tables(grid: Grid, history: dict[float, HistoryCell]) -> str:
    """Markdown. Figures that were published stand behind ours where they differ in the last digit shown."""
    lines = [
        "| d h | R h | greedy | sliced (best n) | uniform-plain | uniform | uniform-oracle | late-uniform "
        "| omniscient |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (changeover, deadline), cell in grid.cells.items():
        theirs = replays.PUBLISHED.get((changeover, deadline), (None,) * 6)
        shown = []
        for at, name in enumerate(replays.COLUMNS):
            text = _beside(cell.costs[name], theirs[at] if at < 5 else None)
            shown.append(f"{text} ({cell.best_slices})" if name == "sliced" else text)
        shown.append(_beside(cell.omniscient, theirs[5]))
        lines.append(f"| {changeover:g} | {deadline:g} | {' | '.join(shown)} |")
    ratios = replays.late_ratios(grid)
    missed = sum(cell.missed for cell in grid.cells.values())
    difference = replays.published_difference(grid)
    lines += [
        "",
        "| What | Figure | Target |",
        "|---|---|---|",
        f"| largest difference from a published cell | {difference:.4f} | <= 0.0005 |",
        f"| deadlines missed, all policies, settings and windows | {missed} | 0 |",
        f"| late-uniform over uniform, mean of 15 settings | {sum(ratios) / len(ratios):.3f} | <= 0.975 |",
        f"| the same, the worst setting | {max(ratios):.3f} | <= 1 |",
        "",
        "The policy with history, d = 0.2 h, 800 windows a row:",
        "",
        "| R h | uniform | history | Target | windows worse than uniform | by more than 0.01 | worst window "
        "| missed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for deadline, cell in history.items():
        target = replays.HISTORY_TARGETS[deadline]
        lines.append(
            f"| {deadline:g} | {cell.uniform:.4f} | {cell.cost:.4f} | <= {target:.3f} "
            f"| {cell.worse:.1%} | {cell.clearly_worse:.1%} | +{cell.worst:.3f} | {cell.missed} |"
        )
    return "\n".join(lines)


def _beside(ours: float, theirs: float | None) -> str:
    same = theirs is None or f"{ours:.4f}" == f"{theirs:.4f}"
    return f"{ours:.4f}" if same else f"{ours:.4f} [{theirs:.4f}]"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.simulating", description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables into this page")
    options = parser.parse_args()
    if not replays.present():
        parser.error(f"there are no traces in {replays.FOLDER}: name their folder in STIX_TRACES")
    write_or_print(parser, options.write, _MARKS, tables(*_published()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
