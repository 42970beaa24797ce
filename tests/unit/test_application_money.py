"""What clusters cost and when they must end: reports, limits, and the watch over the forgotten."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stix.api.v1 import Lifetime as LifetimeField
from stix.application import want
from stix.application.costs import cost_report
from stix.application.explain import explain_cluster
from stix.application.ledger import entries_since
from stix.application.machine_tags import DELETE_AT
from stix.application.sweep import sweep
from stix.lifecycle.lifetimes import ending_of
from stix.model.cluster import Cluster, Lifetime
from stix.model.errors import UnavailableError
from stix.model.status import ClusterStatus, Wanted
from tests.unit.world import ANN, WORKSPACE, ControlPlane


def test_report_counts_only_its_window(plane):
    cluster = plane.bring_up()
    plane.pass_time(10 * 86400)
    report = cost_report(plane.world, WORKSPACE, days=2)
    (line,) = report["lines"]
    assert (line["seconds"], line["cost"]) == (2 * 86400, pytest.approx(48.0))
    want.take_down(plane.world, ANN, "train", purge=False, key=None)
    plane.run_terminate(cluster)
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
    plane.run_terminate(cluster)
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
    (entry,) = entries_since(plane.world, WORKSPACE, 0.0)
    assert entry.ended_at is not None
    assert "TombstoneClosed" in plane.events.names()
