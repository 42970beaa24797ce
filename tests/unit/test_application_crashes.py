"""The control plane dies at any one call; what it had begun still ends, once, and nothing is left over."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from stix.application import want
from stix.application.ledger import entries_since
from stix.model.errors import NotFoundError
from stix.model.status import JobStatus, OperationStatus
from tests.unit.crashing import CrashPoints, MortalControlPlane
from tests.unit.world import ANN, WORKSPACE

SAMPLE = 12


def live_through_its_life(plane: MortalControlPlane) -> None:
    """Launch, run a job, stop, start, take down."""
    first = plane.survive(lambda: plane.launch(key="launch", task=TASK, secrets={"TOKEN": "x"}))
    plane.until(lambda: plane.status() == "UP UP" and bool(plane.ran))
    cluster = plane.cluster()
    assert len(plane.compute.alive()) == 2
    plane.until(lambda: plane.job(cluster).status is JobStatus.SUCCEEDED)
    plane.until(lambda: plane.operation(first["operation_id"]).status.terminal)
    assert plane.operation(first["operation_id"]).status is OperationStatus.SUCCEEDED

    plane.survive(lambda: want.stop_cluster(plane.world, ANN, "train", key="stop"))
    plane.until(lambda: plane.status() == "STOPPED STOPPED")
    plane.survive(lambda: want.start_cluster(plane.world, ANN, "train", None, key="start"))
    plane.until(lambda: plane.status() == "UP UP")
    assert len(plane.compute.machines) == 2

    take_down(plane)
    assert plane.ran == [1]
    assert [len(gang) for gang in plane.compute.gangs.values()] == [2]


def fail_over(plane: MortalControlPlane) -> None:
    """The first place is full, the machines of the second never call, the third works."""
    plane.compute.full = {"a"}
    plane.survive(lambda: plane.launch(key="launch", task=TASK, secrets={"TOKEN": "x"}))
    plane.until(lambda: plane.status() == "UP UP")
    assert [request.offer.zone for request in plane.compute.requests][-1] == "c"
    assert len(plane.compute.requests) == 2
    take_down(plane)


def go_down_while_launching(plane: MortalControlPlane) -> None:
    plane.survive(lambda: plane.launch(key="launch", task=TASK, secrets={"TOKEN": "x"}))
    plane.beat()
    take_down(plane)
    assert len(plane.compute.requests) <= 1


def run_out_of_offers(plane: MortalControlPlane) -> None:
    plane.compute.full = {"a", "b", "c"}
    answer = plane.survive(lambda: plane.launch(key="launch", task=TASK, secrets={"TOKEN": "x"}))
    plane.until(lambda: plane.status() == "GONE")
    assert plane.operation(answer["operation_id"]).status is OperationStatus.FAILED
    assert plane.compute.machines == {}


def get_no_answer(plane: MortalControlPlane) -> None:
    """The provider makes the machines and its answers are lost, more often than the step is repeated."""
    plane.compute.lost_answers = 6
    plane.survive(lambda: plane.launch(key="launch", task=TASK, secrets={"TOKEN": "x"}))
    plane.until(lambda: plane.status() == "UP UP")
    assert len(plane.compute.alive()) == 2
    take_down(plane)


def race(plane: MortalControlPlane) -> None:
    """Two offers at once; the machines of the first never call."""
    plane.survive(lambda: plane.launch(key="launch", task=TASK, secrets={"TOKEN": "x"}, race=2))
    plane.until(lambda: plane.status() == "UP UP")
    plane.until(lambda: not plane.cluster().racing)
    zones = {request.token: request.offer.zone for request in plane.compute.requests}
    left = {plane.compute.machines[machine].tags["stix-intent"] for machine in plane.compute.alive()}
    assert {zones[token] for token in left} == {plane.cluster().offer.zone}
    take_down(plane)


def be_forgotten(plane: MortalControlPlane) -> None:
    plane.survive(lambda: plane.launch(key="launch", task=TASK, secrets={"TOKEN": "x"}))
    plane.until(lambda: plane.status() == "UP UP")

    def forget() -> None:
        try:
            want.take_down(plane.world, ANN, "train", purge=True, key="forget")
        except NotFoundError:
            return  # the request that died had done it already

    plane.survive(forget)
    plane.until(lambda: plane.status() == "GONE")


TASK = {"num_nodes": 2, "secrets": {"TOKEN": None}}
SCENARIOS: dict[Callable[[MortalControlPlane], None], frozenset[str]] = {
    live_through_its_life: frozenset(),
    fail_over: frozenset("b"),
    go_down_while_launching: frozenset(),
    run_out_of_offers: frozenset(),
    get_no_answer: frozenset(),
    race: frozenset("a"),
    be_forgotten: frozenset(),
}


def take_down(plane: MortalControlPlane) -> None:
    def ask() -> None:
        try:
            want.take_down(plane.world, ANN, "train", purge=False, key="down")
        except NotFoundError:
            return  # the request that died had done it already

    plane.survive(ask)
    plane.until(lambda: plane.status() == "GONE")
    assert plane.compute.alive() == []


def rows(plane: MortalControlPlane) -> str:
    """All that the table holds."""
    return str(plane.database.connection().execute("SELECT * FROM items").fetchall())


def live(folder: Path, scenario: Callable[[MortalControlPlane], None], at: int | None) -> int:
    """Run a scenario with a death at one point; how many points there are."""
    points = CrashPoints(at)
    plane = MortalControlPlane(folder, points, silent=SCENARIOS[scenario])
    try:
        scenario(plane)
        passed = points.passed
        plane.until(lambda: not plane.live(), hours=3)
        assert plane.compute.alive() == []
        assert plane.compute.held == set()
        check_ledger(plane)
        # A request that died before it was written leaves a value that no job and no intent knows.
        assert len(plane.secrets.kept) <= plane.deaths
        assert not any(str(key) in rows(plane) for key in plane.secrets.kept)
        operations = plane.store.list(WORKSPACE, "operation").items
        assert operations
        assert {item.status for item in operations} <= {"SUCCEEDED", "FAILED", "CANCELLED"}
        assert plane.deaths == (at is not None), "the point was not reached"
    finally:
        plane.close()
    shutil.rmtree(folder)
    return passed


def check_ledger(plane: MortalControlPlane) -> None:
    """Every gang that was made is in it, whole until its cloud took some of it, and nothing is left open."""
    entries = list(entries_since(plane.reading, WORKSPACE, 0.0))
    assert {entry.token for entry in entries} == set(plane.compute.gangs)
    assert all(entry.ended_at is not None and entry.ended_at >= entry.started_at for entry in entries)
    for entry in entries:
        made = plane.compute.gangs[entry.token]
        taken = sum(bool(plane.compute.machines[machine].reason) for machine in made)
        assert entry.count == len(made) or (entry.period > 1 and entry.count == len(made) - taken)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_everything_ends_once_when_the_control_plane_dies_at_some_call(tmp_path, scenario):
    total = live(tmp_path / "none", scenario, None)
    assert total >= 40
    print(f"{scenario.__name__}: {total} moments at which it can die")
    for at in sorted(random.Random(4711).sample(range(total), SAMPLE)):
        live(tmp_path / str(at), scenario, at)


@pytest.mark.soak
@pytest.mark.parametrize("part", range(8))
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_everything_ends_once_when_the_control_plane_dies_at_any_call(tmp_path, scenario, part):
    total = live(tmp_path / "none", scenario, None)
    for at in range(part, total, 8):
        live(tmp_path / str(at), scenario, at)
