"""Replays of services: what a run counts, and the published study on a sample."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stix.autoscaling.decide import decide
from stix.autoscaling.situation import Terms
from stix.model.service import ReplicaPolicy
from stix.simulate.placers import EvenSpread, RoundRobin
from stix.simulate.replay import Zone, zone_of
from stix.simulate.requests import Latencies, Requests, quantile
from stix.simulate.service import ServiceStep, World, replay_service
from stix.simulate.service_study import (
    PlacementName,
    ServiceKind,
    ServiceScenario,
    run_least,
    run_service,
)
from tests.benchmarks import serving as replays

TICK = 30.0
HEDGE = ReplicaPolicy(1, dynamic_ondemand_fallback=True, spot_placer="dynamic_fallback")
public = pytest.mark.skipif(
    not replays.present(),
    reason="the study's traces are not part of this project (STIX_TRACES names their folder)",
)


def world(*counts: list[int], notice: float = 0.0, cold_start: float = 60.0, prices=None) -> World:
    zones = tuple(zone_of(f"us-east-1{'abc'[at]}_m_1", row, 1.0, prices) for at, row in enumerate(counts))
    paid = zones[0].offer.model_copy(update={"spot": False, "price": 3.0, "zone": "on-demand"})
    return World(zones, Zone(paid, ()), TICK, cold_start, notice)


def played(wanted: ReplicaPolicy, where: World, ticks: int, **options) -> tuple[list[ServiceStep], object]:
    steps: list[ServiceStep] = []
    spot = options.pop("spot", True)
    found = replay_service(Terms(wanted, spot=spot), where, 0, ticks, steps=steps, **options)
    return steps, found


def test_replica_is_ready_after_the_cold_start_and_paid_from_its_launch():
    steps, found = played(ReplicaPolicy(1), world([1] * 6), 6)
    assert [step.ready for step in steps] == [0, 0, 1, 1, 1, 1]
    assert (found.available, found.launches, found.preemptions) == (1.0, 1, 0)
    assert found.cost == pytest.approx(6 * TICK / 3600)
    assert found.spot_hours == pytest.approx(6 * TICK / 3600)


def test_stand_in_runs_from_the_loss_until_spot_is_ready_again():
    up = [1, 1, 1, 0, 0, 1, 1, 1, 1]
    steps, found = played(HEDGE, world(up), 9)
    assert [step.on_demand for step in steps] == [1, 1, 0, 1, 1, 1, 1, 0, 0]
    assert [step.ready for step in steps] == [0, 0, 1, 0, 0, 1, 1, 1, 1]
    assert found.available == pytest.approx(5 / 7)
    assert found.cost == pytest.approx((7 + 3 * 6) * TICK / 3600)


def test_stand_in_that_starts_at_the_notice_is_ready_at_the_loss():
    up = [1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1]
    steps, found = played(HEDGE, world(up, notice=60.0), 11)
    assert found.available == 1.0
    assert [step.on_demand for step in steps] == [1, 1, 0, 1, 1, 1, 1, 1, 1, 0, 0]
    assert [step.spot for step in steps][5:7] == [0, 0]


def test_notice_shorter_than_the_cold_start_leaves_a_gap():
    up = [1] * 6 + [0] * 6
    _, whole = played(HEDGE, world(up, notice=60.0), 12)
    _, half = played(HEDGE, world(up, notice=30.0), 12)
    _, none = played(HEDGE, world(up), 12)
    assert none.available < half.available < whole.available == 1.0


def test_newest_machines_are_lost_first_and_refused_beyond_the_trace():
    steps, found = played(ReplicaPolicy(3), world([1, 3, 3, 2, 2, 2], cold_start=0.0), 6)
    assert [step.spot for step in steps] == [1, 3, 3, 2, 2, 2]
    assert found.preemptions == 1


def test_prices_of_each_tick_are_paid_when_the_trace_has_them():
    _, found = played(ReplicaPolicy(1), world([1] * 3, prices=[1.0, 2.0, 4.0]), 3)
    assert found.cost == pytest.approx(7 * TICK / 3600)


@pytest.mark.parametrize("spares", [0, 1])
def test_deciding_only_when_something_happens_changes_nothing(spares: int):
    """The decision's own next look suffices: deciding in every tick gives the same run."""
    policy = replace(HEDGE, min_replicas=3, num_overprovision=spares)
    zones = replays.zones_of(replays.EXAMPLE)
    where = replays.scenario(zones, notice=120.0).world

    def every_tick(*arguments):
        decision = decide(*arguments)
        return replace(decision, look_again_at=arguments[-1] + TICK)

    lazy, _ = played(policy, where, 1500)
    eager, _ = played(policy, where, 1500, policy=every_tick)
    assert lazy == eager


def test_even_spread_waits_for_the_zone_that_lacks_its_share():
    where = world([2] * 9, [0] * 4 + [2] * 5, [2] * 9, cold_start=0.0)
    steps, _ = played(ReplicaPolicy(3), where, 9, policy=EvenSpread())
    assert [step.spot for step in steps] == [2] * 4 + [3] * 5


def test_round_robin_takes_the_next_zone_that_has_machines():
    where = world([1] * 9, [0] * 9, [1, 1, 1, 0, 0, 0, 0, 0, 0], cold_start=0.0)
    steps, found = played(ReplicaPolicy(2), where, 9, policy=RoundRobin())
    assert [step.spot for step in steps] == [2, 2, 2, 1, 1, 1, 1, 1, 1]
    assert found.preemptions == 1


def test_least_takes_the_cheapest_machines_of_each_tick():
    where = world([1, 0, 2], [2, 0, 0], cold_start=0.0)
    given = ServiceScenario(ReplicaPolicy(2), where, (0,), 3)
    assert run_least(given, [2, 2, 3]).cost == pytest.approx((2 + 6 + 2 + 3) * TICK / 3600)


def test_every_placement_costs_at_least_the_least_and_spothedge_at_most_on_demand_and_spares():
    given = replays.scenario(replays.zones_of(replays.EXAMPLE), notice=120.0, starts=1)
    given = replace(given, ticks=1000)
    least = run_least(given, [3] * 1000).cost
    on_demand = run_service(given, PlacementName(ServiceKind.ON_DEMAND))[0]
    assert on_demand.available == (1.0,)
    for kind in (ServiceKind.SPOTHEDGE, ServiceKind.NOTICE):
        for spares in (0, 1):
            found = run_service(given, PlacementName(kind, spares))[0]
            assert least <= found.cost < on_demand.cost
            assert found.availability > 0.97


def test_best_zone_is_the_best_of_the_single_ones():
    given = replace(replays.scenario(replays.zones_of(replays.EXAMPLE), starts=1), ticks=1000)
    best = run_service(given, PlacementName(ServiceKind.BEST_ZONE))[0]
    mean = run_service(given, PlacementName(ServiceKind.SINGLE_ZONE))[0]
    assert best.availability > mean.availability


# -- requests ------------------------------------------------------------------------------------------------


def test_requests_beyond_what_replicas_answer_wait_their_turn():
    queue = Latencies(1.0, 2.0, TICK)
    for arriving, ready in ((60.0, 1), (0.0, 1), (0.0, 1)):
        queue.serve(arriving, ready)
    assert queue.unanswered == 0
    assert sum(count for _, count in queue.answered) == pytest.approx(60)
    first, last = queue.answered[0][0], queue.answered[-1][0]
    assert first == pytest.approx(2.0)
    assert 2.0 + TICK <= last + TICK / 2 <= 2.0 + 2 * TICK


def test_requests_wait_for_the_first_replica():
    queue = Latencies(10.0, 0.5, TICK)
    for ready in (0, 0, 0, 1):
        queue.serve(3.0, ready)
    slowest = max(seconds for seconds, _ in queue.answered)
    assert 2 * TICK < slowest < 3 * TICK + 1
    assert queue.quantile(0.01) >= 0.5


def test_crowded_replicas_answer_slower_than_idle_ones():
    slow, fast = Latencies(1.0, 1.0, TICK), Latencies(1.0, 1.0, TICK)
    slow.serve(28.5, 1)
    fast.serve(3.0, 1)
    assert slow.quantile(0.5) > fast.quantile(0.5) > 1.0


def test_metrics_are_those_of_the_last_minute():
    queue = Latencies(1.0, 1.0, TICK)
    for arriving in (300.0, 15.0, 15.0):
        queue.serve(arriving, 20)
    seen = queue.metrics(90.0)
    assert (seen.as_of, seen.request_rate) == (90.0, pytest.approx(0.5))
    assert seen.queue_length == pytest.approx(0.5)
    assert seen.latency_p95 is not None
    assert Latencies(1.0, 1.0, TICK).metrics(0.0).latency_p95 is None


def test_quantile_counts_weights():
    assert quantile([(1.0, 90.0), (9.0, 10.0)], 0.9) == 1.0
    assert quantile([(1.0, 90.0), (9.0, 10.0)], 0.91) == 9.0
    assert quantile([], 0.5) is None


def test_service_follows_its_requests_up_and_down_to_zero():
    counts = (0.0,) * 10 + (120.0,) * 80 + (0.0,) * 70
    policy = ReplicaPolicy(
        0, 8, target_qps_per_replica=1.0, upscale_delay_seconds=60, downscale_delay_seconds=300
    )
    where = replace(world([9] * 160), replica_rate=1.25)
    steps, found = played(policy, where, 160, requests=Requests(counts))
    targets = [step.target for step in steps]
    assert targets[9] == 0
    assert max(targets) == targets[60] == 4
    assert targets[-1] == steps[-1].spot == 0
    assert found.latencies.unanswered == 0
    assert found.latencies.quantile(0.5) < 10


# -- the published study -------------------------------------------------------------------------------------


@public
@pytest.mark.parametrize("name", replays.TRACE_SETS)
def test_published_study_is_met_on_four_of_its_forty_starts(name: str):
    """Days of these traces differ by ten points of cost; the means of all forty are in tests/benchmarks."""
    given = replays.scenario(replays.zones_of(replays.FOLDER / name), notice=120.0, starts=4)
    hedge, plain = replays.row(given, replays.HEDGE), replays.row(given, replays.PLAIN)
    noticed = replays.row(given, replays.NOTICED)
    available, cost = replays.REFERENCE[name]
    assert abs(hedge.available - available) <= 1.0
    assert abs(hedge.cost - cost) <= 10.0
    assert noticed.available >= hedge.available
    assert noticed.cost <= hedge.cost - 8
    assert plain.cost <= hedge.cost - 9
