"""The control plane dies at any call of a pool's life: each job ends exactly once, no worker stays."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stix.application.apply_pool import apply_pool, take_pool_down
from stix.application.job_draft import get_job
from stix.application.nudge_pool import find_pool
from stix.application.records import child_records
from stix.application.submit_managed_job import submit
from stix.application.tokens import NodePrincipal
from stix.model.errors import StixError
from stix.model.managed_job import JobEvent
from stix.model.pool import JobPool, PoolSeat
from stix.model.status import ManagedJobStatus, PoolStatus, ReplicaStatus
from stix.ports.compute import MachineState
from tests.unit.crashing import CrashPoints, die_at_every_call, die_at_some_calls
from tests.unit.managed_jobs import request
from tests.unit.pools import pool_request
from tests.unit.test_application_crashes import check_ledger, rows
from tests.unit.test_managed_jobs_crashes import FINAL, Plane
from tests.unit.world import ANN, WORKSPACE

SAMPLE = 6
SECRET = {"secrets": {"TOKEN": None}}
HUSH = {"TOKEN": "hush"}


class PoolPlane(Plane):
    """Machines that are workers of a pool. ``sent`` counts the jobs that were submitted."""

    sent = 0

    def apply(self, workers: int, **task: Any) -> None:
        asked = pool_request({"workers": workers}, task=SECRET | task, secrets=HUSH)
        key = f"apply {workers} {task}"
        self.survive(lambda: apply_pool(self.world, ANN, "warm", asked, key))

    def send(self, number: int = 1, **task: Any) -> None:
        asked = request({"resources": {}} | SECRET | task, pool="warm", num_jobs=number, secrets=HUSH)
        key = f"submit {self.sent}"
        self.survive(lambda: submit(self.world, ANN, asked, key))
        self.sent += number

    def down(self, *, drain: bool = False) -> None:
        self.survive(lambda: take_pool_down(self.world, ANN, "warm", drain=drain, key=f"down {drain}"))
        self.until(lambda: self.pool().status is PoolStatus.TERMINATED)

    def pool(self) -> JobPool:
        found = find_pool(self.reading, WORKSPACE, "warm")
        assert found is not None
        return found

    def ready(self) -> int:
        return sum(worker.status is ReplicaStatus.READY for worker in self.pool().workers)

    def status(self, number: int) -> ManagedJobStatus:  # type: ignore[override]
        return get_job(self.reading, WORKSPACE, number).status

    def until_done(self) -> None:
        self.until(lambda: all(self.status(number).terminal for number in range(1, self.sent + 1)))


def run_jobs_on_warm_workers(plane: PoolPlane) -> None:
    plane.apply(2)
    plane.send(4)
    plane.until_done()
    assert {plane.status(number) for number in range(1, 5)} == {ManagedJobStatus.SUCCEEDED}
    # They are warm: no worker came for a job.
    assert plane.pool().launched == 2
    plane.down()


def lose_a_worker(plane: PoolPlane) -> None:
    """The first machine is gone without a word once a job runs there."""
    plane.outcomes = [{"status": "SUCCEEDED", "exit_codes": [0]}, {"status": "RUNNING"}]

    def fate(plane: Plane, machine: str, who: NodePrincipal) -> None:
        if machine == "m-0" and len([one for one in plane.states if one[0] == who.cluster_id]) > 1:
            plane.compute.become(machine, MachineState.TERMINATED, "reclaimed")
            raise StixError("the machine is gone")

    plane.apply(1)
    plane.until(lambda: plane.ready() == 1)
    plane.fate = fate
    plane.send()
    plane.until_done()
    assert plane.status(1) is ManagedJobStatus.SUCCEEDED
    assert get_job(plane.reading, WORKSPACE, 1).tasks[0].recoveries == 1
    plane.down()


def update_and_drain(plane: PoolPlane) -> None:
    plane.apply(1)
    plane.until(lambda: plane.ready() == 1)
    plane.apply(1, setup="pip install jax")
    plane.send(2)
    plane.until(lambda: [worker.version for worker in plane.pool().workers] == [2])
    plane.down(drain=True)
    assert {plane.status(1), plane.status(2)} == {ManagedJobStatus.SUCCEEDED}


def take_it_down_with_its_jobs(plane: PoolPlane) -> None:
    plane.outcomes = [{"status": "SUCCEEDED", "exit_codes": [0]}] + [{"status": "RUNNING"}] * 9
    plane.apply(1)
    plane.until(lambda: plane.ready() == 1)
    plane.send(2)
    # Either of them: where the first one's first step died, it may ask after the other.
    plane.until(
        lambda: "RUNNING" in [item.status for item in plane.store.list(WORKSPACE, "managed_job").items]
    )
    plane.down()
    assert {plane.status(1), plane.status(2)} == {ManagedJobStatus.CANCELLED}


SCENARIOS = (run_jobs_on_warm_workers, lose_a_worker, update_and_drain, take_it_down_with_its_jobs)


def live(folder: Path, scenario: Callable[[PoolPlane], None], at: int | None) -> int:
    """Run a scenario with a death at one point; how many points there are."""
    points = CrashPoints(at)
    plane = PoolPlane(folder, points)
    try:
        scenario(plane)
        passed = points.passed
        assert child_records(plane.reading, PoolSeat, WORKSPACE, "warm") == []
        plane.until(lambda: not plane.live(), hours=3)
        assert plane.compute.alive() == []
        assert plane.compute.held == set()
        check_ledger(plane)
        for number in range(1, plane.sent + 1):
            names = [one.name for one in child_records(plane.reading, JobEvent, WORKSPACE, f"{number:010d}")]
            assert len([name for name in names if name in FINAL]) == 1
            assert names.count("ManagedJobSubmitted") == 1
        # A death between keeping a secret and writing who has it leaves that secret; nobody names it.
        assert len(plane.secrets.kept) <= plane.deaths
        assert not any(str(key) in rows(plane) for key in plane.secrets.kept)
        assert plane.deaths == (at is not None), "the point was not reached"
    finally:
        plane.close()
    shutil.rmtree(folder)
    return passed


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_pool_leaves_nothing_when_the_control_plane_dies_at_some_call(tmp_path, scenario):
    die_at_some_calls(live, tmp_path, scenario, SAMPLE)


@pytest.mark.soak
@pytest.mark.parametrize("part", range(8))
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_pool_leaves_nothing_when_the_control_plane_dies_at_any_call(tmp_path, scenario, part):
    die_at_every_call(live, tmp_path, scenario, part)
