"""Attempts at making machines: intent, provider, outcome; refused, undone, given up."""

from __future__ import annotations

import pytest

from stix.application import begin_attempt, create_machines, undo_attempt, want
from stix.application.settle_cluster import confirm, settle
from stix.model.errors import (
    CredentialsError,
    InvalidRequestError,
    NoCapacityError,
    NotYetTerminatedError,
    ProviderError,
    QuotaExceededError,
    ThrottledError,
)
from stix.model.status import ClusterStatus, IntentStatus, JobStatus, NodeStatus, OperationStatus, Wanted
from stix.ports.compute import MachineState
from stix.ports.state_store import VersionConflictError
from tests.unit.world import ANN, WORKSPACE

TIMEOUT = {"Error": "States.Timeout", "Cause": ""}


@pytest.fixture
def cluster(plane):
    plane.launch(task={"num_nodes": 2})
    assert plane.rank(plane.cluster()) == "RANKED"
    return plane.cluster()


def test_offers_are_ranked_once_when_rank_is_repeated(plane, cluster):
    assert cluster.offers == 2
    assert plane.rank(cluster) == "RANKED"
    assert plane.cluster().plan_key == cluster.plan_key
    lines = [line.message for line in plane.operation(cluster.operation_id).progress]
    assert lines == ["Accepted: 2 offers fit.", "Chose fake/north/a m4 (1 USD/h): cheapest that fits."]


def test_rank_finds_no_offer_when_they_are_gone_meanwhile(plane):
    plane.launch()
    plane.compute._offers.clear()
    assert plane.rank(plane.cluster()) == "NO_OFFER"
    assert plane.cluster().reason


def test_machines_and_nodes_are_recorded_when_the_provider_accepts(plane, cluster):
    assert plane.create(cluster) == "CREATED"
    (request,) = plane.compute.requests
    (intent,) = plane.intents(cluster)
    assert (intent.status, intent.machine_ids) == (IntentStatus.CREATED, ("m-0", "m-1"))
    assert (request.count, request.token) == (2, intent.token)
    assert request.tags == {
        "stix-deployment": "test",
        "stix-workspace": WORKSPACE,
        "stix-cluster": cluster.id,
        "stix-name": "train",
        "stix-user": "ann",
        "stix-attempt": "0",
        "stix-intent": intent.token,
        "stix-nodes": "2",
        "stix-join": intent.join_hash,
        "stix-offer": "m4 a demand 1 4 16 -",
    }
    assert [(n.rank, n.machine_id, n.status) for n in plane.nodes(cluster)] == [
        (0, "m-0", NodeStatus.PENDING),
        (1, "m-1", NodeStatus.PENDING),
    ]
    assert plane.cluster().offer == request.offer
    assert plane.secrets.kept == {}


@pytest.mark.parametrize("error", [NoCapacityError, QuotaExceededError, CredentialsError, ProviderError])
def test_cursor_moves_on_when_the_provider_refuses(plane, cluster, error):
    plane.compute.refusals.append(error("not here"))
    assert plane.create(cluster) == "REFUSED"
    moved = plane.cluster()
    assert (moved.attempt, moved.offer) == (1, None)
    assert (moved.attempts[0].outcome, moved.attempts[0].place) == (error.default_code, "fake/north/a")
    assert plane.intents(cluster)[0].status is IntentStatus.REFUSED
    assert plane.secrets.kept == {}
    assert plane.create(moved) == "CREATED"
    assert plane.compute.requests[0].offer.zone == "b"


def test_launch_stops_at_once_when_the_request_is_invalid(plane, cluster):
    plane.compute.refusals.append(InvalidRequestError("bad image"))
    assert plane.create(cluster) == "EXHAUSTED"
    assert plane.compute.requests == []


def test_creation_is_exhausted_when_no_offer_is_left(plane, cluster):
    plane.compute.refusals += [NoCapacityError("none"), NoCapacityError("none")]
    assert [plane.create(cluster) for _ in range(3)] == ["REFUSED", "REFUSED", "EXHAUSTED"]


def test_same_attempt_is_tried_again_when_the_provider_throttles(plane, cluster):
    plane.compute.refusals.append(ThrottledError("slow down", retry_after=3))
    with pytest.raises(ThrottledError):
        plane.create(cluster)
    assert plane.cluster().attempt == 0
    assert plane.intents(cluster)[0].status is IntentStatus.PENDING
    assert plane.create(cluster) == "CREATED"


def test_nothing_is_created_when_the_cluster_is_wanted_otherwise(plane, cluster):
    want.take_down(plane.world, ANN, "train", purge=False, key=None)
    assert plane.create(cluster) == "MOVED"
    assert plane.rank(cluster) == "MOVED"
    assert plane.compute.requests == []


class Crash(BaseException):
    pass


def test_one_gang_is_made_when_the_answer_was_lost_and_the_step_repeated(plane, cluster, monkeypatch):
    real = plane.compute.create

    def lost(request):
        real(request)
        raise Crash

    monkeypatch.setattr(plane.compute, "create", lost)
    with pytest.raises(Crash):
        plane.create(cluster)
    monkeypatch.setattr(plane.compute, "create", real)
    assert plane.intents(cluster)[0].status is IntentStatus.PENDING
    assert plane.create(cluster) == "CREATED"
    assert len(plane.compute.machines) == 2
    assert plane.join(cluster, 1)["rank"] == 1


def test_nodes_are_recorded_when_the_step_died_right_after_the_outcome(plane, cluster, monkeypatch):
    real = create_machines.child_records

    def crash(*_args, **_options):
        raise Crash

    monkeypatch.setattr(create_machines, "child_records", crash)
    with pytest.raises(Crash):
        plane.create(cluster)
    monkeypatch.setattr(create_machines, "child_records", real)
    assert plane.intents(cluster)[0].status is IntentStatus.CREATED
    assert plane.create(cluster) == "CREATED"
    assert len(plane.nodes(cluster)) == 2
    assert plane.cluster().offer is not None
    assert plane.join(cluster, 0)["rank"] == 0
    assert plane.secrets.kept == {}


def test_machines_can_join_when_two_runs_prepared_the_same_attempt(plane, cluster, monkeypatch):
    """The other run writes its intent, then is throttled, between this one's look and its write."""
    real = begin_attempt.join_token
    others = iter([True])

    def interleaved(*args):
        if next(others, False):
            plane.compute.refusals.append(ThrottledError("slow down", retry_after=1))
            with pytest.raises(ThrottledError):
                plane.create(cluster)
        return real(*args)

    monkeypatch.setattr(begin_attempt, "join_token", interleaved)
    with pytest.raises(VersionConflictError):
        plane.create(cluster)
    assert plane.create(cluster) == "CREATED"
    assert plane.join(cluster, 0)["rank"] == 0
    assert plane.secrets.kept == {}


def test_machines_are_ended_when_the_cluster_went_down_during_the_call(plane, cluster, monkeypatch):
    """The teardown looks before the provider has made them: nothing is there to end."""
    real = plane.compute.create

    def overtaken(request):
        want.take_down(plane.world, ANN, "train", purge=False, key=None)
        for step in (settle, confirm):
            try:
                step(plane.world, WORKSPACE, cluster.id)
            except NotYetTerminatedError:
                return real(request)
        return real(request)

    monkeypatch.setattr(plane.compute, "create", overtaken)
    plane.create(cluster)
    plane.run_terminate(cluster)
    assert plane.by_id(cluster).status is ClusterStatus.TERMINATED
    assert plane.compute.alive() == []


def test_machines_are_ended_when_the_cluster_was_forgotten_during_the_call(plane, cluster, monkeypatch):
    real = plane.compute.create

    def overtaken(request):
        want.take_down(plane.world, ANN, "train", purge=True, key=None)
        return real(request)

    monkeypatch.setattr(plane.compute, "create", overtaken)
    assert plane.create(cluster) == "MOVED"
    assert plane.compute.alive() == []
    assert [intent.status for intent in plane.intents(cluster)] == [IntentStatus.ENDED]


def test_attempt_is_undone_when_nodes_do_not_join_in_time(plane, cluster):
    plane.create(cluster)
    plane.await_join(cluster)
    plane.join(cluster, 0)
    assert undo_attempt.undo(plane.world, WORKSPACE, cluster.id, TIMEOUT, attempt=0) == {"outcome": "UNDONE"}
    after = plane.cluster()
    assert (after.attempt, after.offer, after.join_task_token) == (1, None, "")
    assert after.attempts[0].reason == "node 1 did not join within 900 s."
    assert plane.compute.alive() == []
    assert plane.nodes(cluster) == []
    assert plane.intents(cluster)[0].status is IntentStatus.ENDED


def test_undo_waits_for_the_providers_word_when_machines_end_slowly(plane, cluster):
    plane.create(cluster)
    plane.compute.lag = 30
    with pytest.raises(NotYetTerminatedError):
        undo_attempt.undo(plane.world, WORKSPACE, cluster.id, TIMEOUT, attempt=0)
    assert plane.cluster().attempt == 0
    assert plane.intents(cluster)[0].status is IntentStatus.CREATED
    plane.pass_time(31)
    assert undo_attempt.undo(plane.world, WORKSPACE, cluster.id, TIMEOUT, attempt=0)["outcome"] == "UNDONE"
    assert plane.compute.state("m-0") is MachineState.TERMINATED
    assert plane.compute.calls.count("terminate") == 1


def test_machines_stay_when_undo_comes_after_the_cluster_is_up(plane):
    cluster = plane.bring_up()
    assert undo_attempt.undo(plane.world, WORKSPACE, cluster.id, TIMEOUT, attempt=0) == {"outcome": "MOVED"}
    assert len(plane.compute.alive()) == 1


def test_machines_of_the_next_attempt_stay_when_an_earlier_ones_undo_comes_late(plane, cluster):
    plane.create(cluster)
    undo_attempt.undo(plane.world, WORKSPACE, cluster.id, TIMEOUT, attempt=0)
    plane.create(cluster)
    late = undo_attempt.undo(plane.world, WORKSPACE, cluster.id, TIMEOUT, attempt=0)
    assert late == {"outcome": "MOVED"}
    assert plane.compute.alive() != []


def test_operation_fails_with_what_was_tried_when_the_launch_is_given_up(plane, cluster):
    plane.compute.refusals += [NoCapacityError("full"), QuotaExceededError("no quota")]
    plane.create(cluster)
    plane.create(cluster)
    for _ in range(2):
        undo_attempt.give_up(plane.world, WORKSPACE, cluster.id)
    operation = plane.operation(cluster.operation_id)
    assert operation.status is OperationStatus.FAILED
    assert operation.error is not None
    assert operation.error["code"] == "launch_failed"
    assert "fake/north/a m4: full" in operation.error["message"]
    assert "fake/north/b m4: no quota" in operation.error["message"]
    gone = plane.by_id(cluster)
    assert (gone.status, gone.wanted) == (ClusterStatus.TERMINATED, Wanted.ABSENT)
    job = plane.job(cluster)
    assert (job.status, job.reason) == (JobStatus.FAILED_DRIVER, operation.error["message"])
    assert plane.launch()["created"]


def test_lost_machines_make_room_for_the_next_offer_when_their_launch_was_cut_off(plane, cluster):
    """The run died between ending the machines and moving on; the sweep's run must not wait for ever."""
    plane.create(cluster)
    for machine_id in plane.compute.alive():
        plane.compute.become(machine_id, MachineState.TERMINATED, "reclaimed")
    settle(plane.world, WORKSPACE, cluster.id)
    assert confirm(plane.world, WORKSPACE, cluster.id) == {"wanted": "NOTHING"}
    after = plane.cluster()
    assert (after.attempt, after.offer) == (1, None)
    assert after.due_at is not None
    assert after.due_at <= plane.clock.now() + 60
    assert plane.create(after) == "CREATED"
    assert len(plane.nodes(cluster)) == 2
