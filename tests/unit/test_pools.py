"""Pools: workers that are kept warm, the jobs that get them, what follows when they are lost or changed."""

from __future__ import annotations

import pytest

from stix.api.v1_pools import PoolApplyRequest
from stix.application import settle_cluster, want
from stix.application.advance_pool import advance_pool
from stix.application.apply_pool import apply_pool
from stix.application.managed_job_views import explain_job, job_body
from stix.application.pool_views import list_pools, pool_of_path, pool_view, setup_of_worker
from stix.model.errors import ConflictError, InvalidInputError, NoOfferError, NotFoundError, TaskError
from stix.model.status import ManagedJobStatus, PoolStatus, Wanted
from stix.ports.compute import MachineState
from tests.unit.pools import PoolsPlane
from tests.unit.world import ANN, WORKSPACE

S = ManagedJobStatus


@pytest.fixture
def plane(tmp_path):
    made = PoolsPlane(tmp_path)
    yield made
    made.close()


def test_workers_are_launched_and_become_ready_when_their_setup_is_done(plane):
    answer = plane.apply()
    assert answer == {"name": "warm", "version": 1, "created": True}
    assert plane.statuses() == {1: "PROVISIONING", 2: "PROVISIONING"}
    assert plane.pool().status is PoolStatus.REPLICA_INIT
    cluster = plane.boot_worker(1)
    assert cluster.owner == "pool/warm/1"
    plane.run_of(cluster, 1, "SETTING_UP")
    assert plane.statuses()[1] == "STARTING"
    [command] = plane.commands(cluster)["commands"]
    assert (command["job"]["setup"], command["job"]["run"]) == ("pip install torch", None)
    plane.run_of(cluster, 1, "SUCCEEDED", exit_codes=[0])
    assert plane.statuses() == {1: "READY", 2: "PROVISIONING"}
    assert plane.pool().status is PoolStatus.READY
    with pytest.raises(ConflictError, match="worker 1 of pool 'warm'"):
        want.take_down(plane.world, ANN, cluster.name, purge=False, key=None)


def test_applying_the_same_again_changes_nothing(plane):
    plane.apply(key="once")
    before = plane.pool()
    assert plane.apply() == {"name": "warm", "version": 1, "created": False}
    assert plane.pool().launched == before.launched == 2
    assert plane.apply(key="once")["created"] is True


def test_job_runs_on_a_worker_and_leaves_it_warm(plane):
    plane.apply({"workers": 1})
    plane.ready(1)
    job = plane.send()
    assert (job.status, plane.on(1)) == (S.STARTING, 1)
    cluster = plane.begin(1)
    assert plane.managed().status is S.RUNNING
    command = plane.commands(cluster)["commands"][-1]["job"]
    assert (command["run"], command["managed"]["rank"], command["managed"]["num_jobs"]) == (
        "python train.py",
        0,
        1,
    )
    assert plane.seats()[0].taken
    plane.finish(1)
    job = plane.managed()
    assert (job.status, job_body(job)["pool"]) == (S.SUCCEEDED, "warm")
    assert plane.by_id(cluster).wanted is Wanted.UP
    assert plane.seats() == []
    assert plane.statuses() == {1: "READY"}
    assert "JobLaunching" in plane.kept_events()


def test_jobs_wait_and_follow_each_other_by_priority(plane):
    plane.apply({"workers": 1})
    plane.ready(1)
    for priority in (0, 0, 5):
        plane.send({"resources": {"priority": priority}})
    assert [plane.on(number) for number in (1, 2, 3)] == [1, 0, 0]
    assert plane.managed(3).reason == "it waits for a worker of pool warm"
    told = explain_job(plane.world, plane.managed(2))["decisions"][-1]["message"]
    assert told == "waits: every worker that fits is taken, 1 before it"
    assert "waits" not in explain_job(plane.world, plane.managed(1))["decisions"][-1]["message"]
    plane.begin(1)
    plane.finish(1)
    assert [plane.on(number) for number in (2, 3)] == [0, 1]
    plane.begin(3)
    plane.finish(3)
    assert plane.on(2) == 1


def test_jobs_share_a_worker_when_they_say_what_they_need(plane):
    plane.apply({"workers": 1})
    plane.ready(1)
    for cpus in (2, 1, 3):
        plane.send({"resources": {"cpus": cpus}})
    assert [plane.on(number) for number in (1, 2, 3)] == [1, 1, 0]
    demand = plane.job(plane.held(0, 1), plane.task(0, 1).cluster_job).demand
    assert demand.cpus == 2.0


def test_many_jobs_are_made_at_once_each_with_its_rank(plane):
    plane.apply({"workers": 2})
    plane.ready(1, 2)
    first = plane.send(num_jobs=50, secrets={})
    assert (first.id, first.num_jobs) == (1, 50)
    assert [plane.managed(number).rank for number in (1, 2, 50)] == [0, 1, 49]
    assert len({plane.task(0, number).task_id for number in range(1, 51)}) == 50
    assert sorted(plane.on(number) for number in range(1, 51))[-3:] == [0, 1, 2]
    assert len(plane.seats()) == 50
    assert plane.send().id == 51
    told = plane.job(plane.held(0, 2), plane.task(0, 2).cluster_job).managed
    assert (told["rank"], told["num_jobs"]) == (1, 50)


def test_each_of_many_jobs_has_secrets_of_its_own(plane):
    plane.apply({"workers": 1})
    plane.ready(1)
    plane.send({"secrets": {"TOKEN": None}}, num_jobs=2, secrets={"TOKEN": "hush"})
    plane.begin(1)
    plane.finish(1)
    assert plane.on(2) == 1
    plane.begin(2)
    plane.finish(2)
    assert plane.secrets.kept == {}


def test_lost_worker_is_replaced_and_its_job_goes_on_on_another(plane):
    plane.apply({"workers": 2})
    plane.ready(1, 2)
    plane.send()
    assert plane.on(1) == 1
    cluster = plane.begin(1)
    machine = plane.compute.gangs[plane.compute.requests[0].token][0]
    plane.compute.become(machine, MachineState.TERMINATED, "reclaimed")
    plane.finish(1, "FAILED_DRIVER", reason="a node was lost")
    assert (plane.managed().tasks[0].recoveries, plane.on(1)) == (1, 2)
    # Its own cluster is seen to be lost later, by its silence.
    plane.pass_time(plane.world.limits.lost_seconds - 10)
    for number in (2,):
        plane.report(plane.cluster_of(number))
    plane.pass_time(12)
    plane.sweep()
    settle_cluster.settle(plane.world, WORKSPACE, cluster.id)
    plane.settle()
    assert plane.statuses() == {2: "READY", 3: "PROVISIONING"}
    assert plane.by_id(cluster).wanted is Wanted.ABSENT
    plane.begin(1)
    plane.finish(1)
    assert plane.managed().status is S.SUCCEEDED


def test_job_moves_at_once_when_its_worker_gets_a_notice(plane):
    plane.apply({"workers": 2})
    plane.ready(1, 2)
    plane.send()
    cluster = plane.begin(1)
    plane.report(cluster, notice={"kind": "preemption", "at": plane.clock.now() + 100})
    plane.settle()
    assert plane.statuses() == {1: "PREEMPTED", 2: "READY", 3: "PROVISIONING"}
    assert plane.on(1) == 2
    # The old one has its notice to store its work in.
    assert plane.by_id(cluster).wanted is Wanted.UP
    plane.pass_time(101)
    plane.sweep()
    assert plane.by_id(cluster).wanted is Wanted.ABSENT
    assert plane.cluster_of(3).status == "INIT"
    # The new worker is launched elsewhere.
    plane.boot_worker(3)
    assert plane.compute.requests[-1].offer.zone != "a"


def test_job_ends_when_its_worker_is_lost_and_its_strategy_is_none(plane):
    plane.apply({"workers": 1})
    plane.ready(1)
    plane.send({"resources": {"job_recovery": "none"}})
    cluster = plane.begin(1)
    plane.report(cluster, notice={"kind": "preemption", "at": plane.clock.now() + 100})
    plane.settle()
    assert plane.managed().status is S.FAILED_NO_RESOURCE or plane.managed().leaving
    plane.pass_time(101)
    plane.sweep()
    assert plane.managed().status is S.FAILED_NO_RESOURCE
    assert plane.seats() == []


def test_failure_of_the_code_ends_the_job_and_not_the_worker(plane):
    plane.apply({"workers": 1})
    plane.ready(1)
    plane.send({"resources": {"job_recovery": {"max_restarts_on_errors": 1}}})
    plane.begin(1)
    plane.finish(1, "FAILED", exit_codes=[3], failed_rank=0)
    plane.pass_time(20)
    plane.sweep()
    # Once more on the same worker.
    assert plane.on(1) == 1
    plane.finish(1, "FAILED", exit_codes=[3], failed_rank=0)
    assert (plane.managed().status, plane.managed().tasks[0].exit_code) == (S.FAILED, 3)
    assert plane.statuses() == {1: "READY"}


def test_cancelled_job_gives_its_place_to_the_next(plane):
    plane.apply({"workers": 1})
    plane.ready(1)
    for _ in range(3):
        plane.send()
    plane.begin(1)
    plane.cancel(2)
    assert plane.managed(2).status is S.CANCELLED
    plane.cancel(1)
    assert plane.on(3) == 1
    plane.run_of(plane.cluster_of(1), 2, "CANCELLED")
    assert plane.managed(1).status is S.CANCELLED


def test_jobs_of_a_pool_are_cancelled_by_its_name(plane):
    plane.apply({"workers": 1})
    for _ in range(2):
        plane.send()
    found = plane.cancel(pool="warm")
    assert sorted(job.id for job in found) == [1, 2]
    assert plane.managed(2).status is S.CANCELLED


def test_pipeline_runs_task_by_task_in_a_pool(plane):
    plane.apply({"workers": 1})
    plane.ready(1)
    plane.send({"name": "one"}, {"name": "two"}, header={"name": "pipe"})
    assert [len(plane.seats()), plane.on(1)] == [1, 1]
    plane.begin(1)
    plane.finish(1)
    assert plane.managed().tasks[1].cluster_id == plane.cluster_of(1).id


def test_workers_come_and_go_with_the_queue(plane):
    delays = {"queue_length_threshold": 1, "upscale_delay_seconds": 30, "downscale_delay_seconds": 60}
    plane.apply({"min_workers": 0, "max_workers": 3, **delays})
    assert (plane.statuses(), plane.pool().status) == ({}, PoolStatus.NO_REPLICA)
    plane.send()
    assert plane.statuses() == {1: "PROVISIONING"}
    for _ in range(4):
        plane.send()
    assert len(plane.pool().workers) == 1
    plane.pass_time(31)
    plane.sweep()
    assert len(plane.pool().workers) == 3
    plane.ready(1, 2, 3)
    for number in range(1, 6):
        plane.begin(number)
        plane.finish(number)
    assert len(plane.pool().workers) == 3
    plane.pass_time(61)
    plane.sweep()
    assert plane.pool().workers == ()
    assert plane.pool().status is PoolStatus.NO_REPLICA


def test_size_alone_changes_when_only_workers_are_given(plane):
    plane.apply({"workers": 1})
    plane.ready(1)
    plane.resize(3)
    assert len(plane.pool().workers) == 3
    assert plane.pool().template.version == 1
    plane.resize(1)
    assert plane.statuses() == {1: "READY"}


def test_rolling_update_keeps_workers_that_have_jobs_until_they_end(plane):
    plane.apply({"workers": 2})
    plane.ready(1, 2)
    plane.send()
    plane.begin(1)
    assert plane.apply({"workers": 2}, task={"setup": "pip install jax"})["version"] == 2
    # One more than wanted at a time.
    assert plane.statuses() == {1: "READY", 2: "READY", 3: "PROVISIONING"}
    plane.ready(3)
    assert plane.statuses() == {1: "READY", 3: "READY", 4: "PROVISIONING"}
    plane.ready(4)
    assert plane.statuses() == {1: "READY", 3: "READY", 4: "READY"}
    plane.send()
    assert plane.on(2) == 3
    plane.finish(1)
    assert plane.statuses() == {3: "READY", 4: "READY"}


def test_blue_green_update_switches_when_all_new_workers_are_ready(plane):
    plane.apply({"workers": 2})
    plane.ready(1, 2)
    plane.apply({"workers": 2}, task={"setup": "pip install jax"}, mode="blue_green")
    assert plane.statuses() == {1: "READY", 2: "READY", 3: "PROVISIONING", 4: "PROVISIONING"}
    plane.ready(3)
    assert plane.statuses()[1] == "READY"
    plane.ready(4)
    assert plane.statuses() == {3: "READY", 4: "READY"}


def test_old_workers_stay_when_the_new_template_fails(plane):
    plane.apply({"workers": 1})
    plane.ready(1)
    plane.apply({"workers": 1}, task={"setup": "exit 1"})
    for number in (2, 3, 4):
        cluster = plane.boot_worker(number)
        plane.run_of(cluster, 1, "FAILED_SETUP", exit_codes=[1], failed_rank=0, reason="setup failed")
        assert plane.by_id(cluster).wanted is Wanted.ABSENT
        plane.pass_time(400)
        plane.sweep()
    assert plane.statuses() == {1: "READY"}
    assert plane.pool().troubles == 3
    cluster, job = setup_of_worker(plane.world, plane.pool(), "4")
    assert job.status == "FAILED_SETUP"
    plane.apply({"workers": 1}, task={"setup": "true"})
    assert len(plane.pool().workers) == 2


def test_pool_without_a_ready_worker_has_failed_when_its_template_never_works(plane):
    plane.apply({"workers": 1})
    for number in (1, 2, 3):
        plane.run_of(plane.boot_worker(number), 1, "FAILED_SETUP", exit_codes=[1], failed_rank=0)
        plane.pass_time(400)
        plane.sweep()
    assert (plane.pool().status, plane.pool().workers) == (PoolStatus.FAILED, ())


def test_down_cancels_the_jobs_and_leaves_nothing(plane):
    plane.apply({"workers": 2}, secrets={"TOKEN": "hush"}, task={"secrets": {"TOKEN": None}})
    plane.ready(1)
    for _ in range(2):
        plane.send()
    cluster, other = plane.begin(1), plane.cluster_of(2)
    plane.down()
    assert plane.pool().status is PoolStatus.SHUTTING_DOWN
    assert plane.managed(2).status is S.CANCELLED
    # It has its grace; until then its worker stays.
    assert plane.by_id(cluster).wanted is Wanted.UP
    plane.run_of(cluster, 2, "CANCELLED", exit_codes=[143])
    assert plane.managed(1).status is S.CANCELLED
    assert plane.by_id(cluster).wanted is Wanted.ABSENT
    assert plane.pool().status is PoolStatus.TERMINATED
    assert (plane.seats(), plane.pool().workers, plane.pool().due_at) == ([], (), None)
    for one in (cluster, other):
        plane.end_machines(one)
    assert (plane.secrets.kept, plane.compute.alive()) == ({}, [])
    with pytest.raises(NotFoundError, match="no pool 'warm'"):
        plane.send()
    assert plane.apply()["created"] is True


def test_down_with_drain_lets_the_jobs_end_first(plane):
    plane.apply({"workers": 1})
    plane.ready(1)
    for _ in range(2):
        plane.send()
    plane.begin(1)
    plane.down(drain=True)
    with pytest.raises(ConflictError, match="going down"):
        plane.send()
    plane.finish(1)
    assert plane.on(2) == 1
    plane.begin(2)
    plane.finish(2)
    assert [plane.managed(number).status for number in (1, 2)] == [S.SUCCEEDED, S.SUCCEEDED]
    assert plane.pool().status is PoolStatus.TERMINATED


def test_job_that_has_not_asked_yet_is_cancelled_when_its_pool_goes(plane):
    plane.apply({"workers": 1})
    plane.send({"name": "one"}, {"name": "two"}, header={"name": "pipe"})
    plane.down()
    assert [task.status for task in plane.managed().tasks] == [S.CANCELLED, S.CANCELLED]
    assert plane.pool().status is PoolStatus.TERMINATED


def test_launch_is_tried_again_when_no_place_had_room(plane):
    plane.compute.full = {"a", "b", "c"}
    plane.apply({"workers": 1})
    plane.refuse(1)
    assert (plane.pool().refusals, plane.statuses()) == (1, {})
    plane.compute.full = set()
    plane.pass_time(3600)
    plane.sweep()
    assert plane.statuses() == {2: "PROVISIONING"}


@pytest.mark.parametrize(
    ("task", "error", "words"),
    [
        ({"num_nodes": 2}, ConflictError, "num_nodes: 2 was asked, pool 'warm' has 1 a worker"),
        ({"resources": {"accelerators": "A100:2"}}, ConflictError, "A100:2 was asked"),
        ({"resources": {"cpus": 9}}, ConflictError, "resources.cpus: 9 was asked, pool 'warm' has 4"),
        ({"resources": {"infra": "aws"}}, ConflictError, "resources.infra: aws was asked"),
        ({"deadline": "2h", "estimated_duration": "1h"}, InvalidInputError, "deadline: a job in a pool"),
        ({"resources": {"job_recovery": {"replace": "failed"}}}, TaskError, '"failed" is not supported by'),
    ],
)
def test_job_is_refused_when_no_worker_can_have_what_it_asks(plane, task, error, words):
    plane.apply({"workers": 1}, task={"resources": {"cpus": 4}})
    with pytest.raises(error, match=words):
        plane.send(task)


def test_refusals_name_the_field_and_the_fix(plane):
    with pytest.raises(InvalidInputError, match="num_jobs: 3 jobs were asked, and no pool"):
        plane.submit(num_jobs=3)
    with pytest.raises(NotFoundError, match="no pool 'warm'"):
        plane.resize(2)
    with pytest.raises(InvalidInputError, match="Neither a task nor `workers`"):
        apply_pool(plane.world, ANN, "warm", PoolApplyRequest(), None)
    with pytest.raises(TaskError, match="max_workers"):
        plane.apply({"min_workers": 3, "max_workers": 1})
    with pytest.raises(TaskError, match=r"job_recovery\.replace: .*`jobs pool apply`"):
        plane.apply({"workers": 1}, task={"resources": {"job_recovery": {"replace": "failed"}}})
    with pytest.raises(NoOfferError):
        plane.apply({"workers": 1}, task={"resources": {"accelerators": "H100:8"}})
    with pytest.raises(InvalidInputError, match="501 workers"):
        plane.apply({"min_workers": 0, "max_workers": 501})
    with pytest.raises(NotFoundError):
        pool_of_path(plane.world, WORKSPACE, "none")
    plane.apply({"workers": 1})
    with pytest.raises(NotFoundError, match="no worker '9'"):
        setup_of_worker(plane.world, plane.pool(), "9")


def test_view_shows_workers_with_their_jobs_and_decisions(plane):
    plane.apply({"min_workers": 1, "max_workers": 4})
    plane.ready(1)
    for _ in range(2):
        plane.send()
    plane.begin(1)
    view = pool_view(plane.world, pool_of_path(plane.world, WORKSPACE, "warm"))
    assert (view["status"], view["ready"], view["running"], view["waiting"]) == ("READY", 1, 1, 1)
    assert [worker["jobs"] for worker in view["workers"]] == [[1]]
    assert view["workers"][0]["place"] == "fake/north/a"
    assert [line["message"].split(":")[0] for line in view["decisions"]][:2] == ["Applied by ann", "worker 1"]
    [listed] = list_pools(plane.world, WORKSPACE, after=None)["pools"]
    assert (listed["name"], listed["min_workers"], listed["max_workers"]) == ("warm", 1, 4)


def test_queue_of_a_pool_is_one_query_whatever_else_there_is(plane):
    plane.apply({"workers": 1})
    plane.ready(1)
    plane.send(num_jobs=20)
    plane.apply({"workers": 1}, name="other")
    asked = []
    children, listed = plane.store.children, plane.store.list
    plane.store.children = lambda *given, **more: asked.append(given[1]) or children(*given, **more)
    plane.store.list = lambda *given, **more: asked.append(given[1]) or listed(*given, **more)
    advance_pool(plane.world, WORKSPACE, "warm")
    assert asked == ["pool_seat"]
