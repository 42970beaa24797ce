"""Replays: compiled policies against ``decide``, the optimum against a search, and the published figures."""

from __future__ import annotations

import math
import random
from functools import cache

import pytest

from stix.recovery.situation import Policy, Terms
from stix.simulate.compiled import KINDS
from stix.simulate.grid import Optimum, Sweep, tick_prices
from stix.simulate.replay import Step, Zone, replay_decisions, zone_of
from stix.simulate.settings import PolicyName, Setting
from stix.simulate.study import Scenario, run_policy, run_references
from stix.simulate.traces import even_starts
from tests.benchmarks import spot_replays as replays
from tests.benchmarks.simulating import different_windows, tables
from tests.unit.semi_markov import TICK, availability

public = pytest.mark.skipif(
    not replays.present(),
    reason="the public spot traces are not part of this project (STIX_TRACES names them)",
)
EVERY = 50


def zones(*ups: list[int], price: float = 1.0) -> tuple[Zone, ...]:
    return tuple(zone_of(f"us-east-1{'abc'[at]}_v100_1", up, price) for at, up in enumerate(ups))


def small_job(policy: Policy, work: int, deadline: int, changeover: float = TICK) -> Terms:
    return Terms(policy, work=work * TICK, deadline_at=deadline * TICK, changeover=changeover, tick=TICK)


# -- one replay ----------------------------------------------------------------------------------------------


def test_replay_counts_ticks_starts_and_preemptions():
    steps: list[Step] = []
    up = [0, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1]
    outcome = replay_decisions(small_job(Policy.GREEDY, 4, 12), zones(up), 0, 3.0, steps=steps)
    # Waiting, three ticks of which one is the start, waiting, a start and two of work.
    assert [step.kind for step in steps] == [0, 1, 1, 1, 0, 1, 1, 1]
    assert [step.done / TICK for step in steps] == [0, 0, 1, 2, 2, 2, 3, 4]
    assert (outcome.spot_ticks, outcome.on_demand_ticks, outcome.ticks) == (6, 0, 8)
    assert (outcome.starts, outcome.preemptions) == (2, 1)
    assert outcome.cost == pytest.approx(6 * TICK / 3600)


def test_replay_moves_to_another_zone_when_one_is_lost():
    a, b = [1] * 5 + [0] * 20, [0] * 2 + [1] * 23
    steps: list[Step] = []
    outcome = replay_decisions(small_job(Policy.UNIFORM, 8, 24), zones(a, b), 0, 3.0, steps=steps)
    assert [step.zone for step in steps] == ["us-east-1a_v100_1"] * 5 + ["us-east-1b_v100_1"] * 5
    assert (outcome.preemptions, outcome.on_demand_ticks) == (1, 0)


def test_eager_next_region_never_returns_to_the_zone_just_lost_while_another_fits():
    ups = tuple(availability(seed, 3000, up_hours=1.0, down_hours=0.4) for seed in (1, 2, 3))
    steps: list[Step] = []
    outcome = replay_decisions(small_job(Policy.EAGER_NEXT_REGION, 1000, 9), zones(*ups), 0, 3.0, steps=steps)
    assert outcome.preemptions >= 20
    names = [zone.offer.zone for zone in zones(*ups)]
    last = ""
    for at, step in enumerate(steps):
        if step.zone and step.zone == last and steps[at - 1].zone != step.zone:
            assert not any(up[at] for name, up in zip(names, ups, strict=True) if name != last)
        if step.zone and at and steps[at - 1].zone == last != step.zone:
            assert not ups[names.index(last)][at]
        last = step.zone or last


def test_prices_of_each_tick_are_paid_when_the_trace_has_them():
    zone = zone_of("us-east-1a_v100_1", [1] * 9, 1.0, [1.0, 2.0, 4.0, 8.0, 16.0, 1, 1, 1, 1])
    outcome = replay_decisions(small_job(Policy.GREEDY, 2, 9), [zone], 1, 30.0)
    assert outcome.cost == pytest.approx((2 + 4 + 8) * TICK / 3600)


def test_job_that_the_trace_leaves_unfinished_counts_as_missed():
    name = PolicyName(Policy.FAILOVER)
    scenario = Scenario(zones([0] * 30), TICK, Setting(5 * TICK, 20 * TICK, TICK, 3.0), 3.0, (0, 5))
    result, steps = run_policy(scenario, name)
    assert (result.missed, result.spot_hours) == (2, 0)
    assert len(steps) == 30


def test_even_starts_leave_room_for_the_deadline():
    starts = even_starts(1781, 360, 300)
    assert (len(starts), starts[0], starts[-1]) == (300, 0, 1781 - 362)
    assert even_starts(100, 99, 3) == []


# -- compiled ------------------------------------------------------------------------------------------------


def test_compiled_policies_act_as_decide_does_in_every_tick():
    generated = {f"zone-{seed}": availability(seed, up_hours=1 + seed % 4) for seed in range(6)}
    sweep = Sweep(generated, TICK)
    starts = [random.Random(3).randrange(1100) for _ in range(40)]
    assert different_windows(sweep, starts, 10 * len(KINDS)) == 0


# -- the optimum ---------------------------------------------------------------------------------------------


def searched(prices: list[list[float]], start: int, ticks: int, work: int, delay: int) -> float:
    """The least cost of all plans, by a search over whole ticks of work."""

    @cache
    def cost(t: int, held: int, left: int) -> float:
        if left <= 0:
            return 0.0
        if t == ticks:
            return math.inf
        found = cost(t + 1, -1, left)
        for machine, row in enumerate(prices):
            if math.isfinite(row[start + t]):
                still = left - 1 + (0 if machine == held else delay)
                found = min(found, row[start + t] + cost(t + 1, machine, still))
        return found

    return cost(0, -1, work)


@pytest.mark.parametrize("seed", range(12))
def test_optimum_equals_a_search_of_all_plans(seed):
    rng = random.Random(seed)
    count, delay, work = rng.randint(1, 3), rng.choice((0, 1, 2)), rng.randint(3, 8)
    ticks = work + 2 * delay + rng.randint(0, 9)
    ups = [[int(rng.random() < 0.6) for _ in range(ticks + 5)] for _ in range(count)]
    spot = [[rng.uniform(0.5, 2.5) for _ in range(ticks + 5)] for _ in range(count)]
    rows = tick_prices(ups, spot, 3.0)
    optimum = Optimum(Setting(work * TICK, ticks * TICK, delay * TICK, 3.0), TICK, len(rows))
    for start in (0, 5, 0):
        expected = searched(rows.tolist(), start, ticks, work, delay)
        assert optimum.of(rows, start) == pytest.approx(expected)


def test_optimum_is_infinite_when_the_deadline_cannot_be_met():
    rows = tick_prices([[1] * 20], [1.0], 3.0)
    assert Optimum(Setting(10 * TICK, 10 * TICK, TICK, 3.0), TICK, 2).of(rows, 0) == math.inf


@pytest.mark.parametrize("count", [1, 2, 3])
def test_no_policy_beats_the_optimum_and_none_misses_when_spot_comes_and_goes(count):
    ups = tuple(availability(seed, up_hours=1.5) for seed in range(10, 10 + count))
    setting = Setting(24 * 3600.0, 32 * 3600.0, 720.0, 3.0)
    scenario = Scenario(zones(*ups), TICK, setting, 3.0, tuple(range(100, 1500, 350)))
    on_demand, least = run_references(scenario)
    assert set(on_demand.costs) == {1.0}
    for policy in KINDS:
        result, _ = run_policy(scenario, PolicyName(policy, 4))
        assert result.missed == 0
        assert all(cost >= best - 1e-9 for cost, best in zip(result.costs, least.costs, strict=True))


# -- the published study -------------------------------------------------------------------------------------


@public
def test_published_study_is_met_on_every_fiftieth_window():
    sweep, starts = replays.public_sweep()
    windows = sweep.windows(starts)[::EVERY]
    grid = replays.run_grid(sweep, windows, replays.LATE_CELLS)
    assert sum(cell.missed for cell in grid.cells.values()) == 0
    # A sample of 48 windows stays within a twentieth of on-demand of the mean over 2,400.
    assert replays.published_difference(grid) < 0.05
    ratios = replays.late_ratios(grid)
    assert sum(ratios) / len(ratios) <= 0.985
    history = {60.0: replays.run_history(sweep, windows, 60.0)}
    assert history[60.0].missed == 0
    assert history[60.0].cost < history[60.0].uniform
    assert "| 0.2 | 60 |" in tables(grid, history)


@public
def test_one_cell_of_the_published_study_is_reproduced_over_all_its_windows():
    sweep, starts = replays.public_sweep()
    setting = Setting(48 * 3600.0, 60 * 3600.0, 720.0, replays.PRICE_RATIO)
    windows = sweep.windows(starts)
    for name, published in (("greedy", 0.7844), ("uniform-plain", 0.7226), ("uniform", 0.7229)):
        costs, missed = sweep.costs(setting, PolicyName(Policy(name)), windows)
        assert missed == 0
        assert sum(costs) / len(costs) == pytest.approx(published, abs=0.0005)
