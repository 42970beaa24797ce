"""Down, stop, start: what is wanted, what the provider is told, what its word ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stix.api.v1 import Autostop
from stix.application import want
from stix.application.settle_cluster import close, confirm, settle
from stix.model.errors import (
    ConflictError,
    InvalidInputError,
    InvalidRequestError,
    NotFoundError,
    NotYetTerminatedError,
)
from stix.model.status import ClusterStatus, IntentStatus, JobStatus, NodeStatus, OperationStatus, Wanted
from stix.ports.compute import MachineState
from stix.ports.state_store import Key
from tests.unit.world import ANN, FAKE_FACTS, WORKSPACE


def down(plane, **fields):
    return want.take_down(plane.world, ANN, "train", **({"purge": False, "key": None} | fields))[
        "operation_id"
    ]


def stop(plane, key=None):
    return want.stop_cluster(plane.world, ANN, "train", key=key)["operation_id"]


def start(plane, autostop=None, key=None):
    return want.start_cluster(plane.world, ANN, "train", autostop, key=key)["operation_id"]


def stopped(plane):
    cluster = plane.bring_up()
    stop(plane)
    assert plane.run_terminate(cluster) == "STOPPED"
    return plane.cluster()


def test_everything_of_a_cluster_expires_when_it_is_gone(plane):
    cluster = plane.bring_up(task={"num_nodes": 2})
    operation = down(plane)
    plane.run_terminate(cluster)
    store = plane.world.store
    left = [
        store.get(Key.top(WORKSPACE, "counter", cluster.id)),
        store.get(Key.top(WORKSPACE, "name", "train")),
    ]
    left += [store.get(Key.top(WORKSPACE, "cluster", cluster.id))]
    left += [store.get(Key.top(WORKSPACE, "operation", operation))]
    for kind in ("node", "heartbeat", "intent", "job", "command"):
        children = store.children(WORKSPACE, kind, cluster.id).items
        assert children, kind
        left += children
    assert [str(item.key) for item in left if item.expires_at is None] == []


def test_cluster_ends_on_the_providers_word_when_taken_down(plane):
    cluster = plane.bring_up(task={"num_nodes": 2})
    plane.compute.lag = 30
    operation = down(plane)
    for _ in range(2):
        with pytest.raises(NotYetTerminatedError, match="terminating"):
            settle(plane.world, WORKSPACE, cluster.id)
    assert plane.cluster().status is ClusterStatus.UP
    plane.pass_time(31)
    assert plane.run_terminate(cluster) == "ABSENT"
    gone = plane.by_id(cluster)
    assert (gone.status, gone.due_at) == (ClusterStatus.TERMINATED, None)
    assert plane.operation(operation).status is OperationStatus.SUCCEEDED
    assert [node.status for node in plane.nodes(cluster)] == [NodeStatus.TERMINATED] * 2
    assert [node.token_hash for node in plane.nodes(cluster)] == ["", ""]
    assert plane.intents(cluster)[0].status is IntentStatus.ENDED
    assert plane.job(cluster).status is JobStatus.CANCELLED
    assert plane.launch()["created"]


def test_nothing_happens_when_a_closed_cluster_is_closed_again(plane):
    cluster = plane.bring_up()
    down(plane)
    plane.run_terminate(cluster)
    before = plane.by_id(cluster)
    plane.pass_time(5)
    close(plane.world, cluster, reason="again")
    assert plane.run_terminate(cluster) == "NOTHING"
    assert plane.by_id(cluster) == before
    assert plane.events.names().count("ClusterEnded") == 1
    assert plane.events.names().count("JobEnded") == 1


def test_name_stays_with_the_new_cluster_when_the_old_one_is_closed_late(plane):
    old = plane.bring_up()
    down(plane, purge=True)
    plane.launch()
    close(plane.world, old, reason="late")
    assert plane.cluster().id != old.id


def test_name_is_free_as_soon_as_the_operation_has_ended(plane):
    """Whoever waited for the end may use the name at once."""
    cluster = plane.bring_up()
    operation = down(plane)
    settle(plane.world, WORKSPACE, cluster.id)
    real, seen = plane.store.transact, []

    def watched(writes):
        answer = real(writes)
        if plane.operation(operation).status.terminal and not seen:
            seen.append(plane.by_id(cluster).status)
        return answer

    object.__setattr__(plane.store, "transact", watched)
    confirm(plane.world, WORKSPACE, cluster.id)
    assert seen == [ClusterStatus.TERMINATED]


def test_last_operation_succeeds_when_down_is_asked_again_while_it_runs(plane):
    cluster = plane.bring_up()
    first = down(plane)
    real = plane.compute.terminate
    second = []

    def asked_again(place, machine_ids):
        real(place, machine_ids)
        second.append(down(plane))

    plane.compute.terminate = asked_again
    assert plane.run_terminate(cluster) == "ABSENT"
    assert plane.operation(first).status is OperationStatus.CANCELLED
    assert plane.operation(second[0]).status is OperationStatus.SUCCEEDED


def test_last_operation_succeeds_when_down_is_asked_again_between_the_last_steps(plane, monkeypatch):
    from stix.application import settle_cluster

    cluster = plane.bring_up()
    down(plane)
    settle(plane.world, WORKSPACE, cluster.id)
    real, second = settle_cluster.close, []

    def asked_again(world, record, *, reason):
        second.append(down(plane))
        real(world, record, reason=reason)

    monkeypatch.setattr(settle_cluster, "close", asked_again)
    confirm(plane.world, WORKSPACE, cluster.id)
    assert plane.operation(second[0]).status is OperationStatus.SUCCEEDED


def test_same_operation_is_answered_when_down_is_repeated_under_its_key(plane):
    plane.bring_up()
    first = down(plane, key="k")
    assert down(plane, key="k") == first
    assert plane.workflows.machines() == ["launch", "terminate"]
    with pytest.raises(ConflictError, match="different request"):
        down(plane, key="k", purge=True)


def test_cluster_is_forgotten_when_purged_and_its_machines_found_by_the_orphan_sweep(plane):
    from stix.application.sweep_orphans import sweep_place

    cluster = plane.bring_up()
    operation = down(plane, purge=True)
    assert plane.by_id(cluster).status is ClusterStatus.TERMINATED
    assert plane.operation(operation).status is OperationStatus.SUCCEEDED
    assert len(plane.compute.alive()) == 1
    assert sweep_place(plane.world, "fake", "north")["marked"] == 1
    plane.pass_time(301)
    assert sweep_place(plane.world, "fake", "north")["ended"] == 1
    assert plane.compute.alive() == []


def test_machines_are_ended_by_the_run_when_a_purged_clusters_cloud_still_answers(plane):
    cluster = plane.bring_up()
    down(plane, purge=True)
    assert plane.run_terminate(cluster) == "NOTHING"
    assert plane.compute.alive() == []


def test_unknown_cluster_is_not_found_when_asked_for(plane):
    for ask in (down, stop, start):
        with pytest.raises(NotFoundError):
            ask(plane)


def test_down_waits_for_a_create_call_that_may_be_under_way(plane, monkeypatch):
    """The call's answer was lost and the provider does not show its machines yet."""
    plane.launch()
    cluster = plane.cluster()
    plane.rank(cluster)

    def lost(_request):
        raise TimeoutError

    monkeypatch.setattr(plane.compute, "create", lost)
    with pytest.raises(TimeoutError):
        plane.create(cluster)
    down(plane)
    with pytest.raises(NotYetTerminatedError):
        settle(plane.world, WORKSPACE, cluster.id)
    plane.pass_time(200)
    assert plane.run_terminate(cluster) == "ABSENT"


def test_jobs_end_and_the_cluster_is_stopped_when_the_provider_says_so(plane):
    cluster = plane.bring_up()
    plane.compute.lag = 10
    operation = stop(plane)
    settle(plane.world, WORKSPACE, cluster.id)
    with pytest.raises(NotYetTerminatedError):
        confirm(plane.world, WORKSPACE, cluster.id)
    plane.pass_time(11)
    assert confirm(plane.world, WORKSPACE, cluster.id) == {"wanted": "STOPPED"}
    after = plane.cluster()
    assert (after.status, after.wanted) == (ClusterStatus.STOPPED, Wanted.STOPPED)
    assert plane.operation(operation).status is OperationStatus.SUCCEEDED
    assert (plane.job(cluster).status, plane.job(cluster).reason) == (
        JobStatus.CANCELLED,
        "the cluster was stopped",
    )
    assert plane.nodes(cluster)[0].status is NodeStatus.STOPPED
    assert plane.compute.calls.count("stop") == 1


def test_stop_succeeds_at_once_when_the_cluster_is_stopped(plane):
    stopped(plane)
    runs = len(plane.workflows.runs)
    assert plane.operation(stop(plane)).status is OperationStatus.SUCCEEDED
    assert len(plane.workflows.runs) == runs


def test_stop_is_refused_when_there_are_no_machines_or_they_cannot_stop(plane):
    plane.launch()
    with pytest.raises(ConflictError, match="no machines yet"):
        stop(plane)
    plane.rank(plane.cluster())
    plane.create(plane.cluster())
    plane.world.clouds["fake"] = replace(FAKE_FACTS, stops=False)
    with pytest.raises(InvalidInputError) as caught:
        stop(plane)
    assert caught.value.code == "cannot_stop"


def test_same_machines_run_again_when_a_stopped_cluster_is_started(plane):
    cluster = stopped(plane)
    operation = start(plane)
    assert plane.run_terminate(cluster) == "UP"
    plane.await_join(cluster, "start")
    plane.join(cluster)
    assert plane.workflows.answers["start"] == ("succeeded", "")
    assert plane.hand_over(cluster) == "UP"
    assert plane.operation(operation).status is OperationStatus.SUCCEEDED
    assert len(plane.compute.machines) == 1
    assert plane.compute.calls.count("start") == 1


def test_start_waits_when_a_machine_is_still_stopping(plane):
    cluster = plane.bring_up()
    stop(plane)
    plane.compute.lag = 10
    settle(plane.world, WORKSPACE, cluster.id)
    start(plane)
    with pytest.raises(NotYetTerminatedError):
        settle(plane.world, WORKSPACE, cluster.id)
    plane.pass_time(11)
    settle(plane.world, WORKSPACE, cluster.id)
    assert plane.compute.state("m-0") is MachineState.PENDING


def test_start_succeeds_at_once_when_the_cluster_is_up(plane):
    plane.bring_up()
    assert plane.operation(start(plane)).status is OperationStatus.SUCCEEDED
    assert plane.workflows.machines() == ["launch"]


def test_launch_goes_on_when_a_cluster_that_is_launching_is_started(plane):
    cluster = plane.boot()
    plane.await_join(cluster)
    assert start(plane) == cluster.operation_id
    assert plane.operation(cluster.operation_id).status is not OperationStatus.CANCELLED
    assert plane.workflows.answers == {}
    assert plane.workflows.machines() == ["launch"]


def test_autostop_is_set_as_well_when_start_carries_one(plane):
    stopped(plane)
    start(plane, Autostop(idle_minutes=7, down=True))
    setting = plane.cluster().autostop
    assert setting is not None
    assert (setting.idle_minutes, setting.down) == (7, True)


def test_start_fails_with_the_way_out_when_some_machines_are_gone(plane):
    cluster = plane.bring_up(task={"num_nodes": 2})
    stop(plane)
    plane.run_terminate(cluster)
    plane.compute.become("m-1", MachineState.TERMINATED, "spot reclaim")
    operation = start(plane)
    assert plane.run_terminate(cluster) == "NOTHING"
    ended = plane.operation(operation)
    assert ended.status is OperationStatus.FAILED
    assert ended.error is not None
    assert "m-1 is terminated spot reclaim" in ended.error["message"]
    assert plane.compute.state("m-0") is not MachineState.TERMINATED


@pytest.mark.parametrize(
    "ask", [stop, start, lambda plane: want.set_autostop(plane.world, ANN, "train", None)]
)
def test_request_is_refused_when_the_cluster_is_going_down(plane, ask):
    plane.bring_up()
    down(plane)
    with pytest.raises(ConflictError, match="going down"):
        ask(plane)


def test_cluster_still_goes_down_when_a_stop_read_it_before(plane):
    """The stop decided on what it read before the down was written."""
    cluster = plane.bring_up()
    down(plane)
    with pytest.raises(ConflictError, match="going down"):
        want.begin(plane.world, cluster, "stop", Wanted.STOPPED, "stopping")
    assert plane.cluster().wanted is Wanted.ABSENT


def test_cluster_is_stopped_when_its_machines_stopped_by_themselves(plane):
    cluster = plane.bring_up()
    plane.compute.become("m-0", MachineState.STOPPED, "host maintenance")
    assert plane.run_terminate(cluster) == "STOPPED"
    after = plane.cluster()
    assert (after.status, after.wanted, after.reason) == (
        ClusterStatus.STOPPED,
        Wanted.STOPPED,
        "host maintenance",
    )
    assert plane.job(cluster).status is JobStatus.FAILED_DRIVER


def test_cluster_is_init_and_its_jobs_failed_when_a_machine_was_terminated(plane):
    cluster = plane.bring_up(task={"num_nodes": 2})
    plane.compute.become("m-1", MachineState.TERMINATED, "spot reclaim")
    assert plane.run_terminate(cluster) == "NOTHING"
    after = plane.cluster()
    assert (after.status, after.wanted) == (ClusterStatus.INIT, Wanted.UP)
    assert after.reason == "a node was lost: spot reclaim"
    assert [node.status for node in plane.nodes(cluster)] == [NodeStatus.UP, NodeStatus.TERMINATED]
    assert plane.job(cluster).status is JobStatus.FAILED_DRIVER
    assert plane.run_terminate(cluster) == "NOTHING"
    assert len(plane.compute.requests) == 1


def test_node_is_unreachable_and_back_when_it_is_silent_while_its_machine_runs(plane):
    from stix.application.sweep import sweep

    cluster = plane.bring_up()
    plane.pass_time(plane.world.limits.lost_seconds + 10)
    sweep(plane.world)
    assert plane.workflows.machines()[:2] == ["launch", "terminate"]
    plane.run_terminate(cluster)
    assert plane.nodes(cluster)[0].status is NodeStatus.UNREACHABLE
    assert plane.cluster().status is ClusterStatus.UP
    assert "does not report" in plane.cluster().reason
    plane.report(cluster)
    assert plane.nodes(cluster)[0].status is NodeStatus.UP
    plane.pass_time(plane.world.limits.lost_seconds / 2)
    plane.report(cluster)
    plane.pass_time(plane.world.limits.lost_seconds / 2)
    sweep(plane.world)
    assert plane.cluster().reason == ""


def test_step_says_so_when_a_clusters_cloud_is_no_longer_configured(plane):
    cluster = plane.bring_up()
    down(plane)
    plane.world.compute.clear()
    with pytest.raises(InvalidRequestError, match="no longer configured"):
        settle(plane.world, WORKSPACE, cluster.id)
