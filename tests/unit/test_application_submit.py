"""Launch and exec: what is accepted, what is written with it, what a repeated request answers."""

from __future__ import annotations

import pytest

from stix.application import submit, want
from stix.model.errors import ConflictError, InvalidInputError, NoOfferError, NotFoundError, UnavailableError
from stix.model.status import ClusterStatus, JobStatus, OperationStatus, Wanted
from stix.ports.state_store import VersionConflictError
from tests.unit.world import ANN, WORKSPACE, launch_request


def test_cluster_job_and_operation_are_written_and_a_run_started_when_a_name_is_new(plane):
    answer = plane.launch()
    cluster = plane.cluster()
    assert answer == {
        "operation_id": cluster.operation_id,
        "cluster": "train",
        "job_id": 1,
        "created": True,
    }
    assert (cluster.status, cluster.wanted) == (ClusterStatus.INIT, Wanted.UP)
    assert plane.job(cluster).status is JobStatus.INIT
    assert plane.operation(answer["operation_id"]).status is OperationStatus.PENDING
    assert plane.workflows.runs == [
        (
            "launch",
            f"{cluster.id}-1",
            {"cluster": {"workspace": WORKSPACE, "id": cluster.id}, "operation_id": cluster.operation_id},
        )
    ]
    assert plane.events.names() == ["ClusterRequested"]


def test_name_is_chosen_when_none_is_given(plane):
    name = plane.launch(None)["cluster"]
    assert name.startswith("stix-")
    assert plane.cluster(name).name == name


def test_job_is_pending_and_operation_done_when_the_cluster_is_up(plane):
    cluster = plane.bring_up()
    started = len(plane.workflows.runs)
    answer = plane.launch()
    assert (answer["created"], answer["job_id"]) == (False, 2)
    assert plane.job(cluster, 2).status is JobStatus.PENDING
    assert plane.operation(answer["operation_id"]).status is OperationStatus.SUCCEEDED
    assert len(plane.workflows.runs) == started


def test_job_waits_for_the_launch_under_way_when_the_cluster_is_init(plane):
    plane.launch()
    answer = plane.launch()
    cluster = plane.cluster()
    assert plane.job(cluster, 2).status is JobStatus.INIT
    assert plane.workflows.machines() == ["launch"]
    assert plane.operation(cluster.operation_id).status is OperationStatus.PENDING
    plane.rank(cluster)
    plane.create(cluster)
    plane.await_join(cluster)
    plane.join(plane.cluster())
    plane.hand_over(cluster)
    assert [job.status for job in plane.jobs(cluster)] == [JobStatus.PENDING] * 2
    assert plane.operation(answer["operation_id"]).status is OperationStatus.SUCCEEDED
    assert [c["job"]["id"] for c in plane.commands(plane.cluster())["commands"]] == [1, 2]


def test_stopped_cluster_is_started_when_a_task_is_launched_on_it(plane):
    cluster = plane.bring_up()
    want.stop_cluster(plane.world, ANN, "train", key=None)
    stop_operation = plane.cluster().operation_id
    answer = plane.launch()
    after = plane.cluster()
    assert (after.status, after.wanted) == (ClusterStatus.INIT, Wanted.UP)
    assert after.operation_id == answer["operation_id"]
    assert plane.operation(stop_operation).status is OperationStatus.CANCELLED
    assert plane.workflows.runs[-1][:2] == ("terminate", f"{cluster.id}-{after.version}")
    assert plane.job(cluster, 2).status is JobStatus.INIT


def test_launch_is_refused_when_the_cluster_is_going_down(plane):
    plane.bring_up()
    want.take_down(plane.world, ANN, "train", purge=False, key=None)
    with pytest.raises(ConflictError) as caught:
        plane.launch()
    assert caught.value.code == "name_taken"


def test_new_cluster_is_made_when_the_old_one_ended_between_two_reads(plane, monkeypatch):
    cluster = plane.bring_up()
    ended = cluster.changed(status=ClusterStatus.TERMINATED, wanted=Wanted.ABSENT)
    want.take_down(plane.world, ANN, "train", purge=True, key=None)
    real = submit.cluster_by_name
    answers = iter([ended])
    monkeypatch.setattr(submit, "cluster_by_name", lambda *args: next(answers, None) or real(*args))
    assert plane.launch()["created"]
    assert plane.cluster().id != cluster.id


@pytest.mark.parametrize(
    ("task", "field"),
    [
        ({"num_nodes": 3}, "num_nodes"),
        ({"resources": {"accelerators": "A100:1"}}, "accelerators"),
        ({"resources": {"cpus": 64}}, "cpus"),
        ({"resources": {"infra": "local"}}, "infra"),
    ],
)
def test_launch_is_refused_when_the_task_does_not_fit_the_cluster(plane, task, field):
    plane.bring_up()
    with pytest.raises(ConflictError) as caught:
        plane.launch(task=task)
    assert caught.value.code == "does_not_fit"
    assert field in caught.value.message


def test_launch_is_refused_with_what_was_asked_when_no_offer_fits(plane):
    with pytest.raises(NoOfferError) as caught:
        plane.launch(task={"resources": {"cpus": 640}})
    assert "cpus 640" in caught.value.message
    assert plane.workflows.runs == []
    assert plane.store.list(WORKSPACE, "cluster").items == ()


def test_second_launch_reuses_the_cluster_when_two_race_for_one_name(plane, monkeypatch):
    """The name is taken between the second one's look and its write."""
    plane.launch()
    real = submit.cluster_by_name
    blind = iter([True])
    monkeypatch.setattr(submit, "cluster_by_name", lambda *args: None if next(blind, False) else real(*args))
    held = submit.name_held_by
    versions = iter([0])

    def stale(world, workspace, name, cluster_id, **fields):
        write = held(world, workspace, name, cluster_id, **fields)
        version = next(versions, None)
        return write if version is None else type(write)(write.item.changed(version=version))

    monkeypatch.setattr(submit, "name_held_by", stale)
    answer = plane.launch(task={"secrets": {"TOKEN": None}}, secrets={"TOKEN": "x"})
    assert (answer["created"], answer["job_id"]) == (False, 2)
    assert len(plane.store.list(WORKSPACE, "cluster").items) == 1
    assert list(plane.secrets.kept) == [plane.job(plane.cluster(), 2).secrets_key]


def test_first_answer_is_given_again_when_a_launch_is_repeated_under_its_key(plane):
    first = plane.launch(None, key="k")
    assert plane.launch(None, key="k") == first
    assert plane.workflows.machines() == ["launch"]
    assert len(plane.store.list(WORKSPACE, "cluster").items) == 1


def test_launch_is_refused_when_its_key_stood_for_another_request(plane):
    plane.launch(key="k")
    with pytest.raises(ConflictError) as caught:
        plane.launch(key="k", task={"run": "other"})
    assert caught.value.code == "idempotency_mismatch"


def test_key_is_free_again_when_a_day_has_passed(plane):
    plane.launch(None, key="k")
    plane.pass_time(24 * 3600 + 1)
    assert plane.launch(None, key="k")["created"]
    assert len(plane.store.list(WORKSPACE, "cluster").items) == 2


def test_one_job_is_made_when_exec_is_repeated_under_its_key(plane):
    cluster = plane.bring_up()
    first = plane.execute(key="k")
    assert plane.execute(key="k") == first == {"cluster": "train", "job_id": 2}
    assert len(plane.jobs(cluster)) == 2
    with pytest.raises(ConflictError, match="different request"):
        plane.execute(key="k", task={"run": "false"})


def test_exec_holds_its_own_cpus_and_runs_no_setup_when_accepted(plane):
    cluster = plane.bring_up()
    plane.execute(task={"setup": "pip install x", "resources": {"cpus": 2}})
    job = plane.job(cluster, 2)
    assert (job.demand.cpus, job.run_setup, job.status) == (2, False, JobStatus.PENDING)
    assert plane.commands(cluster, after=1)["commands"][0]["job"]["setup"] is None
    assert plane.wake.topics[-1] == f"node/{cluster.id}/0"


def test_exec_is_refused_when_the_cluster_is_not_up(plane):
    with pytest.raises(NotFoundError):
        plane.execute()
    plane.launch()
    with pytest.raises(ConflictError) as caught:
        plane.execute()
    assert caught.value.code == "cluster_not_up"


def test_exec_is_refused_when_a_stop_comes_between_its_look_and_its_write(plane, monkeypatch):
    """Else the job would wait on a cluster that is stopping."""
    cluster = plane.bring_up()
    real = submit.store_spec

    def stopping(*args):
        monkeypatch.setattr(submit, "store_spec", real)
        want.stop_cluster(plane.world, ANN, "train", key=None)
        return real(*args)

    monkeypatch.setattr(submit, "store_spec", stopping)
    with pytest.raises(ConflictError) as caught:
        plane.execute()
    assert caught.value.code == "cluster_not_up"
    assert len(plane.jobs(cluster)) == 1


def test_launch_is_refused_when_its_files_were_not_uploaded(plane):
    with pytest.raises(InvalidInputError, match="workdir"):
        plane.launch(task={"workdir": "."})
    with pytest.raises(InvalidInputError, match="file_mounts"):
        plane.launch(task={"file_mounts": {"~/data": "./data"}})
    absent = {"dst": "workdir", "sha256": "0" * 64, "size": 5, "kind": "dir"}
    with pytest.raises(InvalidInputError) as caught:
        plane.launch(task={"workdir": "."}, workdir=absent)
    assert caught.value.code == "upload_missing"


def test_sweep_starts_the_launch_soon_when_its_run_could_not_be_started(plane):
    plane.workflows.refuse = UnavailableError("no workflows")
    with pytest.raises(UnavailableError):
        plane.launch(key="k")
    plane.workflows.refuse = None
    assert plane.launch(key="k")["created"]
    plane.pass_time(120)
    from stix.application.sweep import sweep

    sweep(plane.world)
    assert plane.workflows.machines() == ["launch"]


def test_conflict_is_reported_when_others_always_win(plane, monkeypatch):
    def conflict(*_args):
        raise VersionConflictError([])

    monkeypatch.setattr(submit, "_launch_new", conflict)
    with pytest.raises(ConflictError) as caught:
        submit.launch(plane.world, ANN, launch_request(), None)
    assert caught.value.code == "busy"
