"""The sweep: each kind of item, its claims, its failures; machines that the table does not know."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from stix.application import want
from stix.application.records import cluster_key, job_key, operation_key, to_item
from stix.application.settle_cluster import confirm, settle
from stix.application.sweep import record_failure, sweep
from stix.model.cluster import Node
from stix.model.errors import UnavailableError
from stix.model.status import ClusterStatus, IntentStatus, JobStatus, NodeStatus, OperationStatus, Wanted
from stix.ports.compute import GangRequest
from stix.ports.state_store import Item, Key, VersionConflictError
from tests.benchmarks.launching import sweep_reads
from tests.unit.world import ANN, WORKSPACE, ControlPlane

FAILURE = {"Error": "BoomError", "Cause": "it broke"}


def runs(plane):
    return [machine for machine in plane.workflows.machines() if machine != "sweep"]


def test_launch_is_started_again_when_its_run_died(plane):
    plane.launch()
    plane.workflows.runs.clear()
    plane.pass_time(61)
    sweep(plane.world)
    assert runs(plane) == ["launch"]
    cluster = plane.cluster()
    assert plane.workflows.runs[0][1] == f"{cluster.id}-{cluster.version}"
    sweep(plane.world)
    assert runs(plane) == ["launch"]


def test_launch_is_left_alone_when_its_run_has_begun(plane):
    plane.launch()
    plane.rank(plane.cluster())
    plane.pass_time(600)
    sweep(plane.world)
    assert runs(plane) == ["launch"]


def test_teardown_is_started_again_when_its_run_died(plane):
    plane.bring_up()
    want.take_down(plane.world, ANN, "train", purge=False, key=None)
    plane.pass_time(61)
    sweep(plane.world)
    assert runs(plane) == ["launch", "terminate", "terminate"]


def test_teardown_is_left_alone_when_its_run_has_begun(plane):
    cluster = plane.bring_up()
    want.stop_cluster(plane.world, ANN, "train", key=None)
    settle(plane.world, WORKSPACE, cluster.id)
    plane.pass_time(600)
    sweep(plane.world)
    assert runs(plane) == ["launch", "terminate"]


def test_run_is_started_once_when_two_sweeps_claim_the_same_cluster(plane, monkeypatch):
    plane.launch()
    plane.workflows.runs.clear()
    plane.pass_time(61)
    from stix.application import sweep as module

    real = module.decide_cluster
    others = iter([True])

    def interleaved(*args, **options):
        if next(others, False):
            sweep(plane.world)
        return real(*args, **options)

    monkeypatch.setattr(module, "decide_cluster", interleaved)
    assert sweep(plane.world)["skipped"] == 1
    assert runs(plane) == ["launch"]


def test_run_is_started_soon_when_the_workflows_could_not_be_reached(plane):
    plane.launch()
    plane.workflows.runs.clear()
    plane.pass_time(61)
    plane.workflows.refuse = UnavailableError("no workflows")
    assert sweep(plane.world)["skipped"] == 1
    plane.workflows.refuse = None
    plane.pass_time(301)
    sweep(plane.world)
    assert runs(plane) == ["launch"]


def test_all_that_is_due_is_looked_at_when_it_is_more_than_a_page_of_every_shard(plane, monkeypatch):
    from stix.application import sweep as module

    monkeypatch.setattr(module, "_PER_SHARD", 2)
    now = plane.clock.now()
    for number in range(100):
        node = Node(
            workspace=WORKSPACE,
            cluster_id=f"c-{number}",
            rank=0,
            status=NodeStatus.UP,
            since=now,
            due_at=now,
            machine_id="m",
            attempt=0,
            token_hash="",
        )
        plane.store.put(to_item(node))
    plane.pass_time(1)
    assert sweep(plane.world)["looked_at"]["node"] == 100
    assert sweep(plane.world)["looked_at"]["node"] == 0


def test_healthy_cluster_is_looked_at_again_when_its_heartbeats_would_be_late(plane):
    cluster = plane.bring_up()
    plane.pass_time(500)
    plane.report(cluster)
    plane.pass_time(101)
    sweep(plane.world)
    assert runs(plane) == ["launch"]
    assert plane.cluster().due_at == plane.clock.now() + 500


def test_node_and_job_end_when_their_cluster_has_ended(plane):
    cluster = plane.bring_up()
    item = plane.store.get(cluster_key(WORKSPACE, cluster.id))
    ended = item.changed(
        body={**item.body, "status": "TERMINATED"}, status="TERMINATED", live=False, due_at=None
    )
    plane.store.put(ended)
    plane.pass_time(2 * 3600)
    sweep(plane.world)
    assert plane.nodes(cluster)[0].status is NodeStatus.TERMINATED
    assert (plane.job(cluster).status, plane.job(cluster).reason) == (
        JobStatus.FAILED_DRIVER,
        "its cluster is gone",
    )
    sweep(plane.world)
    assert plane.due() == []


def test_operation_is_cancelled_when_another_one_superseded_it(plane):
    """The one who superseded it died before saying so."""
    plane.launch()
    first = plane.operation(plane.cluster().operation_id)
    want.take_down(plane.world, ANN, "train", purge=False, key=None)
    item = plane.store.get(operation_key(WORKSPACE, first.id))
    unfinished = item.changed(
        body={**item.body, "status": "RUNNING"}, status="RUNNING", live=True, due_at=plane.clock.now()
    )
    plane.store.put(unfinished)
    sweep(plane.world)
    assert plane.operation(first.id).status is OperationStatus.CANCELLED


def test_operation_is_left_alone_when_its_cluster_works_on_it(plane):
    plane.boot()
    operation = plane.cluster().operation_id
    plane.pass_time(2101)
    sweep(plane.world)
    assert plane.operation(operation).status is OperationStatus.RUNNING
    assert operation == plane.cluster().operation_id


def test_jobs_are_handed_over_when_the_run_died_halfway(plane, monkeypatch):
    from stix.application import join_nodes

    cluster = plane.boot()
    plane.await_join(cluster)
    plane.join(cluster)

    def crash(*_args):
        raise TimeoutError

    monkeypatch.setattr(join_nodes, "unfinished", crash)
    with pytest.raises(TimeoutError):
        plane.hand_over(cluster)
    monkeypatch.undo()
    assert plane.cluster().status is ClusterStatus.UP
    for _ in range(25):
        plane.pass_time(100)
        plane.report(cluster)
        sweep(plane.world)
    assert plane.job(cluster).status is JobStatus.PENDING
    assert plane.operation(cluster.operation_id).status is OperationStatus.SUCCEEDED


def test_stop_is_ended_when_its_run_died_before_saying_so(plane, monkeypatch):
    from stix.application import settle_cluster

    cluster = plane.bring_up()
    operation = want.stop_cluster(plane.world, ANN, "train", key=None)["operation_id"]
    settle(plane.world, WORKSPACE, cluster.id)

    def crash(*_args):
        raise TimeoutError

    monkeypatch.setattr(settle_cluster, "note", crash)
    with pytest.raises(TimeoutError):
        confirm(plane.world, WORKSPACE, cluster.id)
    monkeypatch.undo()
    plane.pass_time(2101)
    sweep(plane.world)
    assert plane.operation(operation).status is OperationStatus.SUCCEEDED


def test_intent_is_closed_when_its_cluster_was_forgotten(plane, monkeypatch):
    plane.launch()
    cluster = plane.cluster()
    plane.rank(cluster)

    def lost(_request: GangRequest):
        raise TimeoutError

    monkeypatch.setattr(plane.compute, "create", lost)
    with pytest.raises(TimeoutError):
        plane.create(cluster)
    want.take_down(plane.world, ANN, "train", purge=True, key=None)
    plane.pass_time(2101)
    # Both are looked at in the first minute of every ten; what it may have made is watched until the provider
    # knows of nothing.
    assert sorted(plane.due()) == ["intent", "tombstone"]
    plane.pass_time(299)
    sweep(plane.world)
    assert plane.intents(cluster)[0].status is IntentStatus.ENDED
    assert "list_tagged" in plane.compute.calls
    plane.pass_time(10 * 3600)
    assert plane.due() == []


@pytest.mark.parametrize("body", [{}, {"nonsense": True}])
@pytest.mark.parametrize("kind", ["cluster", "node", "job", "operation", "managed_job"])
def test_others_are_swept_when_one_item_cannot_be_read(plane, kind, body):
    now = plane.clock.now()
    poison = Key.top(WORKSPACE, kind, "poison")
    plane.store.put(Item(poison, body, status="?", live=True, due_at=now - 999))
    plane.launch()
    plane.workflows.runs.clear()
    plane.pass_time(61)
    assert sweep(plane.world)["skipped"] == 1
    assert runs(plane) == ["launch"]
    assert sweep(plane.world)["skipped"] == 0
    after = plane.store.get(poison)
    assert (after.live, dict(after.body)) == (True, body)
    plane.pass_time(301)
    assert sweep(plane.world)["skipped"] == 1


def test_item_is_left_as_it_is_when_a_newer_release_wrote_it(plane):
    plane.launch()
    key = cluster_key(WORKSPACE, plane.cluster().id)
    item = plane.store.get(key)
    plane.store.put(item.changed(schema_version=99))
    plane.workflows.runs.clear()
    plane.pass_time(61)
    assert sweep(plane.world)["skipped"] == 1
    after = plane.store.get(key)
    assert (after.schema_version, dict(after.body)) == (99, dict(item.body))
    assert runs(plane) == []


# Runs that end badly


def test_cluster_is_looked_at_later_and_later_when_runs_keep_failing(plane):
    cluster = plane.bring_up()
    waits = []
    for _ in range(8):
        record_failure(plane.world, WORKSPACE, cluster.id, FAILURE)
        waits.append(plane.cluster().due_at - plane.clock.now())
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert plane.cluster().wanted is Wanted.UP
    assert plane.cluster().reason == "BoomError: it broke"


def test_reason_is_the_exceptions_words_when_a_function_failed(plane):
    cluster = plane.bring_up()
    document = {"errorMessage": "it broke", "errorType": "BoomError", "stackTrace": ["  File ..."]}
    failure = {"Error": "BoomError", "Cause": json.dumps(document)}
    record_failure(plane.world, WORKSPACE, cluster.id, failure)
    assert plane.cluster().reason == "BoomError: it broke"


def test_launch_fails_and_its_machines_go_when_five_runs_failed(plane):
    cluster = plane.boot()
    for _ in range(5):
        assert record_failure(plane.world, WORKSPACE, cluster.id, FAILURE) == {"outcome": "RECORDED"}
    operation = plane.operation(cluster.operation_id)
    assert operation.status is OperationStatus.FAILED
    assert operation.error is not None
    assert operation.error["code"] == "launch_failed"
    assert plane.cluster().wanted is Wanted.ABSENT
    plane.pass_time(2)
    sweep(plane.world)
    assert runs(plane)[-1] == "terminate"
    plane.run_terminate(cluster)
    assert plane.compute.alive() == []
    assert plane.job(cluster).status is JobStatus.FAILED_DRIVER
    assert "Gave up after 5 failed runs" in plane.job(cluster).reason
    assert record_failure(plane.world, WORKSPACE, cluster.id, FAILURE) == {"outcome": "MOVED"}


def test_operation_has_failed_when_the_last_verdict_was_cut_off(plane, monkeypatch):
    from stix.application import sweep as module

    cluster = plane.boot()
    for _ in range(4):
        record_failure(plane.world, WORKSPACE, cluster.id, FAILURE)

    def crash(*_args):
        raise TimeoutError

    monkeypatch.setattr(module, "note", crash)
    with pytest.raises(TimeoutError):
        record_failure(plane.world, WORKSPACE, cluster.id, FAILURE)
    monkeypatch.undo()
    record_failure(plane.world, WORKSPACE, cluster.id, FAILURE)
    assert plane.operation(cluster.operation_id).status is OperationStatus.FAILED


def test_teardown_is_never_given_up_when_its_runs_keep_failing(plane):
    cluster = plane.boot()
    operation = want.take_down(plane.world, ANN, "train", purge=False, key=None)["operation_id"]
    for _ in range(9):
        record_failure(plane.world, WORKSPACE, cluster.id, FAILURE)
    assert plane.operation(operation).status is OperationStatus.RUNNING
    assert plane.cluster().wanted is Wanted.ABSENT


def test_sweep_says_how_late_it_is(plane):
    plane.launch()
    plane.pass_time(160)
    assert sweep(plane.world)["oldest_due_seconds"] == pytest.approx(100)


def test_decision_is_dropped_when_the_item_moved_meanwhile(plane, monkeypatch):
    cluster = plane.bring_up()
    plane.pass_time(601)
    from stix.application import sweep as module

    def moved(*_args):
        raise VersionConflictError([job_key(WORKSPACE, cluster.id, 1)])

    monkeypatch.setattr(module, "save", moved)
    assert sweep(plane.world)["skipped"] >= 1
    assert runs(plane) == ["launch"]


def test_capacity_of_the_limits_is_respected_when_they_are_changed(tmp_path):
    plane = ControlPlane(tmp_path)
    short = replace(plane.world.limits, boot_seconds=5)
    world = replace(plane.world, limits=short)
    plane.launch()
    plane.rank(plane.cluster())
    from stix.application.create_machines import create

    assert create(world, WORKSPACE, plane.cluster().id)["boot_seconds"] == 5
    plane.close()


def test_sweep_reads_what_is_due_and_not_what_is_there(plane):
    reads, _ = sweep_reads(plane.store, plane, clusters=2000, due=50)
    assert reads <= 200
