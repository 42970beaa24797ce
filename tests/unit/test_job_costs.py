"""max_cost of managed jobs: what the ledger says, and that no job costs more than it may."""

from __future__ import annotations

import pytest

from stix.application.records import child_records
from stix.model.cluster import Cluster
from stix.model.ledger import LedgerEntry
from stix.model.status import ManagedJobStatus, Wanted
from stix.ports.compute import MachineState
from tests.unit.managed_jobs import JobsPlane
from tests.unit.world import WORKSPACE, offer

S = ManagedJobStatus
# USD an hour: three zones, one of them far above the others.
OFFERS = (offer("a", 6.0, spot=True), offer("b", 6.6, spot=True), offer("c", 60.0, spot=True))


@pytest.fixture
def plane(tmp_path):
    made = JobsPlane(tmp_path, OFFERS)
    yield made
    made.close()


def spent(plane: JobsPlane) -> float:
    """USD that the ledger knows of, of all clusters of job 1."""
    clusters = {run.cluster_id for run in plane.runs()}
    entries = [one for name in clusters for one in child_records(plane.world, LedgerEntry, WORKSPACE, name)]
    return sum(entry.cost(plane.clock.now()) for entry in entries)


def end(plane: JobsPlane, cluster: Cluster) -> None:
    """Its provider ends its machines, as `terminate` does."""
    from stix.application.settle_cluster import confirm

    assert plane.by_id(cluster).wanted is Wanted.ABSENT
    confirm(plane.world, WORKSPACE, cluster.id)
    plane.settle()


def pass_minutes(plane: JobsPlane, minutes: int) -> None:
    for _ in range(minutes):
        plane.pass_time(60)
        plane.sweep()


def test_job_is_stopped_before_it_costs_more_than_it_may(plane):
    cluster = plane.run_job({"max_cost": 3})
    pass_minutes(plane, 25)
    assert plane.managed().status is S.RUNNING
    pass_minutes(plane, 2)  # Thirty minutes are paid for; ending takes up to four.
    assert [one["type"] for one in plane.commands(cluster)["commands"]][-1] == "cancel"
    plane.pass_time(60)
    plane.tell(cluster, "CANCELLED", exit_codes=[143])
    plane.pass_time(60)
    end(plane, cluster)
    job = plane.managed()
    assert job.status is S.CANCELLED
    assert job.reason.startswith("train would cost more than 3 USD (max_cost); 2.")
    assert "JobCostReached" in plane.kept_events()
    assert 2.5 < spent(plane) <= 3


def test_cost_of_lost_machines_counts_when_the_job_goes_on_elsewhere(plane):
    first = plane.run_job({"max_cost": 3})
    pass_minutes(plane, 15)
    plane.compute.become(plane.compute.gangs[plane.compute.requests[-1].token][0], MachineState.TERMINATED)
    plane.tell(first, "FAILED_DRIVER", reason="a node was lost")
    end(plane, first)
    second = plane.start_cluster()
    assert plane.compute.requests[-1].offer.zone == "b"
    pass_minutes(plane, 8)
    assert plane.managed().status is S.RUNNING
    assert plane.task().spent == pytest.approx(1.5)
    assert [one.cluster_id for one in plane.managed().costing] == [second.id]
    pass_minutes(plane, 3)
    assert plane.managed().status is S.CANCELLED or plane.managed().stopped
    plane.tell(second, "CANCELLED", exit_codes=[143])
    end(plane, second)
    assert 2.5 < spent(plane) <= 3


def test_nothing_is_launched_when_the_rest_does_not_pay_for_it(plane):
    first = plane.run_job({"max_cost": 3})
    pass_minutes(plane, 15)
    plane.compute.full = {"a", "b"}  # What is left would last a minute and a half in the third.
    plane.compute.become(plane.compute.gangs[plane.compute.requests[-1].token][0], MachineState.TERMINATED)
    plane.tell(first, "FAILED_DRIVER", reason="a node was lost")
    end(plane, first)
    second = plane.held()
    plane.find_no_place()
    assert [one.place for one in plane.by_id(second).attempts] == ["fake/north/b", "fake/north/a"]
    pass_minutes(plane, 1)
    job = plane.managed()
    assert job.status is S.CANCELLED
    assert "does not pay for machines of 60 USD an hour" in job.reason
    assert not plane.compute.alive()


def test_limit_is_of_all_tasks_together_when_the_header_has_it(plane):
    plane.submit({"name": "x"}, {"name": "y"}, header={"name": "g", "execution": "parallel", "max_cost": 3})
    clusters = [plane.boot_cluster(index) for index in range(2)]
    for index, cluster in enumerate(clusters):
        plane.tell(cluster, "RUNNING", index=index, job=1)
    pass_minutes(plane, 10)
    assert plane.managed().status is S.RUNNING
    pass_minutes(plane, 2)
    assert plane.managed().stopped.startswith("the job would cost more than 3 USD")
    for index, cluster in enumerate(clusters):
        plane.tell(cluster, "CANCELLED", index=index, job=1, exit_codes=[143])
        end(plane, cluster)
    assert plane.managed().status is S.CANCELLED
    assert spent(plane) <= 3


def test_job_that_ends_in_time_is_left_alone_when_it_has_a_limit(plane):
    cluster = plane.run_job({"max_cost": 3})
    pass_minutes(plane, 20)
    plane.tell(cluster, "SUCCEEDED", exit_codes=[0])
    assert plane.managed().status is S.SUCCEEDED
