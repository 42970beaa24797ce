"""Agents join, the waiting run hears of the last one, the jobs are handed over."""

from __future__ import annotations

import pytest

from stix.application import join_nodes, want
from stix.application.tokens import NodePrincipal, authenticate
from stix.model.errors import ConflictError, UnauthorizedError
from stix.model.status import ClusterStatus, JobStatus, NodeStatus, OperationStatus
from tests.unit.world import ANN, WORKSPACE


@pytest.fixture
def cluster(plane):
    return plane.boot(task={"num_nodes": 2})


def test_rank_follows_the_machine_when_agents_join_in_any_order(plane, cluster):
    second, first = plane.join(cluster, 1), plane.join(cluster, 0)
    assert (second["rank"], first["rank"]) == (1, 0)
    assert second["num_nodes"] == 2
    assert first["cluster_key"] == second["cluster_key"] != ""
    assert [node.address for node in plane.nodes(cluster)] == ["10.0.0.0", "10.0.0.1"]
    assert {"node/" + cluster.id + "/0", "node/" + cluster.id + "/1"} <= set(plane.wake.topics)


def test_join_must_wait_when_the_machine_is_not_recorded_yet(plane, cluster):
    with pytest.raises(ConflictError) as caught:
        plane.join(cluster, machine_id="m-99")
    assert caught.value.code == "not_ready"


def test_old_token_stops_working_when_a_machine_joins_again(plane, cluster):
    first, second = plane.join(cluster), plane.join(cluster)
    assert authenticate(plane.world, first["node_token"]) is None
    assert authenticate(plane.world, second["node_token"]) == NodePrincipal(WORKSPACE, cluster.id, 0)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "stixj.a.b",
        "stixj.team.nobody.0.x",
        "stixn.team.c.0.x",
        "stixj.team.{id}.0.wrong",
        "stixj.team.{id}.x.y",
    ],
)
def test_join_is_refused_when_the_token_is_wrong(plane, cluster, token):
    with pytest.raises(UnauthorizedError):
        plane.join(cluster, token=token.format(id=cluster.id))


def test_join_says_gone_when_the_cluster_is_going_down(plane, cluster):
    want.take_down(plane.world, ANN, "train", purge=False, key=None)
    with pytest.raises(join_nodes.GoneError):
        plane.join(cluster)


def test_join_says_gone_when_the_attempt_was_undone(plane, cluster):
    from stix.application.undo_attempt import undo

    gang = plane.compute.requests[0]
    undo(plane.world, WORKSPACE, cluster.id, {"Error": "States.Timeout"}, attempt=0)
    with pytest.raises(join_nodes.GoneError):
        plane.join(cluster, token=gang.join_token)


def test_waiting_run_is_answered_when_the_last_node_joins_after_it_began_to_wait(plane, cluster):
    plane.join(cluster, 1)
    plane.await_join(cluster)
    assert plane.workflows.answers == {}
    plane.join(cluster, 0)
    assert plane.workflows.answers == {"token": ("succeeded", "")}


def test_waiting_run_is_answered_when_all_nodes_joined_before_it_began_to_wait(plane, cluster):
    plane.join(cluster, 1)
    plane.join(cluster, 0)
    plane.await_join(cluster)
    assert plane.workflows.answers == {"token": ("succeeded", "")}


def test_run_fails_at_once_when_it_begins_to_wait_for_a_cluster_going_down(plane, cluster):
    want.take_down(plane.world, ANN, "train", purge=False, key=None)
    plane.await_join(cluster)
    assert plane.workflows.answers == {"token": ("failed", "NodeLostError")}


def test_waiting_run_fails_when_the_cluster_is_taken_down_meanwhile(plane, cluster):
    launch_operation = plane.cluster().operation_id
    plane.await_join(cluster)
    want.take_down(plane.world, ANN, "train", purge=False, key=None)
    assert plane.workflows.answers == {"token": ("failed", "NodeLostError")}
    assert plane.operation(launch_operation).status is OperationStatus.CANCELLED


def test_join_succeeds_when_the_kept_token_is_of_a_run_that_is_over(plane, cluster):
    """A run timed out; its token is still in the cluster until somebody waits again."""
    plane.await_join(cluster, "old")
    plane.workflows.waiting.clear()
    plane.join(cluster, 0)
    plane.join(cluster, 1)
    plane.await_join(cluster, "new")
    assert plane.workflows.answers == {"new": ("succeeded", "")}


def test_cluster_is_up_once_when_the_jobs_are_handed_over_twice(plane, cluster):
    plane.await_join(cluster)
    plane.join(cluster, 0)
    plane.join(cluster, 1)
    assert plane.hand_over(cluster) == "UP"
    plane.pass_time(5)
    assert plane.hand_over(cluster) == "UP"
    up = plane.cluster()
    assert (up.status, up.join_task_token, up.since) == (ClusterStatus.UP, "", plane.clock.now() - 5)
    assert plane.job(cluster).status is JobStatus.PENDING
    assert plane.operation(up.operation_id).status is OperationStatus.SUCCEEDED
    assert plane.events.names().count("OperationEnded") == 1


def test_nothing_is_handed_over_when_the_cluster_is_wanted_otherwise(plane, cluster):
    want.take_down(plane.world, ANN, "train", purge=False, key=None)
    assert plane.hand_over(cluster) == "MOVED"
    assert plane.job(cluster).status is JobStatus.INIT


def test_node_is_pending_again_when_its_machine_was_stopped_and_started(plane):
    cluster = plane.bring_up()
    assert plane.nodes(cluster)[0].status is NodeStatus.UP
    from stix.application.settle_cluster import settle

    want.stop_cluster(plane.world, ANN, "train", key=None)
    settle(plane.world, WORKSPACE, cluster.id)
    want.start_cluster(plane.world, ANN, "train", None, key=None)
    settle(plane.world, WORKSPACE, cluster.id)
    assert plane.nodes(cluster)[0].status is NodeStatus.PENDING
    plane.await_join(cluster, "again")
    assert "again" not in plane.workflows.answers
    plane.report(cluster)
    assert plane.workflows.answers["again"] == ("succeeded", "")
