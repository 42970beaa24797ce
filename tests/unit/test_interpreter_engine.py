"""States, tasks, tokens and maps on a virtual clock."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stix.ports.workflows import TaskTokenError
from tests.unit.interpreter_world import World, single, task, token_task


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "state.db")
    yield made
    made.database.close()


def test_late_result_is_dropped_when_the_task_has_timed_out(world: World) -> None:
    engine = world.engine(m=single(task(TimeoutSeconds=5, Retry=[{"ErrorEquals": ["States.Timeout"]}])))
    taken: list[Any] = []
    engine.attach(taken.append, lambda _at: None)
    engine.start("m", "run", {"x": 1})
    first = taken.pop()
    outcome = engine.call(first)
    world.now += 5
    assert engine.step()
    engine.complete(first, outcome)
    run = engine.describe("run")
    assert run is not None
    assert (run.status, run.states) == ("RUNNING", ("A",))
    world.now += 1
    engine.step()
    engine.complete(first, outcome)
    assert engine.describe("run") == run
    engine.complete(taken[0], engine.call(taken[0]))
    assert world.finish(engine).output == {"x": 1}


def test_task_has_all_its_time_when_its_call_had_to_wait_for_a_thread(world: World) -> None:
    engine = world.engine(m=single(task(TimeoutSeconds=5, Retry=[{"ErrorEquals": ["States.Timeout"]}])))
    taken: list[Any] = []
    engine.attach(taken.append, lambda _at: None)
    engine.start("m", "run", {"x": 1})
    for _ in range(4):  # in the queue, past its time again and again
        world.now += 4
        engine.step()
    (call,) = taken  # it was not called again
    outcome = engine.call(call)
    world.now += 4.9
    engine.step()
    engine.complete(call, outcome)
    assert world.finish(engine).output == {"x": 1}
    assert world.payloads == [{"x": 1}]


def test_task_times_out_when_its_call_had_to_wait_and_then_takes_too_long(world: World) -> None:
    engine = world.engine(m=single(task(TimeoutSeconds=5)))
    taken: list[Any] = []
    engine.attach(taken.append, lambda _at: None)
    engine.start("m", "run", {})
    world.now += 60
    outcome = engine.call(taken[0])
    world.now += 4.9
    engine.step()
    run = engine.describe("run")
    assert run is not None
    assert run.status == "RUNNING"
    world.now += 0.1
    engine.complete(taken[0], outcome)
    assert world.finish(engine).error == "States.Timeout"


def test_result_counts_as_timed_out_when_it_arrives_before_the_timer_fired(world: World) -> None:
    engine = world.engine(m=single(task(TimeoutSeconds=5)))

    def slow(_payload: Any) -> None:
        world.now += 6

    world.function = slow
    engine.start("m", "run", {})
    assert world.finish(engine).error == "States.Timeout"


def test_in_flight_calls_run_again_with_the_same_payload_when_the_process_restarts(world: World) -> None:
    payload = {"token.$": "$$.Task.Token", "id.$": "States.UUID()", "n.$": "States.MathRandom(1, 1000000)"}
    machine = single(token_task(Parameters={"FunctionName": "work", "Payload": payload}))
    engine = world.engine(m=machine)
    taken: list[Any] = []
    engine.attach(taken.append, lambda _at: None)
    engine.start("m", "run", {})
    world.now += 10

    again = world.engine(m=machine)
    assert again.recover() == 1
    again.run_ready()
    assert world.payloads == [json.loads(taken[0].payload)]
    engine.complete(taken[0], engine.call(taken[0]))
    again.succeed(world.payloads[0]["token"], {"ok": True})
    assert world.finish(again).output == {"ok": True}


def test_random_values_differ_when_a_state_is_visited_again(world: World) -> None:
    inner = {"StartAt": "B", "States": {"B": {"Type": "Pass", "End": True}}}
    two = {"a.$": "States.UUID()", "b.$": "States.UUID()"}
    fields = {"Type": "Map", "ItemsPath": "$.l", "ItemSelector": two, "ItemProcessor": inner}
    machine = single({**fields, "ResultSelector": {"items.$": "$", "own.$": "States.UUID()"}})
    engine = world.engine(m=machine)
    values = []
    for name in ("one", "two"):
        engine.start("m", name, {"l": [1, 2]})
        output = world.finish(engine, name).output
        values += [value for item in output["items"] for value in item.values()] + [output["own"]]
    assert len(set(values)) == len(values) == 10


def test_random_values_differ_when_a_state_is_visited_twice_at_once(world: World) -> None:
    machine = {
        "StartAt": "Draw",
        "States": {
            "Draw": {
                "Type": "Pass",
                "Parameters": {"id.$": "States.UUID()", "old.$": "$.id"},
                "Next": "Once",
            },
            "Once": {
                "Type": "Choice",
                "Choices": [{"Variable": "$.old", "IsNull": True, "Next": "Draw"}],
                "Default": "Done",
            },
            "Done": {"Type": "Succeed"},
        },
    }
    engine = world.engine(m=machine)
    engine.start("m", "run", {"id": None})
    output = world.finish(engine).output
    assert output["id"] != output["old"]


def test_token_is_refused_when_its_time_is_over_but_its_timer_has_not_fired(world: World) -> None:
    engine = world.engine(m=single(token_task(TimeoutSeconds=5)))
    engine.start("m", "run", {})
    engine.run_ready()
    world.now += 5
    with pytest.raises(TaskTokenError):
        engine.succeed(world.payloads[0]["token"], {})
    assert world.finish(engine).error == "States.Timeout"


def test_heartbeats_keep_a_task_alive_until_they_stop(world: World) -> None:
    engine = world.engine(m=single(token_task(TimeoutSeconds=100, HeartbeatSeconds=5)))
    engine.start("m", "run", {})
    engine.run_ready()
    begin = world.now
    for _ in range(4):
        world.now += 4
        engine.heartbeat(world.payloads[0]["token"])
        engine.run_ready()
    run = world.finish(engine)
    assert (run.error, world.now - begin) == ("States.HeartbeatTimeout", 21)


def test_token_answered_during_the_call_wins_when_the_call_then_fails(world: World) -> None:
    engine = world.engine(m=single(token_task()))

    def answer_then_fail(payload: Any) -> None:
        engine.succeed(payload["token"], {"answered": True})
        raise RuntimeError("too late")

    world.function = answer_then_fail
    engine.start("m", "run", {})
    assert world.finish(engine).output == {"answered": True}


def test_exception_class_is_the_error_name_when_a_function_raises(world: World) -> None:
    def broken(_payload: Any) -> None:
        raise ZeroDivisionError("by zero")

    world.function = broken
    engine = world.engine(m=single(task()))
    engine.start("m", "run", {})
    run = world.finish(engine)
    assert run.error == "ZeroDivisionError"
    assert json.loads(run.cause or "") == {"errorType": "ZeroDivisionError", "errorMessage": "by zero"}


@pytest.mark.parametrize("value", [{1, 2}, float("nan"), b"bytes"])
def test_run_fails_when_a_function_returns_no_json(world: World, value: Any) -> None:
    world.function = lambda _payload: value
    engine = world.engine(m=single(task()))
    engine.start("m", "run", {})
    assert world.finish(engine).status == "FAILED"


def test_function_cannot_change_the_state_when_it_changes_its_payload(world: World) -> None:
    def greedy(payload: Any) -> None:
        payload["x"].append(2)

    world.function = greedy
    engine = world.engine(m=single(task(ResultPath=None)))
    engine.start("m", "run", {"x": [1]})
    assert world.finish(engine).output == {"x": [1]}


def test_endless_loop_leaves_room_for_others_when_it_never_waits(world: World) -> None:
    stop = {"Variable": "$.stop", "IsPresent": True}
    loop = {
        "StartAt": "A",
        "States": {
            "A": {"Type": "Pass", "Next": "B"},
            "B": {"Type": "Choice", "Choices": [{**stop, "Next": "C"}], "Default": "A"},
            "C": {"Type": "Succeed"},
        },
    }
    engine = world.engine(loop=loop, m=single({"Type": "Pass"}))
    engine.start("loop", "endless", {})
    engine.start("m", "run", {})
    assert engine.step()
    assert engine.describe("run").status == "SUCCEEDED"  # type: ignore[union-attr]
    assert engine.stop("endless")
    assert not engine.step()


def test_map_keeps_to_its_concurrency_when_items_are_many(world: World) -> None:
    inner = {"StartAt": "I", "States": {"I": {**task(), "End": True}}}
    engine = world.engine(
        m=single({"Type": "Map", "ItemsPath": "$.l", "MaxConcurrency": 3, "ItemProcessor": inner})
    )
    taken: list[Any] = []
    engine.attach(taken.append, lambda _at: None)
    engine.start("m", "run", {"l": list(range(10))})
    done = 0
    while done < 10:
        while engine.step():
            pass
        assert len(taken) == min(3, 10 - done)
        invocation = taken.pop(0)
        engine.complete(invocation, engine.call(invocation))
        done += 1
    assert world.finish(engine).output == list(range(10))
