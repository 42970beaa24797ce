"""Several offers are asked at once: one gang becomes the cluster, and nothing of the others is left."""

from __future__ import annotations

import itertools

import pytest

from stix.application import join_nodes, undo_attempt, want
from stix.application.ledger import entries_since
from stix.application.sweep import sweep
from stix.model.errors import ConflictError, NoCapacityError, NotYetTerminatedError, UnavailableError
from stix.model.status import ClusterStatus, IntentStatus
from stix.ports.compute import MachineState
from tests.unit.world import ANN, WORKSPACE, ControlPlane, offer

LATE = "not_ready"


@pytest.fixture
def plane(tmp_path):
    made = ControlPlane(tmp_path, [offer(zone, price) for price, zone in enumerate("abcd", 1)])
    yield made
    made.close()


def race(plane, **fields):
    """A launch of two nodes in three places, every machine accepted and none up."""
    cluster = plane.boot("train", task={"num_nodes": 2}, race=3, **fields)
    plane.await_join(cluster)
    return cluster


def zones(plane):
    return [request.offer.zone for request in plane.compute.requests]


def call(plane, zone, rank):
    """One agent of the gang in a zone; what the control plane says to it."""
    gang = next(one for one in plane.compute.requests if one.offer.zone == zone)
    machine = plane.compute.gangs[gang.token][rank]
    try:
        return join_nodes.join(plane.world, gang.join_token, {"machine_id": machine, "peer_port": 1})
    except ConflictError as error:
        return error.code
    except join_nodes.GoneError:
        return "gone"


def alive_in(plane):
    tokens = {request.token: request.offer.zone for request in plane.compute.requests}
    return {
        tokens[token]
        for token, machines in plane.compute.gangs.items()
        if any(plane.compute.state(machine) is not MachineState.TERMINATED for machine in machines)
    }


def finish(plane):
    cluster = plane.cluster()
    assert plane.hand_over(cluster) == "UP"
    for _ in range(4):
        plane.pass_time(30)
        for rank in range(2):
            plane.report(plane.cluster(), rank)
        sweep(plane.world)
    return plane.cluster()


def test_best_offers_are_asked_at_once_when_a_race_is_wanted(plane):
    cluster = race(plane)
    assert zones(plane) == ["a", "b", "c"]
    assert [one.status for one in plane.intents(cluster)] == ["CREATED", "RACING", "RACING"]
    assert alive_in(plane) == {"a", "b", "c"}


@pytest.mark.parametrize("winner", ["a", "b", "c"])
def test_gang_that_is_whole_first_is_the_cluster(plane, winner):
    race(plane)
    for zone in "abc":
        call(plane, zone, 0)
    assert plane.workflows.answers == {}
    call(plane, winner, 1)
    for rank in range(2):
        assert call(plane, winner, rank)["rank"] == rank
    assert plane.workflows.answers == {"token": ("succeeded", "")}
    up = finish(plane)
    assert (up.status, up.offer.zone, up.racing) == (ClusterStatus.UP, winner, False)
    assert alive_in(plane) == {winner}
    assert {node.machine_id for node in plane.nodes(up)} == set(plane.compute.alive())
    for loser in {"a", "b", "c"} - {winner}:
        assert call(plane, loser, 0) == "gone"
    entries = list(entries_since(plane.world, WORKSPACE, 0))
    assert {one.offer.zone for one in entries} == {"a", "b", "c"}
    assert [one.offer.zone for one in entries if one.ended_at is None] == [winner]


def test_one_gang_wins_when_all_are_whole_at_once(plane):
    for order in itertools.permutations("abc"):
        name = "".join(order)
        plane.compute.requests.clear()
        cluster = plane.boot(name, task={"num_nodes": 2}, race=3)
        plane.await_join(cluster, f"token-{name}")
        for rank, zone in itertools.product(range(2), order * 2):
            call(plane, zone, rank)
        won = plane.cluster(name).offer.zone
        assert [call(plane, won, rank)["rank"] for rank in range(2)] == [0, 1]
        assert {call(plane, zone, rank) for zone in order if zone != won for rank in range(2)} <= {
            "gone",
            LATE,
        }
        assert plane.workflows.answers[f"token-{name}"] == ("succeeded", "")


def test_launch_goes_on_with_a_rival_when_its_first_offer_fails(plane):
    cluster = race(plane)
    undo_attempt.undo(plane.world, WORKSPACE, cluster.id, {"Error": "NodeLostError"}, attempt=0)
    assert plane.create(plane.cluster()) == "CREATED"
    assert (plane.cluster().attempt, plane.cluster().offer.zone) == (1, "b")
    assert zones(plane) == ["a", "b", "c", "d"]
    for rank in range(2):
        assert call(plane, "b", rank)["rank"] == rank
    assert finish(plane).offer.zone == "b"
    assert alive_in(plane) == {"b"}


def test_rival_leaves_the_race_when_its_machine_is_lost(plane):
    cluster = race(plane)
    gang = plane.compute.requests[1]
    plane.compute.become(plane.compute.gangs[gang.token][0], MachineState.TERMINATED, "no capacity")
    for _ in range(3):
        plane.pass_time(21)
        sweep(plane.world)
    assert [one.status for one in plane.intents(cluster)] == ["CREATED", "ENDED", "RACING"]
    assert alive_in(plane) == {"a", "c"}
    assert plane.workflows.answers == {}


@pytest.mark.parametrize("error", [NoCapacityError("full"), UnavailableError("lost")])
def test_race_has_fewer_gangs_when_a_rival_is_not_accepted(plane, error, monkeypatch):
    real = plane.compute.create

    def create(request):
        if request.offer.zone == "b":
            raise error
        return real(request)

    monkeypatch.setattr(plane.compute, "create", create)
    cluster = race(plane)
    assert zones(plane)[:2] == ["a", "c"]
    for rank in range(2):
        call(plane, "a", rank)
    up = finish(plane)
    assert up.offer.zone == "a"
    plane.pass_time(200)
    for rank in range(2):
        plane.report(up, rank)
    sweep(plane.world)
    assert alive_in(plane) == {"a"}
    open_ones = [one for one in plane.intents(cluster) if one.status in ("PENDING", "RACING")]
    assert open_ones == []


def test_nothing_is_left_when_the_cluster_goes_down_during_the_race(plane):
    cluster = race(plane)
    want.take_down(plane.world, ANN, "train", purge=False, key=None)
    plane.run_terminate(cluster)
    assert alive_in(plane) == set()
    assert plane.compute.held == set()


def test_nothing_is_asked_twice_when_the_step_is_repeated(plane):
    cluster = race(plane)
    calls = plane.compute.calls.count("create")
    assert plane.create(plane.by_id(cluster)) == "CREATED"
    assert plane.compute.calls.count("create") == calls


def test_rivals_are_looked_at_again_when_they_do_not_end_at_once(plane):
    race(plane)
    plane.compute.lag = 100
    for rank in range(2):
        call(plane, "a", rank)
    up = finish(plane)
    assert up.racing
    with pytest.raises(NotYetTerminatedError):
        undo_attempt.end_intent(plane.world, plane.intents(up)[1], "x")
    plane.pass_time(100)
    for rank in range(2):
        plane.report(up, rank)
    sweep(plane.world)
    assert not plane.cluster().racing
    assert [one.status for one in plane.intents(up)] == [IntentStatus.CREATED] + [IntentStatus.ENDED] * 2
