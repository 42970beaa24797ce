"""The ledger: what machines cost, whatever happens to them and to the steps that write it."""

from __future__ import annotations

import pytest

from stix.application import end_machines, want
from stix.application.ledger import cluster_cost, entries_since, settle_entry
from stix.application.settle_cluster import confirm, settle
from stix.application.sweep import sweep
from stix.model.cluster import Cluster
from stix.model.errors import NoCapacityError, UnavailableError
from stix.model.ledger import LedgerEntry
from stix.ports.compute import MachineState, Place
from tests.unit.world import ANN, WORKSPACE, ControlPlane


def entries(plane: ControlPlane) -> list[LedgerEntry]:
    return sorted(entries_since(plane.world, WORKSPACE, 0.0), key=lambda one: one.period)


def cut_off(*_, **__) -> None:
    raise KeyboardInterrupt


def test_price_and_time_are_written_when_machines_start_and_settled_at_their_end(plane):
    cluster = plane.bring_up(task={"num_nodes": 2, "resources": {"labels": {"team": "vision"}}})
    (entry,) = entries(plane)
    assert (entry.price, entry.count, entry.labels, entry.user) == (1.0, 2, {"team": "vision"}, "ann")
    assert entry.ended_at is None
    plane.pass_time(1800)
    assert cluster_cost(plane.world, cluster) == pytest.approx(1.0)
    want.take_down(plane.world, ANN, "train", purge=False, key=None)
    plane.run_terminate(cluster)
    plane.pass_time(7200)
    (entry,) = entries(plane)
    assert entry.ended_at - entry.started_at == 1800
    assert entry.cost(plane.clock.now()) == pytest.approx(1.0)


def test_stopped_time_costs_nothing_and_every_start_is_an_entry(plane):
    cluster = plane.bring_up()
    plane.pass_time(600)
    want.stop_cluster(plane.world, ANN, "train", key=None)
    plane.run_terminate(cluster)
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
    plane.run_terminate(cluster)
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
    plane.run_terminate(cluster)
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
    plane.run_terminate(cluster)
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
    plane.run_terminate(cluster)
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
    plane.run_terminate(cluster)
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
    plane.run_terminate(cluster)
    found = sorted(entries(plane), key=lambda one: one.period)
    assert [(one.count, one.ended_at - begun) for one in found] == [(4, 130), (2, 800), (1, 1000)]
    assert [one.started_at - begun for one in found] == [0, 130, 800]


def test_stopped_machines_that_start_again_are_counted_when_others_were_lost(plane):
    cluster = plane.bring_up(task={"num_nodes": 2})
    plane.pass_time(60)
    first, _ = plane.compute.machines
    plane.compute.become(first, MachineState.TERMINATED, "preempted")
    want.stop_cluster(plane.world, ANN, "train", key=None)
    plane.run_terminate(cluster)
    want.start_cluster(plane.world, ANN, "train", None, key=None)
    settle(plane.world, WORKSPACE, cluster.id)
    assert [one.count for one in sorted(entries(plane), key=lambda one: one.period)] == [2, 1]


def test_open_entry_is_settled_by_the_sweep_when_its_creation_is_over(plane, monkeypatch):
    cluster = plane.bring_up()
    monkeypatch.setattr("stix.application.end_machines.settle_entry", lambda *a, **k: None)
    want.take_down(plane.world, ANN, "train", purge=False, key=None)
    plane.run_terminate(cluster)
    assert entries(plane)[0].ended_at is None
    plane.pass_time(86400)
    sweep(plane.world)
    assert entries(plane)[0].ended_at is not None


# --- starts that fail ---


def refused_start(plane: ControlPlane) -> None:
    with pytest.raises(NoCapacityError):
        settle(plane.world, WORKSPACE, plane.cluster().id)


def stopped_for_an_hour(plane: ControlPlane, machines: int) -> Cluster:
    """Up for 600 s, then stopped, at a moment which its cloud names; somebody wants it to start again."""
    cluster = plane.bring_up(task={"num_nodes": machines})
    plane.pass_time(600)
    want.stop_cluster(plane.world, ANN, "train", key=None)
    settle(plane.world, WORKSPACE, cluster.id)
    for machine in plane.compute.machines:
        plane.compute.become(machine, MachineState.STOPPED, ended_at=plane.clock.now())
    confirm(plane.world, WORKSPACE, cluster.id)
    plane.pass_time(3600)
    want.start_cluster(plane.world, ANN, "train", None, key=None)
    return cluster


def test_time_in_which_no_machine_could_be_started_costs_nothing(plane):
    cluster = stopped_for_an_hour(plane, 2)
    plane.compute.start_refusals = [NoCapacityError("full"), NoCapacityError("full")]
    refused_start(plane)
    plane.pass_time(700)
    refused_start(plane)
    plane.pass_time(9000)
    settle(plane.world, WORKSPACE, cluster.id)
    plane.pass_time(40)
    assert [(one.count, one.ended_at is None) for one in entries(plane)] == [(2, False), (2, True)]
    assert cluster_cost(plane.world, cluster) == pytest.approx(2 * (600 + 40) / 3600)


def test_only_those_that_run_count_while_others_could_not_be_started(plane):
    cluster = stopped_for_an_hour(plane, 3)
    plane.compute.start_refusals = [NoCapacityError("full")]
    refused_start(plane)
    # A start does not take all or none everywhere.
    first, *_ = plane.compute.machines
    plane.compute.start(Place("fake", "r"), [first])
    plane.pass_time(700)
    settle(plane.world, WORKSPACE, cluster.id)
    plane.pass_time(40)
    assert [one.count for one in entries(plane)] == [3, 1, 3]
    assert cluster_cost(plane.world, cluster) == pytest.approx((3 * 600 + 700 + 3 * 40) / 3600)


def test_time_until_a_start_counts_when_its_cloud_does_not_say_since_when_machines_are_stopped(plane):
    """They may have run meanwhile: what is entered is too much rather than too little."""
    cluster = stopped_for_an_hour(plane, 1)
    (machine,) = plane.compute.machines
    plane.compute.become(machine, MachineState.STOPPED)
    plane.compute.start_refusals = [NoCapacityError("full")]
    refused_start(plane)
    plane.pass_time(700)
    settle(plane.world, WORKSPACE, cluster.id)
    plane.pass_time(40)
    assert cluster_cost(plane.world, cluster) == pytest.approx((600 + 700 + 40) / 3600)
