"""What holds for every service, fleet and market."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from stix.autoscaling.decide import decide
from stix.autoscaling.situation import Drain, Launch, Memory, Metrics, Replica, Terminate, Terms
from stix.model.service import ReplicaPolicy
from stix.model.status import ReplicaStatus
from tests.samples import examples
from tests.unit.serving import NOW, ZONES, Fleet, offer, places

MANY = settings(max_examples=examples(300))
SERVES = {ReplicaStatus.READY, ReplicaStatus.NOT_READY}


@st.composite
def policies(draw: st.DrawFn) -> ReplicaPolicy:
    least = draw(st.integers(0, 4))
    scaled = draw(st.booleans())
    targets = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "target_qps_per_replica": st.floats(0.1, 10),
                "target_queue_length": st.floats(0.5, 20),
                "target_latency_p95": st.floats(0.1, 10),
            },
        )
    )
    return ReplicaPolicy(
        least,
        least + draw(st.integers(0, 5)) if scaled and targets else None,
        **(targets if scaled else {}),
        num_overprovision=draw(st.sampled_from([None, 0, 1, 2])),
        upscale_delay_seconds=draw(st.sampled_from([0.0, 60.0, 300.0])),
        downscale_delay_seconds=draw(st.sampled_from([0.0, 300.0, 1200.0])),
        base_ondemand_fallback_replicas=draw(st.sampled_from([None, 1, 2])),
        dynamic_ondemand_fallback=draw(st.booleans()),
        spot_placer=draw(st.sampled_from([None, "dynamic_fallback"])),
    )


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    """A service in the middle of its life: replicas of two versions in every state."""
    replicas = {}
    for number in range(1, draw(st.integers(0, 9)) + 1):
        status = draw(st.sampled_from(list(ReplicaStatus)))
        ended = status.failed or status is ReplicaStatus.PREEMPTED
        draining = status is ReplicaStatus.SHUTTING_DOWN and draw(st.booleans())
        replicas[number] = Replica(
            number,
            offer(draw(st.sampled_from(ZONES)), spot=draw(st.booleans())),
            status,
            since=NOW - draw(st.sampled_from([1.0, 50.0, 4000.0])),
            launched_at=NOW - draw(st.sampled_from([10.0, 500.0, 5000.0])),
            version=draw(st.integers(1, 2)),
            gone_at=draw(st.sampled_from([None, None, None, NOW + 5, NOW + 100])),
            draining_since=NOW - draw(st.sampled_from([1.0, 200.0])) if draining else None,
            in_flight=draw(st.sampled_from([None, 0, 4])),
            gone=ended and draw(st.booleans()),
        )
    offers = [
        replace(
            one,
            lost_at=draw(st.sampled_from([None, NOW - 5, NOW - 900])),
            blocked_until=draw(st.sampled_from([0.0, 0.0, NOW + 60])),
        )
        for one in places()
    ]
    memory = Memory(
        target=draw(st.sampled_from([None, 0, 1, 3, 8])),
        ready_version=draw(st.integers(0, 2)),
        forgiven_at=draw(st.sampled_from([None, NOW - 100])),
    )
    terms = Terms(
        draw(policies()),
        spot=draw(st.booleans()),
        version=2,
        blue_green=draw(st.booleans()),
        memory=memory,
    )
    return Fleet(terms, offers, replicas, made=100)


METRICS = st.one_of(
    st.none(),
    st.builds(
        Metrics,
        st.sampled_from([NOW, NOW - 500]),
        request_rate=st.floats(0, 50),
        queue_length=st.floats(0, 99),
        latency_p95=st.one_of(st.none(), st.floats(0, 20)),
    ),
)


@given(fleets(), METRICS)
@MANY
def test_target_stays_within_its_bounds_and_markets_within_the_target(fleet: Fleet, metrics: Metrics | None):
    policy = fleet.terms.policy
    decision = fleet.act(metrics)
    most = policy.min_replicas if not policy.targets else policy.max_replicas
    assert policy.min_replicas <= decision.target <= most
    alive = [one for one in fleet.replicas.values() if one.alive and one.version == 2 and not one.leaving]
    spares = policy.num_overprovision or 0
    on_demand = sum(not one.offer.spot for one in alive)
    assert len(alive) - on_demand <= (decision.target + spares if fleet.terms.spot else 0)
    assert on_demand <= decision.target


@given(fleets(), METRICS)
@MANY
def test_as_many_as_wanted_are_left_when_replicas_go(fleet: Fleet, metrics: Metrics | None):
    """No decision takes the ready replicas below the target, or lower than they are already; only a machine
    that is about to be taken away goes in any case."""

    def serving() -> int:
        return sum(one.ready and not one.leaving for one in fleet.replicas.values())

    # Without a fallback on-demand replicas beyond the base are surplus, and so are spot ones of a version
    # that is to have none: a version does not change its market.
    spot = fleet.terms.spot
    assume(fleet.terms.policy.dynamic_ondemand_fallback or not spot)
    assume(spot or not any(one.offer.spot for one in fleet.replicas.values() if one.version == 2))
    before = serving()
    decision = fleet.act(metrics)
    assert serving() >= min(before, decision.target)


@given(fleets(), METRICS)
@MANY
def test_nothing_is_left_to_do_when_a_decision_was_carried_out(fleet: Fleet, metrics: Metrics | None):
    first = fleet.decide(metrics)
    assert fleet.decide(metrics) == first
    fleet.act(metrics)
    again = fleet.act(metrics)
    # A replica that went may have been the one that vouched for its place: that is remembered anew.
    remembered = replace(again.memory, forgiven_at=first.memory.forgiven_at)
    assert (again.actions, again.target, remembered) == ((), first.target, first.memory)


@given(fleets(), METRICS)
@MANY
def test_what_may_have_requests_drains_before_it_is_ended(fleet: Fleet, metrics: Metrics | None):
    known = dict(fleet.replicas)
    acted = [one.replica for one in fleet.decide(metrics).actions if not isinstance(one, Launch)]
    assert len(acted) == len(set(acted))
    for action in fleet.decide(metrics).actions:
        if isinstance(action, Drain):
            assert known[action.replica].status in SERVES
        elif isinstance(action, Terminate):
            one = known[action.replica]
            assert one.status not in SERVES
            assert not one.gone
            if one.draining_since is not None:
                assert one.in_flight == 0 or NOW - one.draining_since >= fleet.terms.drain


@given(fleets(), METRICS)
@MANY
def test_launches_go_to_places_that_may_be_asked_and_the_next_look_is_ahead(
    fleet: Fleet, metrics: Metrics | None
):
    decision = fleet.decide(metrics)
    may = {(one.offer.place, one.offer.spot) for one in fleet.offers if one.blocked_until <= NOW}
    assert {(one.offer.place, one.offer.spot) for one in decision.actions if isinstance(one, Launch)} <= may
    assert decision.look_again_at is None or decision.look_again_at > NOW


@given(policies(), st.floats(0, 60), st.floats(0, 30), st.lists(st.booleans(), min_size=40, max_size=40))
@settings(max_examples=examples(150))
def test_constant_load_is_answered_without_flapping(policy, rate, queue, prompt):
    """Whatever comes ready when: the number changes in one direction only, and ends where the load asks."""
    fleet = Fleet(Terms(replace(policy, target_latency_p95=None), spot=True))
    targets = []
    for ready in prompt:
        if ready:
            fleet.all_ready()
        targets.append(fleet.act(Metrics(fleet.now, rate, queue)).target)
        fleet.later(60)
    for _ in range(3):
        fleet.later(1300)
        targets.append(fleet.act(Metrics(fleet.now, rate, queue)).target)
    steps = [after - before for before, after in pairwise(targets) if after != before]
    assert all(step > 0 for step in steps) or all(step < 0 for step in steps)
    assert len(steps) <= 1 or fleet.terms.policy.upscale_delay_seconds == 0


@given(st.floats(0.05, 3.0), st.floats(0.1, 40.0), st.integers(1, 20), st.floats(0.2, 4.0))
@settings(max_examples=examples(200))
def test_constant_load_settles_by_latency_that_shrinks_with_replicas(base, work, begin, wanted):
    policy = ReplicaPolicy(
        1, 20, target_latency_p95=wanted, upscale_delay_seconds=60, downscale_delay_seconds=300
    )
    fleet = Fleet(Terms(policy, memory=Memory(target=begin)))
    targets = []
    for _ in range(150):
        fleet.all_ready()
        ready = max(sum(one.ready for one in fleet.replicas.values()), 1)
        latency = Metrics(fleet.now, request_rate=5.0, latency_p95=base + work / ready)
        targets.append(fleet.act(latency).target)
        fleet.later(60)
    turns = [after - before for before, after in pairwise(targets) if after != before]
    assert all(step > 0 for step in turns) or all(step < 0 for step in turns)
    assert len(set(targets[-10:])) == 1


@given(st.integers(1, 6), st.integers(0, 2), st.lists(st.integers(0, 8), min_size=1, max_size=30))
@MANY
def test_on_demand_stands_in_whenever_spot_is_short(target, spares, ready_counts):
    """Spot machines come and go at will; the replicas that run or start cover the target at every moment."""
    policy = ReplicaPolicy(
        target, num_overprovision=spares, dynamic_ondemand_fallback=True, spot_placer="dynamic_fallback"
    )
    fleet = Fleet(Terms(policy, spot=True))
    fleet.act()
    for count in ready_counts:
        spot = [one for one in fleet.replicas.values() if one.alive and one.offer.spot]
        for at, one in enumerate(spot):
            status = ReplicaStatus.READY if at < count else ReplicaStatus.PREEMPTED
            fleet.change(one.id, status=status)
        fleet.later(30)
        fleet.act()
        ready = sum(one.ready and one.offer.spot for one in fleet.replicas.values())
        assert fleet.count(spot=False) == min(target, target + spares - ready)
        fleet.all_ready(spot=False)


@pytest.mark.parametrize("blue_green", [False, True])
@given(data=st.data())
@settings(max_examples=examples(100))
def test_an_update_never_serves_with_fewer_than_wanted(blue_green: bool, data: st.DataObject):
    target = data.draw(st.integers(1, 5))
    fleet = Fleet(Terms(ReplicaPolicy(target)))
    fleet.act()
    fleet.all_ready()
    fleet.act()
    fleet.terms = replace(fleet.terms, version=2, blue_green=blue_green)
    for _ in range(20):
        versions = fleet.act().versions
        serving = sum(one.ready and one.version in versions for one in fleet.replicas.values())
        assert serving >= target
        starting = [one.id for one in fleet.replicas.values() if one.status is ReplicaStatus.PENDING]
        for number in data.draw(st.lists(st.sampled_from(starting), unique=True)) if starting else []:
            fleet.change(number, status=ReplicaStatus.READY)
        for one in [one for one in fleet.replicas.values() if one.draining_since is not None]:
            fleet.change(one.id, in_flight=0)
    fleet.all_ready()
    for _ in range(3):
        fleet.act()
    assert {one.version for one in fleet.replicas.values() if one.alive} == {2}


def test_decide_is_given_nothing_that_it_could_change():
    fleet = Fleet(Terms(ReplicaPolicy(1)))
    decision = decide(fleet.terms, None, (), tuple(fleet.offers), NOW)
    for frozen in (fleet.terms, fleet.terms.memory, decision, decision.actions[0], Metrics(NOW)):
        with pytest.raises((AttributeError, TypeError)):
            frozen.reason = frozen.policy = frozen.target = frozen.as_of = None
