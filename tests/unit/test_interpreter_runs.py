"""Runs from start to retention: names, definitions, children, defects, what is left in the tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.interpreter_world import World, single, task

DAY = 86_400.0


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "state.db")
    yield made
    made.database.close()


def test_name_is_free_again_when_ninety_days_have_passed(world: World) -> None:
    engine = world.engine(m=single({"Type": "Pass"}), n=single({"Type": "Pass"}))
    assert engine.start("m", "run", {})
    assert engine.start("n", "run", {}), "names are those of one machine"
    world.now += 89 * DAY
    engine.purge()
    assert not engine.start("m", "run", {})
    world.now += 2 * DAY
    assert engine.start("m", "run", {})


def test_finished_runs_go_when_they_are_old_or_too_many(world: World) -> None:
    world.options = {"retention_seconds": DAY, "retention_count": 10}
    engine = world.engine(m=single({"Type": "Pass"}), w=single({"Type": "Wait", "Seconds": 900 * 86_400}))
    engine.start("w", "parked", {})
    for number in range(30):
        world.now += 1
        engine.start("m", f"run-{number}", {})
    engine.purge()
    assert [run.name for run in engine.executions(machine="m")] == [f"run-{n}" for n in range(29, 19, -1)]
    world.now += 100 * DAY
    engine.purge()
    assert [run.name for run in engine.executions()] == ["parked"]
    assert (world.rows("wf_names"), world.rows("wf_frames")) == (0, 1)


def test_purge_happens_by_itself_when_many_runs_have_finished(world: World) -> None:
    world.options = {"retention_count": 5}
    engine = world.engine(m=single({"Type": "Pass"}))
    for number in range(600):
        world.now += 1
        engine.start("m", f"run-{number}", {})
        engine.run_ready()
    assert world.rows("wf_executions") < 300


def test_tables_hold_nothing_alive_when_every_run_has_ended(world: World) -> None:
    inner = {"StartAt": "I", "States": {"I": {**task(), "End": True}}}
    engine = world.engine(
        m=single({"Type": "Map", "ItemsPath": "$.l", "MaxConcurrency": 3, "ItemProcessor": inner})
    )

    def odd_fails(payload: int) -> int:
        if payload == 7:
            raise RuntimeError("seven")
        return payload

    world.function = odd_fails
    engine.start("m", "good", {"l": [1, 2, 3, 4, 5]})
    engine.start("m", "bad", {"l": [1, 2, 7, 4, 5]})
    engine.start("m", "stopped", {"l": [1, 2]})
    assert engine.stop("stopped")
    assert world.finish(engine, "good").output == [1, 2, 3, 4, 5]
    assert world.finish(engine, "bad").error == "RuntimeError"
    assert world.finish(engine, "stopped").status == "ABORTED"
    assert (world.rows("wf_frames"), world.rows("wf_results")) == (0, 0)
    assert not engine.stop("stopped")


def test_results_of_a_failed_map_are_gone_when_another_map_follows(world: World) -> None:
    def inner(name: str) -> dict[str, Any]:
        return {"StartAt": name, "States": {name: {**task(), "End": True}}}

    def only_two_fails(payload: int) -> int:
        if payload == 2:
            raise RuntimeError("two")
        return payload

    world.function = only_two_fails
    catch = {"ErrorEquals": ["RuntimeError"], "Next": "B", "ResultPath": None}
    first = {"Type": "Map", "MaxConcurrency": 1, "ItemsPath": "$.l", "ItemProcessor": inner("I")}
    second = {"Type": "Map", "ItemsPath": "$.k", "ItemProcessor": inner("J"), "End": True}
    machine = {"StartAt": "A", "States": {"A": {**first, "Catch": [catch], "Next": "B"}, "B": second}}
    engine = world.engine(m=machine)
    engine.start("m", "run", {"l": [1, 3, 2], "k": [5]})
    assert world.finish(engine).output == [5]
    assert world.rows("wf_results") == 0


def test_run_goes_on_with_its_own_definition_when_the_file_has_changed(world: World) -> None:
    old = {
        "StartAt": "A",
        "States": {
            "A": {"Type": "Wait", "Seconds": 5, "Next": "Old"},
            "Old": {"Type": "Pass", "Result": {"old": True}, "End": True},
        },
    }
    world.engine(m=old).start("m", "run", {})
    engine = world.engine(m=single({"Type": "Pass", "Result": {"new": True}}))
    engine.start("m", "other", {})
    assert world.finish(engine).output == {"old": True}
    assert world.finish(engine, "other").output == {"new": True}


def test_child_runs_stop_when_their_parent_is_stopped(world: World) -> None:
    parent = task(
        Resource="arn:aws:states:::states:startExecution.sync:2",
        Parameters={"StateMachineArn": "child", "Input": {}, "Name": "little"},
    )
    engine = world.engine(m=single(parent), child=single({"Type": "Wait", "Seconds": 99}))
    engine.start("m", "run", {})
    engine.run_ready()
    assert engine.describe("little", "child").status == "RUNNING"  # type: ignore[union-attr]
    engine.stop("run", error="Enough")
    assert engine.describe("little", "child").status == "ABORTED"  # type: ignore[union-attr]
    assert engine.describe("run").error == "Enough"  # type: ignore[union-attr]


def test_child_name_taken_is_an_error_of_the_task(world: World) -> None:
    parent = task(
        Resource="arn:aws:states:::states:startExecution",
        Parameters={"StateMachineArn": "child", "Input": {}, "Name": "little"},
    )
    engine = world.engine(m=single(parent), child=single({"Type": "Pass"}))
    engine.start("child", "little", {})
    engine.start("m", "run", {})
    assert world.finish(engine).error == "StepFunctions.ExecutionAlreadyExistsException"


def test_other_runs_go_on_when_one_cannot_be_run(world: World) -> None:
    engine = world.engine(m=single({"Type": "Wait", "Seconds": 5}))
    engine.start("m", "spoiled", {})
    engine.start("m", "good", {})
    with world.database.write() as connection:
        connection.execute("UPDATE wf_frames SET state='gone' WHERE id=(SELECT min(id) FROM wf_frames)")
    assert world.finish(engine, "good").status == "SUCCEEDED"
    spoiled = engine.describe("spoiled")
    assert spoiled is not None
    assert (spoiled.status, spoiled.error) == ("FAILED", "States.Runtime")


@pytest.mark.parametrize(
    ("machine", "name"), [("none", "run"), ("m", "no blanks"), ("m", "x" * 81), ("m", "")]
)
def test_start_is_refused_when_machine_or_name_are_wrong(world: World, machine: str, name: str) -> None:
    engine = world.engine(m=single({"Type": "Pass"}))
    with pytest.raises(ValueError, match=r"name|machine"):
        engine.start(machine, name, {})
    assert world.rows("wf_executions") == 0


def test_start_is_refused_when_the_payload_is_too_large(world: World) -> None:
    engine = world.engine(m=single({"Type": "Pass"}))
    with pytest.raises(ValueError, match="262144 bytes"):
        engine.start("m", "run", {"x": "ü" * 140_000})


def test_transition_is_one_transaction_when_it_fails_in_the_middle(world: World) -> None:
    engine = world.engine(m=single({"Type": "Wait", "Seconds": 5}))
    engine.start("m", "run", {})
    world.database.connection().execute(
        "CREATE TRIGGER no_end BEFORE UPDATE OF status ON wf_executions "
        "BEGIN SELECT RAISE(ABORT, 'full'); END"
    )
    world.now += 5
    with pytest.raises(sqlite3.IntegrityError):
        engine.step()
    assert world.rows("wf_frames") == 1
    world.database.connection().execute("DROP TRIGGER no_end")
    assert world.finish(engine).status == "SUCCEEDED"
