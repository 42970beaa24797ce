"""Managed jobs: what they do when their machines are lost, their code fails, or somebody cancels them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from stix.application import sweep, want
from stix.application.submit_managed_job import submit
from stix.model.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NoCapacityError,
    NoOfferError,
    TaskError,
)
from stix.model.status import ClusterStatus, ManagedJobStatus, Wanted
from stix.ports.compute import MachineState
from stix.ports.state_store import VersionConflictError
from tests.unit.managed_jobs import JobsPlane, request
from tests.unit.world import ANN

S = ManagedJobStatus


@pytest.fixture
def plane(tmp_path):
    made = JobsPlane(tmp_path)
    yield made
    made.close()


def machine_of(plane: JobsPlane) -> str:
    return plane.compute.gangs[plane.compute.requests[-1].token][0]


def test_job_succeeds_and_its_cluster_goes_when_its_run_ends(plane):
    job = plane.submit()
    assert (job.id, job.name, job.status) == (1, "train", S.STARTING)
    cluster = plane.start_cluster()
    assert plane.managed().status is S.RUNNING
    assert cluster.owner == "job/1"
    assert plane.compute.requests[-1].offer.spot
    plane.tell(cluster, "SUCCEEDED", exit_codes=[0])
    job = plane.managed()
    assert (job.status, job.tasks[0].exit_code, job.due_at) == (S.SUCCEEDED, 0, None)
    assert plane.by_id(cluster).wanted is Wanted.ABSENT
    assert plane.kept_events() == ["ManagedJobSubmitted", "JobLaunching", "JobStarted", "ManagedJobSucceeded"]


def test_nobody_is_refused_a_number_when_several_submit_at_the_same_time(plane, monkeypatch):
    refused, store, transact = [], plane.world.store, plane.world.store.transact

    def watched(writes):
        try:
            return transact(writes)
        except VersionConflictError as exc:
            refused.append(exc)
            raise

    monkeypatch.setattr(store, "transact", watched)
    with ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(lambda _: submit(plane.world, ANN, request(), None), range(16)))
    assert sorted(answer["job_id"] for answer in answers) == list(range(1, 17))
    assert not refused


def test_next_number_is_taken_when_another_process_took_this_one(plane, monkeypatch):
    store, transact, others = plane.world.store, plane.world.store.transact, []

    def overtaken(writes):
        if not others:
            others.append(None)
            others[0] = submit(plane.world, ANN, request(), None)
        return transact(writes)

    monkeypatch.setattr(store, "transact", overtaken)
    assert submit(plane.world, ANN, request(), None)["job_id"] == 2
    assert others[0]["job_id"] == 1


def test_task_id_stays_when_the_job_recovers(plane):
    first = plane.run_job()
    before = plane.job(first).task_id
    plane.report(first, notice={"kind": "preemption", "at": plane.clock.now() + 100})
    plane.settle()
    second = plane.start_cluster()
    assert second.id != first.id
    assert plane.job(second).task_id == before == plane.task().task_id
    assert plane.job(second).managed["recoveries"] == 1


def test_job_leaves_the_place_at_once_when_its_machine_gets_a_notice(plane):
    first = plane.run_job()
    assert plane.place() == "a"
    plane.report(first, notice={"kind": "preemption", "at": plane.clock.now() + 100})
    plane.settle()
    assert plane.managed().status is S.RECOVERING
    assert plane.place() != "a"
    # The old machine has its notice to store its work in; it is not ended before.
    assert plane.by_id(first).wanted is Wanted.UP
    assert [one.cluster_id for one in plane.managed().leaving] == [first.id]
    plane.tell(first, "FAILED_DRIVER", job=1, reason="the cloud takes this machine")
    assert plane.by_id(first).wanted is Wanted.ABSENT
    second = plane.start_cluster()
    assert plane.compute.requests[-1].offer.zone != "a"
    plane.tell(second, "SUCCEEDED", exit_codes=[0])
    job = plane.managed()
    assert (job.status, job.tasks[0].recoveries) == (S.SUCCEEDED, 1)
    assert "JobPreempted" in plane.kept_events()


@pytest.mark.parametrize("started", [False, True])
def test_job_has_succeeded_when_the_run_it_moved_on_from_gets_done(plane, started):
    first = plane.run_job()
    plane.report(first, notice={"kind": "preemption", "at": plane.clock.now() + 100})
    plane.settle()
    second = plane.start_cluster() if started else plane.cluster(plane.task().cluster_name)
    plane.tell(first, "SUCCEEDED", job=1, exit_codes=[0])
    task = plane.managed().tasks[0]
    assert (task.status, task.exit_code, task.cluster_id) == (S.SUCCEEDED, 0, "")
    if started:
        assert plane.job(second).cancel_requested
    plane.pass_time(200)
    plane.sweep()
    assert [plane.by_id(one).wanted for one in (first, second)] == [Wanted.ABSENT] * 2
    job = plane.managed()
    assert (job.status, job.leaving) == (S.SUCCEEDED, ())
    assert plane.kept_events()[-1] == "ManagedJobSucceeded"


def test_old_machine_is_ended_when_its_notice_has_passed_in_silence(plane):
    first = plane.run_job()
    plane.report(first, notice={"kind": "preemption", "at": plane.clock.now() + 100})
    plane.settle()
    plane.pass_time(101)
    plane.sweep()
    assert plane.by_id(first).wanted is Wanted.ABSENT
    assert plane.managed().leaving == ()


def test_rebalance_warning_changes_nothing_when_it_comes_alone(plane):
    first = plane.run_job()
    plane.report(first, notice={"kind": "rebalance", "at": None})
    plane.settle()
    assert plane.managed().status is S.RUNNING
    assert plane.held().id == first.id


def test_eager_strategy_returns_to_the_lost_place_only_when_nothing_else_fits(plane):
    first = plane.run_job()
    plane.compute.full = {"b", "c"}
    plane.compute.become(machine_of(plane), MachineState.TERMINATED)
    plane.tell(first, "FAILED_DRIVER", reason="a node was lost")
    second = plane.held()
    plane.rank(second)
    tried = []
    while plane.create(second) == "REFUSED":
        second = plane.by_id(second)
        tried.append(second.attempts[-1].place.rpartition("/")[2])
    assert tried == ["b", "c"]
    assert plane.compute.requests[-1].offer.zone == "a"


def test_failover_strategy_tries_the_lost_place_first(plane):
    first = plane.run_job({"resources": {"use_spot": True, "job_recovery": "FAILOVER"}})
    plane.compute.become(machine_of(plane), MachineState.TERMINATED)
    plane.tell(first, "FAILED_DRIVER", reason="a node was lost")
    assert plane.place() == "a"


def test_job_ends_when_its_strategy_is_none_and_its_machine_is_lost(plane):
    first = plane.run_job({"resources": {"use_spot": True, "job_recovery": "none"}})
    plane.compute.become(machine_of(plane), MachineState.TERMINATED)
    plane.tell(first, "FAILED_DRIVER", reason="a node was lost")
    job = plane.managed()
    assert job.status is S.FAILED_NO_RESOURCE
    assert "strategy is none" in job.reason
    assert plane.by_id(first).wanted is Wanted.ABSENT


def test_failure_of_the_code_ends_the_job_when_the_machine_is_well(plane):
    first = plane.run_job()
    plane.tell(first, "FAILED", exit_codes=[3], failed_rank=0, reason="run exited with code 3")
    job = plane.managed()
    assert (job.status, job.tasks[0].exit_code) == (S.FAILED, 3)
    assert job.reason == "run exited with code 3"
    assert plane.task().recoveries == 0
    assert plane.by_id(first).wanted is Wanted.ABSENT


def test_failure_is_the_machines_when_its_provider_says_that_it_ends(plane):
    first = plane.run_job()
    plane.compute.become(machine_of(plane), MachineState.TERMINATING)
    plane.tell(first, "FAILED", exit_codes=[143], failed_rank=0)
    assert plane.managed().status is S.RECOVERING
    assert plane.task().recoveries == 1


def test_failed_setup_has_its_own_status(plane):
    first = plane.run_job()
    plane.tell(first, "FAILED_SETUP", exit_codes=[1], failed_rank=0)
    assert plane.managed().status is S.FAILED_SETUP


def test_code_is_run_again_on_the_same_machines_when_restarts_are_asked_for(plane):
    recovery = {"max_restarts_on_errors": 1}
    first = plane.run_job({"resources": {"use_spot": True, "job_recovery": recovery}})
    plane.pass_time(120)
    plane.report(
        first,
        jobs=[
            {
                "id": 1,
                "status": "FAILED",
                "exit_codes": [3],
                "failed_rank": 0,
                "started_at": plane.clock.now() - 110,
            }
        ],
    )
    plane.settle()
    assert plane.managed().status is S.RECOVERING
    assert plane.held().id == first.id
    assert [job.id for job in plane.jobs(first)] == [1, 2]
    assert plane.commands(first, after=1)["commands"][0]["job"]["task_id"] == plane.task().task_id
    plane.tell(first, "RUNNING")
    assert plane.managed().status is S.RUNNING
    plane.tell(first, "FAILED", exit_codes=[3], failed_rank=0)
    assert (plane.managed().status, plane.task().restarts) == (S.FAILED, 1)


def test_restart_waits_when_the_code_fails_at_once(plane):
    recovery = {"recover_on_exit_codes": [33]}
    first = plane.run_job({"resources": {"use_spot": True, "job_recovery": recovery}})
    plane.tell(first, "FAILED", exit_codes=[33], failed_rank=0)
    assert len(plane.jobs(first)) == 1
    plane.pass_time(6)
    plane.sweep()
    assert len(plane.jobs(first)) == 2
    plane.tell(first, "RUNNING")
    plane.tell(first, "FAILED", exit_codes=[34], failed_rank=0)
    assert plane.managed().status is S.FAILED


def test_job_is_given_up_when_healthy_machines_do_not_carry_it_out(plane):
    plane.submit()
    for _ in range(3):
        cluster = plane.start_cluster()
        plane.tell(cluster, "FAILED_DRIVER", reason="rank 1 did not answer")
        plane.pass_time(400)
        plane.sweep()
    assert plane.managed().status is S.FAILED_CONTROLLER
    assert plane.managed().reason == "rank 1 did not answer"


def test_job_waits_and_tries_again_when_every_place_refuses(plane):
    plane.submit()
    plane.compute.full = {"a", "b", "c"}
    plane.find_no_place()
    assert plane.managed().status in (S.STARTING, S.PENDING)
    assert plane.task().cluster_id == ""
    plane.compute.full = set()
    plane.pass_time(600)
    plane.sweep()
    plane.start_cluster()
    assert plane.managed().status is S.RUNNING


def test_job_fails_its_checks_when_a_provider_finds_the_request_wrong(plane):
    from stix.model.errors import InvalidRequestError

    plane.submit()
    plane.compute.refusals = [InvalidRequestError("no such image")]
    plane.find_no_place()
    assert plane.managed().status is S.FAILED_PRECHECKS
    assert "no such image" in plane.managed().reason


def test_cancelled_job_lets_its_code_end_when_it_runs(plane):
    first = plane.run_job()
    plane.cancel(1)
    assert plane.managed().status is S.CANCELLING
    assert plane.by_id(first).wanted is Wanted.UP
    assert {"type": "cancel", "job_id": 1, "seq": 2, "grace": 30.0} in plane.commands(first, after=1)[
        "commands"
    ]
    plane.tell(first, "CANCELLED", exit_codes=[143])
    assert plane.managed().status is S.CANCELLED
    assert plane.by_id(first).wanted is Wanted.ABSENT


def test_cancelled_job_ends_when_its_agent_is_silent(plane):
    first = plane.run_job()
    plane.cancel(1, grace_seconds=5)
    plane.pass_time(36)
    plane.sweep()
    assert plane.managed().status is S.CANCELLED
    assert plane.by_id(first).wanted is Wanted.ABSENT


def test_job_is_cancelled_when_its_cluster_is_not_up_yet(plane):
    plane.submit()
    cluster = plane.held()
    plane.cancel(1)
    assert plane.managed().status is S.CANCELLED
    assert plane.by_id(cluster).wanted is Wanted.ABSENT


def test_people_are_refused_when_they_touch_the_cluster_of_a_job(plane):
    first = plane.run_job()
    for touch in (
        lambda: want.take_down(plane.world, ANN, first.name, purge=False, key=None),
        lambda: want.stop_cluster(plane.world, ANN, first.name, key=None),
        lambda: plane.launch(first.name),
        lambda: plane.execute(first.name),
    ):
        with pytest.raises(ConflictError, match="belongs to managed job 1"):
            touch()


def test_silent_machine_is_left_when_its_provider_says_that_it_is_gone(plane):
    first = plane.run_job()
    plane.compute.become(machine_of(plane), MachineState.TERMINATED, "spot capacity was reclaimed")
    plane.pass_time(plane.world.limits.lost_seconds + 2)
    plane.sweep()
    from stix.application import settle_cluster

    settle_cluster.settle(plane.world, first.workspace, first.id)
    plane.settle()
    assert plane.managed().status is S.RECOVERING
    assert plane.place() != "a"


def test_secrets_reach_each_run_and_go_with_the_job(plane):
    secret = {"secrets": {"TOKEN": None}}
    first = plane.run_job(secret, secrets={"TOKEN": "hush"})
    kept = plane.secrets.kept
    assert sorted(values["TOKEN"] for values in kept.values()) == ["hush", "hush"]
    plane.tell(first, "SUCCEEDED", exit_codes=[0])
    assert kept == {}


def test_equal_requests_make_one_job_when_they_have_one_key(plane):
    once = submit(plane.world, ANN, request(), "key")
    assert submit(plane.world, ANN, request(), "key") == once
    assert submit(plane.world, ANN, request(), None)["job_id"] == 2


@pytest.mark.parametrize(
    ("task", "header", "error", "words"),
    [
        ({"run": None}, None, TaskError, "run"),
        ({"resources": {"job_recovery": {"replace": "some"}}}, None, TaskError, "job_recovery.replace"),
        ({"max_cost": 0.05}, None, InvalidInputError, "max_cost: 0.05 USD pays for less than 5 minutes"),
        ({}, {"name": "p", "max_cost": 0.05}, InvalidInputError, "Write 0.083 or more"),
        ({"resources": {"cpus": "640+"}}, None, NoOfferError, "640"),
        ({"deadline": "2h"}, None, InvalidInputError, "estimated_duration"),
        ({"deadline": "2h", "estimated_duration": "2h"}, None, InvalidInputError, "cannot be met"),
        (
            {"resources": {"job_recovery": "late-uniform"}},
            None,
            InvalidInputError,
            "needs a deadline",
        ),
        (
            {"resources": {"job_recovery": "FAILOVER"}, "deadline": "9h", "estimated_duration": "1h"},
            None,
            InvalidInputError,
            "knows no deadline",
        ),
        ({"depends_on": ["other"]}, None, TaskError, "depends_on"),
    ],
)
def test_job_is_refused_when_it_cannot_be_run(plane, task, header, error, words):
    with pytest.raises(error, match=words):
        plane.submit(task, header=header)
    assert plane.workflows.runs == []


def test_job_is_looked_at_later_and_later_when_its_runs_do_not_begin(plane):
    submit(plane.world, ANN, request(), None)
    begun = []
    for _ in range(40):
        plane.pass_time(61)
        before = len(plane.workflows.runs)
        sweep.sweep(plane.world)
        begun.append(len(plane.workflows.runs) - before)
    assert sum(begun[:4]) >= 2
    assert 2 <= sum(begun[-20:]) <= 3


def test_deadline_that_can_be_met_is_kept(plane):
    job = plane.submit({"deadline": "9h", "estimated_duration": "2h"})
    assert job.deadline_at == plane.clock.now() + 9 * 3600
    task = job.tasks[0]
    assert (task.policy, task.work) == ("late-uniform", 7200)
    assert job.due_at is not None
    assert job.due_at < plane.clock.now() + 300


def test_job_with_a_deadline_pays_for_on_demand_when_time_runs_out(plane):
    plane.submit({"deadline": "4h", "estimated_duration": "2h"})
    assert plane.task().spot
    plane.start_cluster()
    plane.pass_time(1.7 * 3600)
    first = plane.held()
    plane.report(first, notice={"kind": "preemption", "at": plane.clock.now() + 100})
    plane.settle()
    assert not plane.task().spot
    assert "on-demand" in plane.task().decision


def test_pipeline_runs_one_task_after_the_other(plane):
    plane.submit({"name": "prepare"}, {"name": "train"}, header={"name": "pipe"})
    assert [task.status for task in plane.managed().tasks] == [S.STARTING, S.PENDING]
    first = plane.start_cluster(0)
    plane.tell(first, "SUCCEEDED", exit_codes=[0])
    job = plane.managed()
    assert [task.status for task in job.tasks] == [S.SUCCEEDED, S.STARTING]
    assert (job.name, job.status) == ("pipe", S.STARTING)
    second = plane.start_cluster(1)
    assert plane.job(second).managed["task"] == 1
    plane.tell(second, "SUCCEEDED", exit_codes=[0])
    assert plane.managed().status is S.SUCCEEDED
    assert {plane.by_id(one).wanted for one in (first, second)} == {Wanted.ABSENT}


def test_graph_runs_side_by_side_what_depends_on_the_same(plane):
    plane.submit(
        {"name": "a", "depends_on": []},
        {"name": "b", "depends_on": ["a"]},
        {"name": "c", "depends_on": ["a"]},
        {"name": "d", "depends_on": ["b", "c"]},
    )
    plane.tell(plane.start_cluster(0), "SUCCEEDED", exit_codes=[0])
    assert [task.status for task in plane.managed().tasks] == [S.SUCCEEDED, S.STARTING, S.STARTING, S.PENDING]


def test_other_tasks_are_cancelled_when_one_fails(plane):
    plane.submit({"name": "prepare"}, {"name": "train"}, header={"name": "pipe"})
    first = plane.start_cluster(0)
    plane.tell(first, "FAILED", exit_codes=[2], failed_rank=0, reason="run exited with code 2")
    job = plane.managed()
    assert [task.status for task in job.tasks] == [S.FAILED, S.CANCELLED]
    assert (job.status, job.reason) == (S.FAILED, "prepare: run exited with code 2")


def test_cluster_is_made_once_when_the_job_is_looked_at_twice(plane):
    plane.submit()
    from stix.application.advance_job import advance

    for _ in range(3):
        advance(plane.world, plane.managed().workspace, 1)
    assert len(plane.runs()) == 1
    assert plane.held().status is ClusterStatus.INIT


def test_failed_step_is_taken_again_later_when_the_provider_is_away(plane):
    from stix.application.advance_job import record_failure

    first = plane.run_job()
    outcome = record_failure(plane.world, first.workspace, 1, {"Error": "UnavailableError", "Cause": "away"})
    assert outcome == {"outcome": "RECORDED"}
    job = plane.managed()
    assert (job.failures, job.due_at) == (1, plane.clock.now() + 10)
    plane.pass_time(11)
    plane.sweep()
    assert plane.managed().failures == 0


def test_nothing_new_is_started_when_the_budget_of_the_month_is_spent(plane):
    from stix.application.budgets import set_budget

    first = plane.run_job()
    plane.pass_time(3600)
    set_budget(plane.world, first.workspace, 0.5)
    with pytest.raises(ForbiddenError, match="budget"):
        plane.submit()
    plane.report(first, notice={"kind": "preemption", "at": plane.clock.now() + 100})
    plane.settle()
    assert (plane.managed().status, plane.task().cluster_id) == (S.RECOVERING, "")
    assert "budget" in plane.managed().reason
    set_budget(plane.world, first.workspace, 50.0)
    plane.pass_time(901)
    plane.sweep()
    plane.start_cluster()
    assert plane.managed().status is S.RUNNING


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({}, "NOTICED"),
        ({"kind": "EC2 Instance Rebalance Recommendation"}, "NOTICED"),
        ({"kind": "EC2 Instance State-change Notification"}, "IGNORED"),
        ({"machine_id": "i-of-somebody-else"}, "IGNORED"),
        ({"cloud": "elsewhere"}, "IGNORED"),
    ],
)
def test_event_of_a_cloud_reaches_the_job_of_its_machine_alone(plane, changes, outcome):
    from stix.application.take_machine_event import take

    plane.run_job()
    event = {
        "cloud": "fake",
        "region": "north",
        "kind": "EC2 Spot Instance Interruption Warning",
        "time": "2027-01-15T08:00:00Z",
        "machine_id": machine_of(plane),
    }
    assert take(plane.world, event | changes) == {"outcome": outcome}
    plane.settle()
    assert plane.managed().status is (S.RECOVERING if not changes else S.RUNNING)
    if outcome == "NOTICED":
        # The agent on the machine says the same a moment later.
        assert take(plane.world, event | changes) == {"outcome": outcome}
        plane.settle()
        assert plane.task().recoveries == (0 if changes else 1)


def test_no_place_is_asked_twice_when_it_has_just_refused(plane):
    plane.compute.refusals = [NoCapacityError("none left")]
    plane.submit()
    cluster = plane.held()
    plane.rank(cluster)
    assert plane.create(cluster) == "REFUSED"
    plane.cancel(1)
    plane.submit()
    assert plane.place(number=2) == "b"


def test_agent_hears_of_the_hook_when_the_task_has_one(plane):
    recovery = {"preemption": "echo it goes"}
    first = plane.run_job({"resources": {"use_spot": True, "job_recovery": recovery}})
    [command] = plane.commands(first)["commands"]
    assert command["job"]["preemption"] == "echo it goes"
    plane.submit({"name": "plain"})
    second = plane.start_cluster(number=2)
    assert "preemption" not in plane.commands(second)["commands"][0]["job"]
