"""What the autoscaler decides, moment by moment."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from stix.autoscaling.decide import decide
from stix.autoscaling.removals import LEAVE_SECONDS
from stix.autoscaling.situation import Drain, Launch, Memory, Metrics, Terminate
from stix.model.cron import parse_cron
from stix.model.service import CustomMetric, ScheduledReplicas
from stix.model.status import ReplicaStatus
from tests.unit.serving import HEDGE, NOW, ZONES, Fleet, offer, places, replica, service

SCALED = {"upscale_delay_seconds": 300, "downscale_delay_seconds": 1200}


def load(at: float = NOW, **fields) -> Metrics:
    return Metrics(at, **fields)


def settled(terms, number: int):
    return replace(terms, memory=Memory(target=number, ready_version=terms.version))


def target_of(terms, metrics, replicas=(), offers=None, now: float = NOW) -> int:
    """What is settled on when nothing delays it."""
    policy = replace(terms.policy, upscale_delay_seconds=0, downscale_delay_seconds=0)
    return decide(replace(terms, policy=policy), metrics, replicas, offers or places(), now).target


# -- how many ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "target"), [(0.0, 1), (2.0, 1), (2.5, 1), (2.6, 2), (10.0, 4), (99.0, 6), (7.5, 3)]
)
def test_replicas_are_those_that_the_request_rate_asks_for_within_bounds(rate, target):
    assert target_of(service(1, 6, target_qps_per_replica=2.5), load(request_rate=rate)) == target


def test_replicas_are_those_that_the_queue_asks_for():
    assert target_of(service(1, 9, target_queue_length=8.0), load(queue_length=33)) == 5


def test_replicas_are_those_that_a_custom_metric_asks_for():
    terms = service(1, 9, custom_metric=CustomMetric("slots", 3.0))
    assert target_of(terms, load(custom=7.0)) == 3
    assert target_of(settled(terms, 4), load(custom=None)) == 4


def test_of_several_targets_the_largest_number_counts_and_is_named():
    terms = service(1, 9, target_qps_per_replica=2.0, target_queue_length=4.0)
    decision = decide(settled(terms, 3), load(request_rate=2.0, queue_length=12.0), (), places(), NOW)
    assert decision.target == 3
    assert "12 requests waiting or in progress at 4 each" in decision.reason


READY = [replica(number) for number in range(1, 5)]


@pytest.mark.parametrize(
    ("latency", "target"),
    [(2.0, 4), (2.1, 5), (3.0, 6), (50.0, 8), (1.2, 4), (1.0, 3), (0.1, 3)],
)
def test_latency_adds_by_its_excess_and_takes_away_one_at_a_time(latency, target):
    terms = settled(service(1, 20, target_latency_p95=2.0), 4)
    assert target_of(terms, load(request_rate=9, latency_p95=latency), READY) == target


def test_latency_waits_for_replicas_that_are_on_their_way():
    terms = settled(service(1, 20, target_latency_p95=2.0), 6)
    on_their_way = [*READY, replica(5, status="STARTING"), replica(6, status="PENDING")]
    assert target_of(terms, load(request_rate=9, latency_p95=9.0), on_their_way) == 6


def test_latency_wants_the_least_without_requests():
    assert target_of(settled(service(0, 20, target_latency_p95=2.0), 4), load(), READY) == 0


def test_accelerators_count_by_their_own_targets():
    terms = service(1, 9, target_qps_per_replica={"A100:1": 10.0, "L4": 2.0})
    strong = offer(ZONES[0], 4.0, accelerator="A100", count=1)
    weak = offer(ZONES[1], 1.0, accelerator="L4", count=1)
    have = [replica(1, weak), replica(2, strong), replica(3, weak)]
    offers = [replace(places()[0], offer=strong), replace(places()[1], offer=weak)]
    wanted = settled(terms, 3)
    assert target_of(wanted, load(request_rate=9.0), have, offers) == 1
    assert target_of(wanted, load(request_rate=11.0), have, offers) == 2
    # 14 are covered; the strong machine costs less for each request: 10 more of it are enough.
    assert target_of(wanted, load(request_rate=23.0), have, offers) == 4
    policy = replace(wanted.policy, downscale_delay_seconds=0)
    decision = decide(replace(wanted, policy=policy), load(request_rate=9.0), have, offers, NOW)
    assert sorted(one.replica for one in decision.actions) == [1, 3]


def test_a_fixed_number_follows_no_metrics():
    decision = decide(service(2), load(request_rate=1e6), (), places(), NOW)
    assert (decision.target, len(decision.actions)) == (2, 2)
    assert decision.look_again_at is None


def test_zero_replicas_become_one_at_once_when_a_request_waits():
    fleet = Fleet(service(0, 4, target_qps_per_replica=2.0, **SCALED))
    assert fleet.act(load()).target == 0
    assert fleet.act(load(queue_length=1)).target == 1
    assert fleet.count(spot=True) == 1


def test_scale_to_zero_waits_for_the_delay_and_for_the_last_request():
    fleet = Fleet(settled(service(0, 4, target_qps_per_replica=2.0, **SCALED), 1))
    fleet.act(load(fleet.now, request_rate=1.0))
    fleet.all_ready()
    fleet.later(600)
    decision = fleet.act(load(fleet.now))
    assert decision.target == 1
    assert decision.look_again_at == fleet.now + 1200
    fleet.later(1199)
    assert fleet.act(load(fleet.now)).target == 1
    fleet.later(1)
    decision = fleet.act(load(fleet.now))
    assert (decision.target, decision.actions) == (0, (Drain(1, "0 spot replicas are wanted"),))


def test_more_are_launched_once_they_have_been_wanted_for_the_delay():
    fleet = Fleet(settled(service(1, 9, target_qps_per_replica=1.0, **SCALED), 1))
    decision = fleet.act(load(request_rate=3.0))
    assert (decision.target, decision.look_again_at) == (1, NOW + 300)
    assert "3 once that has held for 300 s" in decision.reason
    fleet.later(299)
    assert fleet.act(load(fleet.now, request_rate=5.0)).target == 1
    fleet.later(1)
    assert fleet.act(load(fleet.now, request_rate=5.0)).target == 5


def test_a_dip_of_the_load_starts_the_upscale_delay_again():
    fleet = Fleet(settled(service(1, 9, target_qps_per_replica=1.0, **SCALED), 1))
    for seconds, rate in ((0, 3.0), (200, 1.0), (200, 3.0), (200, 3.0)):
        fleet.later(seconds)
        assert fleet.act(load(fleet.now, request_rate=rate)).target == 1


def test_fewer_means_the_most_that_was_wanted_within_the_delay():
    fleet = Fleet(settled(service(1, 9, target_qps_per_replica=1.0, **SCALED), 8))
    targets = []
    for rate in (8.0, 5.0, 2.0, 4.0, 2.0, 2.0, 2.0):
        targets.append(fleet.act(load(fleet.now, request_rate=rate)).target)
        fleet.later(600)
    # 8 was wanted until 600 s, 5 until 1,200 s, 4 until 2,400 s.
    assert targets == [8, 8, 8, 5, 4, 4, 2]


def test_stale_or_missing_metrics_change_nothing():
    terms = settled(service(0, 9, target_qps_per_replica=1.0), 3)
    assert target_of(terms, None) == 3
    decision = decide(terms, load(NOW - 200, request_rate=0.0), (), places(), NOW)
    assert decision.target == 3
    assert "200 s old" in decision.reason


def test_new_bounds_hold_at_once():
    assert (
        decide(settled(service(4, 9, target_qps_per_replica=1.0), 2), load(), (), places(), NOW).target == 4
    )
    assert (
        decide(settled(service(1, 3, target_qps_per_replica=1.0), 8), load(), (), places(), NOW).target == 3
    )


def test_schedule_changes_the_bounds_at_its_moments():
    day = ScheduledReplicas(parse_cron("0 8 * * *"), 3, timezone="Europe/Berlin")
    night = ScheduledReplicas(parse_cron("0 20 * * *"), 0, timezone="Europe/Berlin")
    terms = service(1, schedule=(day, night))
    before, after = (datetime(2030, 7, 1, 5, m, tzinfo=UTC).timestamp() for m in (59, 0))
    after += 3600
    decision = decide(terms, None, (), places(), before)
    assert (decision.target, decision.look_again_at) == (0, after)
    decision = decide(replace(terms, memory=decision.memory), None, (), places(), after)
    assert (decision.target, len(decision.actions)) == (3, 3)
    assert "0 8 * * *" in decision.reason


def test_schedule_with_targets_moves_the_least_and_the_most():
    entry = ScheduledReplicas(parse_cron("* * * * *"), 2, 5)
    terms = service(0, 9, target_qps_per_replica=1.0, schedule=(entry,))
    assert [target_of(terms, load(request_rate=rate)) for rate in (0.0, 3.0, 99.0)] == [2, 3, 5]
    open_ended = replace(entry, max_replicas=None)
    terms = service(0, 9, target_qps_per_replica=1.0, schedule=(open_ended,))
    assert target_of(terms, load(request_rate=99.0)) == 9


# -- which market --------------------------------------------------------------------------------------------


def test_on_demand_stands_in_while_spot_is_not_ready_and_goes_when_it_is():
    fleet = Fleet(service(3, **HEDGE))
    decision = fleet.act()
    assert (fleet.count(spot=True), fleet.count(spot=False)) == (3, 3)
    assert "3 on-demand while 3 of 3 spot are not ready" in decision.reason
    fleet.all_ready(spot=False)
    assert fleet.act().actions == ()
    fleet.change(1, status=ReplicaStatus.READY)
    fleet.change(2, status=ReplicaStatus.READY)
    drained = fleet.act().actions
    assert [type(one) for one in drained] == [Drain, Drain]
    assert fleet.count(spot=False) == 1


def test_spares_are_spot_and_their_stand_ins_stay_within_the_target():
    fleet = Fleet(service(3, num_overprovision=2, **HEDGE))
    fleet.act()
    assert (fleet.count(spot=True), fleet.count(spot=False)) == (5, 3)


def test_base_replicas_are_on_demand_for_good():
    fleet = Fleet(service(3, base_ondemand_fallback_replicas=1, spot_placer="dynamic_fallback"))
    fleet.act()
    fleet.all_ready()
    assert (fleet.count(spot=True), fleet.count(spot=False)) == (2, 1)
    assert fleet.act().actions == ()


def test_service_without_spot_takes_the_cheapest_on_demand_place():
    dear = replace(places()[-1], offer=offer(ZONES[1], 9.0, spot=False))
    fleet = Fleet(service(2, spot=False), [dear, *places()])
    decision = fleet.act()
    assert [one.offer.place for one in decision.actions] == [ZONES[0]] * 2
    assert not any(one.offer.spot for one in decision.actions)


def test_zero_wanted_means_no_spares_and_no_base():
    fleet = Fleet(service(0, num_overprovision=2, base_ondemand_fallback_replicas=1, **HEDGE))
    assert fleet.act().actions == ()


# -- where ---------------------------------------------------------------------------------------------------


def launched(decision) -> list[str]:
    return [one.offer.place for one in decision.actions if isinstance(one, Launch) and one.offer.spot]


def test_replicas_spread_over_the_zones():
    decision = decide(service(4, **HEDGE), None, (), places(), NOW)
    assert launched(decision) == [*ZONES, ZONES[0]]


def test_without_a_placer_the_cheapest_place_takes_all():
    assert launched(decide(service(3), None, (), places(), NOW)) == [ZONES[0]] * 3


def test_a_zone_that_lost_a_machine_is_left_until_one_starts_there():
    offers = places()
    offers[0] = replace(offers[0], lost_at=NOW - 60)
    have = [replica(1, offer(ZONES[1])), replica(2, offer(ZONES[2]))]
    terms = service(3, **HEDGE)
    assert launched(decide(terms, None, have, offers, NOW)) == [ZONES[1]]
    have[0] = replica(1, offer(ZONES[0]), status="STARTING", launched_at=NOW - 30)
    have.append(replica(3, offer(ZONES[0]), launched_at=NOW - 30))
    more = service(5, **HEDGE)
    assert launched(decide(more, None, have, offers, NOW)) == [ZONES[1], ZONES[1]]


def test_all_zones_are_taken_back_when_fewer_than_two_are_left():
    offers = places()
    offers[0] = replace(offers[0], lost_at=NOW - 60)
    offers[1] = replace(offers[1], lost_at=NOW - 30)
    decision = decide(service(3, **HEDGE), None, (), offers, NOW)
    assert launched(decision) == list(ZONES)
    assert decision.memory.forgiven_at == NOW
    # What is lost afterwards is left again.
    offers[2] = replace(offers[2], lost_at=NOW + 10)
    terms = replace(service(3, **HEDGE), memory=decision.memory)
    assert launched(decide(terms, None, (), offers, NOW + 20)) == [ZONES[0], ZONES[1], ZONES[0]]


def test_a_place_that_refused_is_not_asked_and_the_next_moment_is_told():
    offers = [replace(one, blocked_until=NOW + 40 + at) for at, one in enumerate(places())]
    decision = decide(service(2, **HEDGE), None, (), offers, NOW)
    assert (decision.actions, decision.look_again_at) == ((), NOW + 40)
    offers[-1] = places()[-1]
    assert len(decide(service(2, **HEDGE), None, (), offers, NOW).actions) == 2


# -- notice --------------------------------------------------------------------------------------------------


def noticed_fleet() -> Fleet:
    fleet = Fleet(service(2, **HEDGE))
    fleet.act()
    fleet.all_ready()
    fleet.act()
    for one in [one for one in fleet.replicas.values() if one.draining_since is not None]:
        del fleet.replicas[one.id]
    assert fleet.act().actions == ()
    fleet.change(1, gone_at=fleet.now + 120)
    return fleet


def test_stand_in_starts_at_the_notice_and_the_replica_serves_on():
    fleet = noticed_fleet()
    gone_from = fleet.replicas[1].offer.place
    decision = fleet.act()
    assert sorted(one.offer.spot for one in decision.actions) == [False, True]
    assert gone_from not in launched(decision)
    assert fleet.replicas[1].ready
    assert decision.look_again_at == fleet.now + 120 - LEAVE_SECONDS


def test_replica_under_notice_drains_once_another_serves_in_its_place():
    fleet = noticed_fleet()
    fleet.act()
    fleet.later(90)
    fleet.all_ready(spot=False)
    (action,) = fleet.act().actions
    assert (type(action), action.replica) == (Drain, 1)
    assert "others serve" in action.reason


def test_replica_under_notice_drains_shortly_before_the_loss_anyway():
    fleet = noticed_fleet()
    fleet.act()
    fleet.later(120 - LEAVE_SECONDS)
    (action,) = fleet.act().actions
    assert (type(action), action.replica) == (Drain, 1)


def test_replica_under_notice_that_never_served_is_ended():
    terms = service(1, **HEDGE)
    starting = replica(1, status="STARTING", gone_at=NOW + 60)
    ends = [one for one in decide(terms, None, [starting], places(), NOW).actions if type(one) is Terminate]
    assert [one.replica for one in ends] == [1]


# -- going ---------------------------------------------------------------------------------------------------


def test_surplus_goes_by_draining_what_serves_and_ending_what_does_not():
    have = [replica(1), replica(2), replica(3, status="STARTING"), replica(4, status="PENDING")]
    decision = decide(service(1), None, have, places(), NOW)
    assert [(type(one), one.replica) for one in decision.actions] == [
        (Terminate, 4),
        (Terminate, 3),
        (Drain, 2),
    ]


@pytest.mark.parametrize(
    ("in_flight", "seconds", "ends"), [(3, 119, False), (None, 119, False), (0, 1, True), (3, 120, True)]
)
def test_drained_replica_is_ended_after_its_last_request_or_the_time_limit(in_flight, seconds, ends):
    going = replica(
        1, status="SHUTTING_DOWN", draining_since=NOW - seconds, in_flight=in_flight, since=NOW - seconds
    )
    decision = decide(service(0), None, [going], places(), NOW)
    assert [type(one) for one in decision.actions] == [Terminate] * ends
    assert decision.look_again_at == (None if ends else NOW + 1)


def test_replica_that_is_being_ended_is_left_alone():
    assert decide(service(0), None, [replica(1, status="SHUTTING_DOWN")], places(), NOW).actions == ()


@pytest.mark.parametrize("status", ["PREEMPTED", "FAILED", "FAILED_PROBING", "FAILED_PROVISION"])
def test_machines_of_lost_and_failed_replicas_are_ended_once(status):
    terms = settled(service(0), 0)
    ended = replica(1, status=status)
    (action,) = decide(terms, None, [ended], places(), NOW).actions
    assert (type(action), action.replica) == (Terminate, 1)
    assert decide(terms, None, [replace(ended, gone=True)], places(), NOW).actions == ()


# -- versions ------------------------------------------------------------------------------------------------


def rolled(blue_green: bool) -> Fleet:
    fleet = Fleet(service(2, spot=False))
    fleet.act()
    fleet.all_ready()
    fleet.act()
    fleet.terms = replace(fleet.terms, version=2, blue_green=blue_green)
    fleet.act()
    return fleet


def test_rolling_update_gives_up_an_old_replica_for_each_new_one():
    fleet = rolled(blue_green=False)
    assert fleet.decide().versions == (1, 2)
    assert fleet.count(spot=False) == 4
    fleet.change(3, status=ReplicaStatus.READY)
    (action,) = fleet.act().actions
    assert (type(action), action.replica) == (Drain, 2)
    fleet.change(4, status=ReplicaStatus.READY)
    (action,) = fleet.act().actions
    assert (type(action), action.replica) == (Drain, 1)
    assert fleet.decide().versions == (2,)


def test_blue_green_update_gives_up_all_at_once():
    fleet = rolled(blue_green=True)
    fleet.change(3, status=ReplicaStatus.READY)
    decision = fleet.act()
    assert (decision.actions, decision.versions) == ((), (1,))
    fleet.change(4, status=ReplicaStatus.READY)
    decision = fleet.act()
    assert sorted(one.replica for one in decision.actions) == [1, 2]
    assert decision.versions == (2,)


def test_version_that_fails_before_it_was_ready_is_launched_no_more_and_the_old_one_serves():
    fleet = rolled(blue_green=False)
    fleet.change(3, status=ReplicaStatus.FAILED_INITIAL_DELAY)
    decision = fleet.act()
    assert decision.version_failed
    assert [type(one) for one in decision.actions] == [Terminate]
    assert {one.id for one in fleet.replicas.values() if one.ready} == {1, 2}
    assert decision.memory.ready_version == 1
    # Its caller goes back to the version that was ready.
    fleet.terms = replace(fleet.terms, version=1)
    fleet.act()
    assert {one.id for one in fleet.replicas.values() if one.alive} == {1, 2}


def test_no_stand_ins_are_paid_for_while_an_old_version_serves():
    fleet = Fleet(service(2, **HEDGE))
    for _ in range(2):
        fleet.act()
        fleet.all_ready()
    fleet.replicas = {one.id: one for one in fleet.replicas.values() if one.ready and one.offer.spot}
    fleet.terms = replace(fleet.terms, version=2)
    fleet.act()
    assert fleet.count(spot=False) == 0


def test_replicas_that_keep_failing_are_replaced_at_longer_intervals():
    terms = settled(service(1, spot=False), 1)
    failed = [replica(number, status="FAILED", since=NOW - 100 + number, gone=True) for number in range(1, 4)]
    decision = decide(terms, None, failed, places(), NOW)
    assert (decision.actions, decision.look_again_at) == ((), NOW - 97 + 120)
    assert "keep failing" in decision.reason
    assert len(decide(terms, None, failed, places(), NOW + 23).actions) == 1
    assert not decide(terms, None, failed, places(), NOW + 23).version_failed
