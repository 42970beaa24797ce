"""Job groups: tasks side by side in one region, their names for each other, and how they end together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stix.model.cluster import Cluster
from stix.model.errors import NoOfferError, TaskError
from stix.model.offer import Offer
from stix.model.status import ManagedJobStatus, Wanted
from stix.ports.compute import MachineState
from tests.unit.managed_jobs import JobsPlane
from tests.unit.world import FAKE_FACTS, offer

S = ManagedJobStatus
GROUP = {"name": "rl", "execution": "parallel"}


def south(found: Offer) -> Offer:
    return found.model_copy(update={"region": "south"})


# North is the cheapest for a small machine, south for a small and a big one together.
OFFERS = (
    offer("a", 1.0, spot=True),
    offer("b", 1.1, spot=True),
    offer("a", 9.0, spot=True, vcpus=64, instance_type="m64"),
    south(offer("c", 1.5, spot=True)),
    south(offer("d", 1.6, spot=True)),
    south(offer("c", 6.0, spot=True, vcpus=64, instance_type="m64")),
    south(offer("d", 6.1, spot=True, vcpus=64, instance_type="m64")),
)
TRAINER = {"name": "trainer"}
SERVER = {"name": "server", "resources": {"use_spot": True, "cpus": "64+"}}


@pytest.fixture
def plane(tmp_path):
    made = JobsPlane(tmp_path, OFFERS)
    yield made
    made.close()


def statuses(plane: JobsPlane) -> list[ManagedJobStatus]:
    return [task.status for task in plane.managed().tasks]


def start_group(plane: JobsPlane, *tasks: dict[str, Any], **header: Any) -> list[Cluster]:
    """Submit a group and bring all of it to RUNNING."""
    plane.submit(*tasks, header=GROUP | header)
    clusters = [plane.boot_cluster(index) for index in range(len(tasks))]
    for index, cluster in enumerate(clusters):
        plane.tell(cluster, "RUNNING", index=index, job=1)
    return [plane.by_id(cluster) for cluster in clusters]


def lose(plane: JobsPlane, cluster: Cluster) -> None:
    """Its machine is gone, and its agent said so with its last breath."""
    [intent] = [one for one in plane.intents(cluster) if one.machine_ids]
    plane.compute.become(intent.machine_ids[0], MachineState.TERMINATED)
    plane.tell(cluster, "FAILED_DRIVER", job=1, reason="a node was lost")


def test_all_tasks_start_in_the_region_that_is_cheapest_for_all(plane):
    job = plane.submit(TRAINER, SERVER, header=GROUP)
    assert (job.name, job.group, job.connected) == ("rl", "rl", True)
    assert statuses(plane) == [S.STARTING, S.STARTING]
    assert [task.place for task in job.tasks] == ["fake/south/c", "fake/south/c"]


def test_each_task_may_be_anywhere_when_the_group_is_not_connected(plane):
    job = plane.submit(TRAINER, SERVER, header=GROUP | {"inter_connection": False})
    assert [task.place for task in job.tasks] == ["fake/north/a", "fake/south/c"]
    first = plane.boot_cluster(0)
    assert [one["type"] for one in plane.commands(first)["commands"]] == ["run"]


def test_tasks_begin_together_and_know_each_other_when_all_are_up(plane):
    plane.submit(TRAINER | {"num_nodes": 2}, SERVER, header=GROUP)
    trainer = plane.boot_cluster(0)
    assert plane.commands(trainer)["commands"] == []
    assert plane.task(0).reason == "it waits for the other tasks of its group"
    server = plane.boot_cluster(1)
    names = (("trainer-0.rl", "10.1.0.0"), ("trainer-1.rl", "10.1.0.1"), ("server-0.rl", "10.1.1.0"))
    for cluster in (trainer, server):
        answer = plane.commands(cluster)
        assert answer["settings"]["hosts"] == names
        [command] = answer["commands"]
        assert command["job"]["hosts"] == {"version": answer["settings_version"], "hosts": names}
        assert command["job"]["managed"]["group"] == "rl"
    assert plane.commands(trainer, 1)["settings"]["hosts"] == names


def test_one_task_recovers_while_the_others_run_and_hear_its_new_address(plane):
    trainer, server = start_group(plane, TRAINER, SERVER)
    lose(plane, server)
    assert statuses(plane) == [S.RUNNING, S.RECOVERING]
    assert plane.task(1).place == "fake/south/d"  # EAGER_NEXT_REGION, as far as the group's region goes.
    assert plane.by_id(trainer).hosts == (("trainer-0.rl", "10.1.0.0"),)
    second = plane.boot_cluster(1)
    for cluster in (trainer, second):
        assert dict(plane.by_id(cluster).hosts)["server-0.rl"] == "10.2.1.0"
    assert plane.commands(second)["commands"]
    plane.tell(second, "RUNNING", index=1, job=1)
    assert statuses(plane) == [S.RUNNING, S.RUNNING]
    assert (plane.task(0).recoveries, plane.task(1).recoveries) == (0, 1)
    assert plane.held(0).id == trainer.id


def test_others_hear_it_when_a_node_joins_again_at_another_address(plane):
    trainer, server = start_group(plane, TRAINER, SERVER)
    plane.report(server, address="10.9.9.9", peer_port=7000)
    plane.settle()
    assert dict(plane.by_id(trainer).hosts)["server-0.rl"] == "10.9.9.9"


def test_job_ends_with_its_primary_tasks_and_the_others_after_their_delay(plane):
    trainer, server = start_group(plane, TRAINER, SERVER, primary_tasks=["trainer"], termination_delay="60s")
    plane.tell(trainer, "SUCCEEDED", job=1, exit_codes=[0])
    assert statuses(plane) == [S.SUCCEEDED, S.RUNNING]
    assert plane.managed().status is S.RUNNING
    plane.pass_time(59)
    plane.sweep()
    assert statuses(plane) == [S.SUCCEEDED, S.RUNNING]
    plane.pass_time(2)
    plane.sweep()
    assert [one["type"] for one in plane.commands(server)["commands"]][-1] == "cancel"
    assert plane.task(1).reason == "the primary tasks have ended"
    plane.tell(server, "CANCELLED", job=1, exit_codes=[143])
    job = plane.managed()
    assert statuses(plane) == [S.SUCCEEDED, S.CANCELLED]
    assert (job.status, job.reason) == (S.SUCCEEDED, "")
    assert {plane.by_id(one).wanted for one in (trainer, server)} == {Wanted.ABSENT}


def test_delay_is_that_of_the_task_when_it_has_its_own(plane):
    delays = {"default": "10s", "server": "90s"}
    plane.submit(
        TRAINER,
        SERVER,
        {"name": "log"},
        header=GROUP | {"primary_tasks": ["trainer"], "termination_delay": delays},
    )
    assert [(task.primary, task.delay) for task in plane.managed().tasks] == [
        (True, 10),
        (False, 90),
        (False, 10),
    ]


def test_nothing_is_launched_again_when_only_what_served_is_left(plane):
    trainer, server = start_group(plane, TRAINER, SERVER, primary_tasks=["trainer"], termination_delay="1h")
    plane.tell(trainer, "SUCCEEDED", job=1, exit_codes=[0])
    lose(plane, server)
    assert statuses(plane) == [S.SUCCEEDED, S.CANCELLED]
    assert plane.managed().status is S.SUCCEEDED
    assert plane.task(1).launches == 1


def test_job_goes_on_when_what_only_serves_it_fails(plane):
    trainer, server = start_group(plane, TRAINER, SERVER, primary_tasks=["trainer"])
    plane.tell(server, "FAILED", job=1, exit_codes=[4], failed_rank=0, reason="run exited with code 4")
    assert statuses(plane) == [S.RUNNING, S.FAILED]
    assert plane.managed().status is S.RUNNING
    plane.tell(trainer, "SUCCEEDED", job=1, exit_codes=[0])
    assert plane.managed().status is S.SUCCEEDED


def test_whole_group_ends_when_a_primary_task_fails(plane):
    trainer, server = start_group(plane, TRAINER, SERVER)
    plane.tell(server, "FAILED", job=1, exit_codes=[4], failed_rank=0, reason="run exited with code 4")
    assert [one["type"] for one in plane.commands(trainer)["commands"]][-1] == "cancel"
    plane.tell(trainer, "CANCELLED", job=1, exit_codes=[143])
    job = plane.managed()
    assert statuses(plane) == [S.CANCELLED, S.FAILED]
    assert (job.status, job.reason) == (S.FAILED, "server: run exited with code 4")


def test_group_is_cancelled_when_some_of_it_still_waits(plane):
    plane.submit(TRAINER, SERVER, header=GROUP)
    trainer = plane.boot_cluster(0)
    server = plane.held(1)
    plane.cancel(1)
    assert plane.managed().status is S.CANCELLED
    # No run ever began: there is nothing to wait for.
    assert {plane.by_id(one).wanted for one in (trainer, server)} == {Wanted.ABSENT}


def test_group_leaves_the_region_when_one_of_its_tasks_finds_no_room_there(plane):
    plane.submit(TRAINER, SERVER, header=GROUP)
    trainer = plane.boot_cluster(0)
    plane.compute.full = {"c", "d"}
    plane.find_no_place(1)
    plane.pass_time(10)
    plane.sweep()
    job = plane.managed()
    assert [task.place for task in job.tasks] == ["fake/north/a", "fake/north/a"]
    assert plane.by_id(trainer).wanted is Wanted.ABSENT


def test_recovering_task_waits_in_the_region_when_others_run_there(plane):
    _, server = start_group(plane, TRAINER, SERVER)
    plane.compute.full = {"c", "d"}
    lose(plane, server)
    plane.find_no_place(1)
    plane.pass_time(10)
    plane.sweep()
    assert statuses(plane) == [S.RUNNING, S.RECOVERING]
    assert plane.task(1).cluster_id == ""
    assert "fake/north" not in plane.task(1).decision


@pytest.mark.parametrize(
    ("tasks", "header", "error", "words"),
    [
        ([{"name": None}], GROUP, TaskError, "name"),
        ([TRAINER, TRAINER], GROUP, TaskError, "name"),
        ([TRAINER], GROUP | {"primary_tasks": ["trainr"]}, TaskError, "trainer"),
        ([TRAINER], {"execution": "parallel"}, TaskError, "name"),
        ([TRAINER, SERVER | {"depends_on": ["trainer"]}], GROUP, TaskError, "at once"),
        (
            [
                {"name": "x", "resources": {"cpus": "4"}},
                {"name": "y", "resources": {"cpus": "96+"}},
            ],
            GROUP,
            NoOfferError,
            "No region",
        ),
    ],
)
def test_group_is_refused_when_it_cannot_be_run(plane, tasks, header, error, words):
    biggest = south(offer("c", 9.0, vcpus=96, instance_type="m96"))
    plane.compute._offers = [offer("a", 3.0), biggest]
    with pytest.raises(error, match=words):
        plane.submit(*tasks, header=header)
    assert plane.workflows.runs == []


def test_group_is_refused_when_its_clusters_cannot_reach_each_other(plane):
    plane.world = replace(plane.world, clouds={"fake": replace(FAKE_FACTS, connects_clusters=False)})
    with pytest.raises(NoOfferError, match="reach each other"):
        plane.submit(TRAINER, SERVER, header=GROUP)
    job = plane.submit(TRAINER, SERVER, header=GROUP | {"inter_connection": False})
    assert not job.connected
