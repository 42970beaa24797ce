"""What clusters cost and when they must end: ledger, limits, reports, and the watch over the forgotten."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stix.api.v1 import Lifetime as LifetimeField
from stix.application import end_machines, want
from stix.application.costs import cost_report
from stix.application.explain import explain_cluster
from stix.application.ledger import cluster_cost, entries_since, settle_entry
from stix.application.machine_tags import DELETE_AT
from stix.application.settle_cluster import confirm, settle
from stix.application.sweep import sweep
from stix.lifecycle.lifetimes import ending_of
from stix.model.cluster import Cluster, Lifetime
from stix.model.errors import UnavailableError
from stix.model.status import ClusterStatus, Wanted
from stix.ports.compute import MachineState
from tests.unit.world import ANN, WORKSPACE, ControlPlane


def entries(plane: ControlPlane):
    return list(entries_since(plane.world, WORKSPACE, 0.0))


def end(plane: ControlPlane, cluster: Cluster) -> None:
    settle(plane.world, WORKSPACE, cluster.id)
    confirm(plane.world, WORKSPACE, cluster.id)


def cut_off(*_, **__) -> None:
    raise KeyboardInterrupt


# --- the ledger ---


def test_price_and_time_are_written_when_machines_start_and_settled_at_their_end(plane):
    cluster = plane.bring_up(task={"num_nodes": 2, "resources": {"labels": {"team": "vision"}}})
    (entry,) = entries(plane)
    assert (entry.price, entry.count, entry.labels, entry.user) == (1.0, 2, {"team": "vision"}, "ann")
    assert entry.ended_at is None
    plane.pass_time(1800)
    assert cluster_cost(plane.world, cluster) == pytest.approx(1.0)
    want.take_down(plane.world, ANN, "train", purge=False, key=None)
    end(plane, cluster)
    plane.pass_time(7200)
    (entry,) = entries(plane)
    assert entry.ended_at - entry.started_at == 1800
    assert entry.cost(plane.clock.now()) == pytest.approx(1.0)


def test_stopped_time_costs_nothing_and_every_start_is_an_entry(plane):
    cluster = plane.bring_up()
    plane.pass_time(600)
    want.stop_cluster(plane.world, ANN, "train", key=None)
    end(plane, cluster)
    plane.pass_time(3600)
    assert cluster_cost(plane.world, cluster) == pytest.approx(600 / 3600)
    want.start_cluster(plane.world, ANN, "train", None, key=None)
    settle(plane.world, WORKSPACE, cluster.id)
    plane.pass_time(300)
    assert sorted(entry.period for entry in entries(plane)) == [1, 2]
    assert cluster_cost(plane.world, cluster) == pytest.approx(900 / 3600)


def test_entry_is_settled_once_when_it_is_settled_again(plane):
    cluster = plane.bring_up()
    (intent,) = plane.intents(cluster)
    plane.pass_time(60)
    settle_entry(plane.world, intent, "first")
    plane.pass_time(60)
    settle_entry(plane.world, intent, "second")
    (entry,) = entries(plane)
    assert (entry.reason, entry.ended_at - entry.started_at) == ("first", 60)


def test_entry_ends_when_the_provider_took_all_machines(plane):
    cluster = plane.bring_up()
    (machine,) = plane.compute.machines
    plane.compute.become(machine, MachineState.TERMINATED, "preempted")
    plane.pass_time(700)
    settle(plane.world, WORKSPACE, cluster.id)
    (entry,) = entries(plane)
    assert entry.ended_at is not None


def test_entry_goes_on_with_the_machines_that_are_left_when_some_were_lost(plane):
    cluster = plane.bring_up(task={"num_nodes": 3})
    first, *_ = plane.compute.machines
    plane.pass_time(600)
    plane.compute.become(first, MachineState.TERMINATED, "preempted")
    plane.pass_time(700)
    settle(plane.world, WORKSPACE, cluster.id)
    settle(plane.world, WORKSPACE, cluster.id)
    whole, rest = sorted(entries(plane), key=lambda one: one.period)
    assert (whole.count, whole.ended_at, rest.count, rest.ended_at) == (3, rest.started_at, 2, None)
    assert whole.ended_at - whole.started_at == 1300
    plane.pass_time(100)
    want.take_down(plane.world, ANN, "train", purge=False, key=None)
    end(plane, cluster)
    assert cluster_cost(plane.world, cluster) == pytest.approx((3 * 1300 + 2 * 100) / 3600)


def test_entry_ends_when_the_provider_says_that_its_machines_did(plane):
    cluster = plane.bring_up(task={"num_nodes": 2})
    one, other = plane.compute.machines
    plane.pass_time(600)
    plane.compute.become(one, MachineState.TERMINATED, "preempted", ended_at=plane.clock.now() - 60)
    plane.pass_time(700)
    settle(plane.world, WORKSPACE, cluster.id)
    whole, rest = sorted(entries(plane), key=lambda one: one.period)
    assert whole.ended_at - whole.started_at == 540
    assert (rest.started_at, rest.count) == (whole.ended_at, 1)
    plane.compute.become(other, MachineState.TERMINATED, "preempted", ended_at=plane.clock.now() - 30)
    want.take_down(plane.world, ANN, "train", purge=False, key=None)
    end(plane, cluster)
    rest = max(entries(plane), key=lambda one: one.period)
    assert rest.ended_at - rest.started_at == 1300 - 540 - 30


def test_machines_that_nobody_heard_of_count_until_their_end_when_that_is_noticed_late(plane, monkeypatch):
    plane.compute.lost_answers = 1
    plane.launch()
    cluster = plane.cluster()
    assert plane.rank(cluster) == "RANKED"
    with pytest.raises(UnavailableError):
        plane.create(cluster)
    want.take_down(plane.world, ANN, "train", purge=False, key=None)
    plane.pass_time(2)
    # The step is cut off once it has ended the machine.
    with monkeypatch.context() as patched:
        patched.setattr(end_machines, "settle_entry", cut_off)
        with pytest.raises(KeyboardInterrupt):
            settle(plane.world, WORKSPACE, cluster.id)
    (machine,) = plane.compute.machines
    plane.compute.become(machine, MachineState.TERMINATED, ended_at=plane.clock.now())
    plane.pass_time(320)
    end(plane, cluster)
    (entry,) = entries(plane)
    assert entry.ended_at - entry.started_at == 2


def stop_without_a_word(plane: ControlPlane) -> None:
    """The machines stop, and the step that would have written it down is cut off."""
    want.stop_cluster(plane.world, ANN, "train", key=None)
    settle(plane.world, WORKSPACE, plane.cluster().id)
    for machine in plane.compute.machines:
        plane.compute.become(machine, MachineState.STOPPED, ended_at=plane.clock.now())


def test_machines_count_until_they_stopped_when_they_are_ended_before_that_was_noted(plane, monkeypatch):
    cluster = plane.bring_up(task={"num_nodes": 2})
    plane.pass_time(60)
    stop_without_a_word(plane)
    plane.pass_time(700)
    want.take_down(plane.world, ANN, "train", purge=False, key=None)
    # Once they are gone, this cloud names the moment at which they went; and the step is cut off.
    terminate = plane.compute.terminate

    def go(place, ids):
        terminate(place, ids)
        for one in ids:
            plane.compute.become(one, MachineState.TERMINATED, ended_at=plane.clock.now())
        cut_off()

    with monkeypatch.context() as patched:
        patched.setattr(plane.compute, "terminate", go)
        with pytest.raises(KeyboardInterrupt):
            settle(plane.world, WORKSPACE, cluster.id)
    end(plane, cluster)
    assert [(one.count, one.ended_at - one.started_at) for one in entries(plane)] == [(2, 60)]


def test_machines_do_not_count_while_they_were_stopped_when_they_start_before_that_was_noted(plane):
    cluster = plane.bring_up()
    plane.pass_time(60)
    stop_without_a_word(plane)
    plane.pass_time(700)
    want.start_cluster(plane.world, ANN, "train", None, key=None)
    settle(plane.world, WORKSPACE, cluster.id)
    plane.pass_time(40)
    assert cluster_cost(plane.world, cluster) == pytest.approx((60 + 40) / 3600)


def test_started_machines_count_from_their_start_when_the_step_was_cut_off(plane, monkeypatch):
    cluster = plane.bring_up()
    plane.pass_time(600)
    want.stop_cluster(plane.world, ANN, "train", key=None)
    end(plane, cluster)
    plane.pass_time(3600)
    want.start_cluster(plane.world, ANN, "train", None, key=None)
    start = plane.compute.start

    def begin(place, ids):
        start(place, ids)
        cut_off()

    with monkeypatch.context() as patched:
        patched.setattr(plane.compute, "start", begin)
        with pytest.raises(KeyboardInterrupt):
            settle(plane.world, WORKSPACE, cluster.id)
    plane.pass_time(700)
    settle(plane.world, WORKSPACE, cluster.id)
    plane.pass_time(100)
    assert cluster_cost(plane.world, cluster) == pytest.approx((600 + 700 + 100) / 3600)
    assert sorted(entry.period for entry in entries(plane)) == [1, 2]


def test_each_machine_counts_until_it_ended_when_all_ends_are_seen_at_once(plane):
    cluster = plane.bring_up(task={"num_nodes": 4})
    first, second, third, _ = plane.compute.machines
    begun = plane.clock.now()
    for machine, seconds in ((first, 100), (second, 130), (third, 800)):
        plane.compute.become(machine, MachineState.TERMINATED, "preempted", ended_at=begun + seconds)
    plane.pass_time(1000)
    want.take_down(plane.world, ANN, "train", purge=False, key=None)
    end(plane, cluster)
    found = sorted(entries(plane), key=lambda one: one.period)
    assert [(one.count, one.ended_at - begun) for one in found] == [(4, 130), (2, 800), (1, 1000)]
    assert [one.started_at - begun for one in found] == [0, 130, 800]


def test_stopped_machines_that_start_again_are_counted_when_others_were_lost(plane):
    cluster = plane.bring_up(task={"num_nodes": 2})
    first, _ = plane.compute.machines
    plane.compute.become(first, MachineState.TERMINATED, "preempted")
    want.stop_cluster(plane.world, ANN, "train", key=None)
    end(plane, cluster)
    want.start_cluster(plane.world, ANN, "train", None, key=None)
    settle(plane.world, WORKSPACE, cluster.id)
    assert [one.count for one in sorted(entries(plane), key=lambda one: one.period)] == [2, 1]


def test_open_entry_is_settled_by_the_sweep_when_its_creation_is_over(plane, monkeypatch):
    cluster = plane.bring_up()
    monkeypatch.setattr("stix.application.end_machines.settle_entry", lambda *a, **k: None)
    want.take_down(plane.world, ANN, "train", purge=False, key=None)
    end(plane, cluster)
    assert entries(plane)[0].ended_at is None
    plane.pass_time(86400)
    sweep(plane.world)
    assert entries(plane)[0].ended_at is not None


def test_report_counts_only_its_window(plane):
    cluster = plane.bring_up()
    plane.pass_time(10 * 86400)
    report = cost_report(plane.world, WORKSPACE, days=2)
    (line,) = report["lines"]
    assert (line["seconds"], line["cost"]) == (2 * 86400, pytest.approx(48.0))
    want.take_down(plane.world, ANN, "train", purge=False, key=None)
    end(plane, cluster)
    plane.pass_time(3 * 86400)
    assert cost_report(plane.world, WORKSPACE, days=2)["lines"] == []
    assert len(cost_report(plane.world, WORKSPACE, days=30)["lines"]) == 1


# --- limits ---


def limited(plane: ControlPlane, **limits):
    return plane.bring_up(lifetime=LifetimeField(**limits))


def sweep_at(plane: ControlPlane, seconds: float) -> Cluster:
    """Beat so often that the agents stay heard of."""
    end_at = plane.clock.now() + seconds
    while plane.clock.now() < end_at:
        plane.pass_time(min(120.0, end_at - plane.clock.now()))
        plane.report(plane.cluster(), idle_since=None)
        sweep(plane.world)
        if plane.cluster().wanted is Wanted.ABSENT:
            break
    return plane.cluster()


def test_cluster_goes_down_when_it_lived_long_enough(plane):
    cluster = limited(plane, max_lifetime_seconds=3600)
    assert sweep_at(plane, 3300).wanted is Wanted.UP
    gone = sweep_at(plane, 900)
    assert gone.wanted is Wanted.ABSENT
    assert "max_lifetime" in gone.reason
    tags = plane.compute.requests[0].tags
    assert tags[DELETE_AT] == str(int(cluster.created_at + 3600))


def test_cluster_goes_down_when_it_cost_enough(plane):
    limited(plane, max_cost=0.5)
    assert sweep_at(plane, 1500).wanted is Wanted.UP
    gone = sweep_at(plane, 900)
    assert gone.wanted is Wanted.ABSENT
    assert "max_cost" in gone.reason


def test_tasks_own_max_cost_counts(plane):
    cluster = plane.bring_up(task={"max_cost": 3})
    assert cluster.lifetime == Lifetime(max_cost=3)


def test_stopped_cluster_goes_when_it_was_stopped_long_enough(plane):
    cluster = limited(plane, delete_after_seconds=7200)
    want.stop_cluster(plane.world, ANN, "train", key=None)
    end(plane, cluster)
    plane.pass_time(7100)
    sweep(plane.world)
    assert plane.cluster().wanted is Wanted.STOPPED
    plane.pass_time(200)
    sweep(plane.world)
    assert plane.cluster().wanted is Wanted.ABSENT


@given(
    spent=st.floats(0, 100),
    rate=st.floats(0, 100),
    age=st.floats(0, 1e6),
    max_cost=st.none() | st.floats(0.01, 100),
    max_lifetime=st.none() | st.floats(1, 1e6),
)
def test_ending_never_lets_a_cluster_pass_its_limits(spent, rate, age, max_cost, max_lifetime):
    cluster = Cluster(
        workspace="w",
        id="c",
        name="n",
        status=ClusterStatus.UP,
        since=0,
        created_at=0,
        num_nodes=1,
        lifetime=Lifetime(max_cost=max_cost, max_lifetime=max_lifetime),
    )
    ending = ending_of(cluster, spent=spent, rate=rate, now=age)
    if ending is None:
        assert max_lifetime is None
        assert max_cost is None or (spent < max_cost and rate == 0)
        return
    if max_lifetime is not None:
        assert ending.at <= max_lifetime
    if max_cost is not None and rate > 0:
        cost = spent + max(0.0, ending.at - age) / 3600 * rate
        assert cost <= max(spent, max_cost) * (1 + 1e-6)


# --- explain, and what is forgotten ---


def test_explanation_tells_what_was_tried_what_it_cost_and_when_it_ends(plane):
    plane.compute.full = {"a"}
    plane.launch(lifetime=LifetimeField(max_lifetime_seconds=3600))
    plane.rank(plane.cluster())
    assert plane.create(plane.cluster()) == "REFUSED"
    told = explain_cluster(plane.world, plane.cluster())
    assert [attempt["outcome"] for attempt in told["attempts"]] == ["no_capacity"]
    assert [offer["place"] for offer in told["next"]] == ["fake/north/b"]
    assert told["chosen"] is None
    assert plane.create(plane.cluster()) == "CREATED"
    plane.pass_time(900)
    told = explain_cluster(plane.world, plane.cluster())
    assert told["chosen"]["place"] == "fake/north/b"
    assert "number 2 of 2" in told["chosen"]["reason"]
    assert told["cost"] == pytest.approx(0.5)
    assert told["ends_at"] == plane.cluster().created_at + 3600
    assert any("refused: full" in line["message"] for line in told["decisions"])


def test_forgotten_machines_are_ended_when_their_cloud_is_back(plane, monkeypatch):
    plane.bring_up()
    gone = UnavailableError("the cloud is away")
    real = plane.compute.describe

    def away(*_):
        raise gone

    monkeypatch.setattr(plane.compute, "describe", away)
    want.take_down(plane.world, ANN, "train", purge=True, key=None)
    assert len(plane.compute.alive()) == 1
    for _ in range(3):
        plane.pass_time(600)
        sweep(plane.world)
    assert len(plane.compute.alive()) == 1
    monkeypatch.setattr(plane.compute, "describe", real)
    for _ in range(8):
        plane.pass_time(600)
        sweep(plane.world)
    assert plane.compute.alive() == []
    assert entries(plane)[0].ended_at is not None
    assert "TombstoneClosed" in plane.events.names()
