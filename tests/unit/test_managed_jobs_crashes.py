"""The control plane dies at any call of a managed job's life: the job ends exactly once, no cluster stays."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stix.api.v1_jobs import JobsCancelRequest
from stix.application import agents, join_nodes, logs
from stix.application.job_draft import get_job
from stix.application.records import child_records, cluster_key, managed_job_key
from stix.application.submit_managed_job import cancel_jobs, submit
from stix.application.tokens import NodePrincipal
from stix.model.cluster import Node
from stix.model.errors import StixError
from stix.model.managed_job import JobEvent, JobRun, ManagedJob
from stix.model.status import ManagedJobStatus, Wanted
from stix.ports.compute import MachineState
from tests.unit.crashing import CrashPoints, MortalControlPlane, die_at_every_call, die_at_some_calls
from tests.unit.managed_jobs import THREE_ZONES, request
from tests.unit.test_application_crashes import check_ledger, rows
from tests.unit.world import ANN, WORKSPACE

SAMPLE = 12
FINAL = {"ManagedJobSucceeded", "ManagedJobCancelled", "ManagedJobFailed"}


class Plane(MortalControlPlane):
    """Machines that run managed jobs. ``outcomes`` are how the runs end, in their order, one report after
    they began; a run beyond them succeeds. ``fate`` is asked about each machine before it speaks."""

    def __init__(self, folder: Path, points: CrashPoints) -> None:
        super().__init__(folder, points)
        self.compute._offers = list(THREE_ZONES)
        self.outcomes: list[dict[str, Any]] = []
        self.fate: Callable[[Plane, str, NodePrincipal], None] = lambda plane, machine, who: None
        self.begun: dict[tuple[str, int], int] = {}
        self.states: dict[tuple[str, int], dict[str, Any]] = {}

    def _agent(self, machine_id: str) -> None:
        machine = self.compute.machines[machine_id]
        try:
            _, who = self.joined.get(machine_id, (None, None))
            if who is None:
                told = {"machine_id": machine_id, "address": f"10.0.0.{machine_id[2:]}", "peer_port": 7000}
                answer = join_nodes.join(self.world, machine.join_token, told)
                who = NodePrincipal(WORKSPACE, answer["cluster_id"], answer["rank"])
                self.joined[machine_id] = machine.arrives_at, who
            self.fate(self, machine_id, who)
            self._report(who)
            for command in agents.commands(self.world, who, {})[0]["commands"]:
                self._obey(who, command)
        except StixError:
            return  # not ready, or gone: the agent calls again

    def _obey(self, who: NodePrincipal, command: dict[str, Any]) -> None:
        if command["type"] == "run":
            key = (who.cluster_id, command["job"]["id"])
            self.begun.setdefault(key, len(self.begun))
            self.states.setdefault(key, {"status": "RUNNING", "started_at": self.clock.now()})
        elif command["type"] == "cancel":
            key = (who.cluster_id, command["job_id"])
            self.states[key] = {"status": "CANCELLED", "exit_codes": [143]}

    def _report(self, who: NodePrincipal) -> None:
        """Tell what each run is; the next time one that ran is at its end."""
        for (cluster_id, job_id), state in list(self.states.items()):
            if cluster_id != who.cluster_id:
                continue
            agents.report(self.world, who, {"idle_since": None, "jobs": [{"id": job_id, **state}]})
            if state["status"] != "RUNNING":
                end = {"job": job_id, "rank": who.rank, "chunks": 0, "bytes": {}, "sha256": {}}
                logs.ship(self.world, who, {"finished": [end]})
                continue
            number = self.begun[cluster_id, job_id]
            if number < len(self.outcomes):
                self.states[cluster_id, job_id] = self.outcomes[number]
            else:
                self.states[cluster_id, job_id] = {"status": "SUCCEEDED", "exit_codes": [0]}
        if not any(cluster_id == who.cluster_id for cluster_id, _ in self.states):
            agents.report(self.world, who, {"idle_since": None, "jobs": []})

    def submit(self, *tasks: dict[str, Any], **fields: Any) -> None:
        self.survive(lambda: submit(self.world, ANN, request(*tasks, **fields), "submit"))

    def job(self) -> ManagedJob:  # type: ignore[override]
        return get_job(self.reading, WORKSPACE, 1)

    def until_ended(self) -> ManagedJob:
        self.until(lambda: self.job().status.terminal)
        return self.job()


def succeed(plane: Plane) -> None:
    plane.submit({"secrets": {"TOKEN": None}}, secrets={"TOKEN": "hush"})
    assert plane.until_ended().status is ManagedJobStatus.SUCCEEDED


def be_preempted_with_notice(plane: Plane) -> None:
    """The first machine is taken two minutes after its cloud said so."""
    plane.outcomes = [{"status": "RUNNING"}]

    def fate(plane: Plane, machine: str, who: NodePrincipal) -> None:
        if machine == "m-0" and plane.states:
            agents.take_notice(
                plane.world,
                WORKSPACE,
                who.cluster_id,
                0,
                {"kind": "preemption", "at": plane.clock.now() + 60},
            )

    plane.fate = fate
    plane.submit()
    job = plane.until_ended()
    assert (job.status, job.tasks[0].recoveries) == (ManagedJobStatus.SUCCEEDED, 1)


def lose_the_machine(plane: Plane) -> None:
    """The first machine is gone without a word."""
    plane.outcomes = [{"status": "RUNNING"}]

    def fate(plane: Plane, machine: str, who: NodePrincipal) -> None:
        if machine == "m-0" and plane.states:
            plane.compute.become(machine, MachineState.TERMINATED, "reclaimed")
            raise StixError("the machine is gone")

    plane.fate = fate
    plane.submit()
    job = plane.until_ended()
    assert (job.status, job.tasks[0].recoveries) == (ManagedJobStatus.SUCCEEDED, 1)


def be_cancelled(plane: Plane) -> None:
    plane.outcomes = [{"status": "RUNNING"}] * 9
    plane.submit()
    plane.until(lambda: plane.job().status is ManagedJobStatus.RUNNING)
    plane.survive(lambda: cancel_jobs(plane.world, ANN, JobsCancelRequest(job_ids=[1])))
    assert plane.until_ended().status is ManagedJobStatus.CANCELLED


def fail_and_be_repeated(plane: Plane) -> None:
    failure = {"status": "FAILED", "exit_codes": [3], "failed_rank": 0, "reason": "run exited with code 3"}
    plane.outcomes = [failure, failure]
    plane.submit({"resources": {"use_spot": True, "job_recovery": {"max_restarts_on_errors": 1}}})
    job = plane.until_ended()
    assert (job.status, job.tasks[0].restarts) == (ManagedJobStatus.FAILED, 1)
    assert len(plane.begun) == 2


def run_a_pipeline(plane: Plane) -> None:
    plane.submit({"name": "prepare"}, {"name": "train"}, header={"name": "pipe"})
    assert plane.until_ended().status is ManagedJobStatus.SUCCEEDED
    assert len(plane.begun) == 2


def find_no_place_at_first(plane: Plane) -> None:
    plane.compute.full = {"a", "b", "c"}
    plane.submit()
    plane.until(lambda: plane.job().tasks[0].refusals > 0)
    plane.compute.full = set()
    assert plane.until_ended().status is ManagedJobStatus.SUCCEEDED


def run_a_group(plane: Plane) -> None:
    """A primary task and one that serves it; the server's machine is gone once, without a word."""
    plane.outcomes = [{"status": "RUNNING"}] * 2
    lost: list[str] = []

    def fate(plane: Plane, machine: str, who: NodePrincipal) -> None:
        server = plane.job().tasks[1]
        runs = server.status is ManagedJobStatus.RUNNING and server.cluster_id == who.cluster_id
        if machine in lost or (runs and not lost):
            lost.append(machine)
            plane.compute.become(machine, MachineState.TERMINATED, "reclaimed")
            raise StixError("the machine is gone")

    plane.fate = fate
    header = {"name": "rl", "execution": "parallel", "primary_tasks": ["trainer"], "termination_delay": "20s"}
    plane.submit({"name": "trainer"}, {"name": "server"}, header=header)
    plane.until(lambda: plane.job().tasks[1].recoveries == 1)
    plane.outcomes = []
    assert plane.until_ended().status is ManagedJobStatus.SUCCEEDED
    assert plane.job().tasks[0].recoveries == 0


def nodes(plane: Plane, who: NodePrincipal) -> list[Node]:
    return child_records(plane.reading, Node, WORKSPACE, who.cluster_id)


def replace_lost_ranks(plane: Plane) -> None:
    """Of two machines one is gone without a word, and gets another; then the head gets a notice, and there is
    no room for another: both move."""
    plane.outcomes = [{"status": "RUNNING"}] * 2

    def fate(plane: Plane, machine: str, who: NodePrincipal) -> None:
        if machine == "m-1" and plane.states:
            plane.compute.become(machine, MachineState.TERMINATED, "reclaimed")
            raise StixError("the machine is gone")
        is_head = machine in {node.machine_id for node in nodes(plane, who)}
        if machine == "m-0" and is_head and len(plane.begun) == 2:
            plane.compute.full = {"a"}
            notice = {"kind": "preemption", "at": plane.clock.now() + 60}
            agents.take_notice(plane.world, WORKSPACE, who.cluster_id, 0, notice)

    plane.fate = fate
    plane.submit({"num_nodes": 2, "resources": {"use_spot": True, "job_recovery": {"replace": "failed"}}})
    job = plane.until_ended()
    assert (job.status, job.tasks[0].recoveries) == (ManagedJobStatus.SUCCEEDED, 2)
    assert (job.tasks[0].launches, [one.count for one in plane.compute.requests]) == (2, [2, 1, 2])


SCENARIOS = (
    succeed,
    be_preempted_with_notice,
    lose_the_machine,
    be_cancelled,
    fail_and_be_repeated,
    run_a_pipeline,
    run_a_group,
    find_no_place_at_first,
    replace_lost_ranks,
)


def live(folder: Path, scenario: Callable[[Plane], None], at: int | None) -> int:
    """Run a scenario with a death at one point; how many points there are."""
    points = CrashPoints(at)
    plane = Plane(folder, points)
    try:
        scenario(plane)
        passed = points.passed
        # A job never ends before the table says of each of its clusters that it is to go.
        runs = child_records(plane.reading, JobRun, WORKSPACE, f"{1:010d}")
        for run in runs:
            item = plane.store.get(cluster_key(WORKSPACE, run.cluster_id))
            assert item is None or item.body["wanted"] == Wanted.ABSENT
        plane.until(lambda: not plane.live(), hours=3)
        assert plane.compute.alive() == []
        assert plane.compute.held == set()
        check_ledger(plane)
        names = [one.name for one in child_records(plane.reading, JobEvent, WORKSPACE, f"{1:010d}")]
        assert len([name for name in names if name in FINAL]) == 1
        assert names.count("ManagedJobSubmitted") == 1
        assert plane.store.get(managed_job_key(WORKSPACE, 2)) is None
        assert len(plane.secrets.kept) <= plane.deaths
        assert not any(str(key) in rows(plane) for key in plane.secrets.kept)
        assert plane.deaths == (at is not None), "the point was not reached"
    finally:
        plane.close()
    shutil.rmtree(folder)
    return passed


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_job_ends_once_when_the_control_plane_dies_at_some_call(tmp_path, scenario):
    die_at_some_calls(live, tmp_path, scenario, SAMPLE)


@pytest.mark.soak
@pytest.mark.parametrize("part", range(8))
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_job_ends_once_when_the_control_plane_dies_at_any_call(tmp_path, scenario, part):
    die_at_every_call(live, tmp_path, scenario, part)
