"""The interpreter with threads: timers, executors, clean stops, results that cannot be written at first."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from stix.adapters.sqlite_database import SqliteDatabase
from stix.local.interpreter import Definition, Execution, Interpreter, WorkflowDriver

LONGEST = 30.0


def task(function: str, **fields: Any) -> dict[str, Any]:
    resource = f"arn:aws:lambda:us-east-1:123456789012:function:{function}"
    return {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": resource, "End": True, **fields}}}


WAIT = {"StartAt": "A", "States": {"A": {"Type": "Wait", "SecondsPath": "$.s", "End": True}}}


class Runtime:
    def __init__(self, path: Path, functions: dict[str, Callable[[Any], Any]], machines: dict[str, Any]):
        self.database = SqliteDatabase(path)
        self.pools = {name: ThreadPoolExecutor(1) for name in functions}
        self.interpreter = Interpreter(
            self.database,
            {name: Definition.from_text(name, json.dumps(text)) for name, text in machines.items()},
            lambda function, payload: functions[function](payload),
        )
        self.driver = WorkflowDriver(self.interpreter, self.submit)
        self.driver.start()

    def submit(self, function: str, call: Callable[[], None], order: float) -> None:
        self.pools[function].submit(call)

    def until(self, name: str, status: str = "SUCCEEDED") -> Execution:
        end = time.monotonic() + LONGEST
        while True:
            found = self.interpreter.describe(name)
            assert found is not None
            if found.status != "RUNNING":
                assert found.status == status, found
                return found
            assert time.monotonic() < end
            time.sleep(0.01)

    def close(self) -> None:
        self.driver.stop()
        for pool in self.pools.values():
            pool.shutdown()
        self.database.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Runtime]]:
    opened: list[Runtime] = []

    def begin(functions: dict[str, Callable[[Any], Any]], **machines: Any) -> Runtime:
        opened.append(Runtime(tmp_path / "state.db", functions, machines))
        return opened[-1]

    yield begin
    for runtime in opened:
        runtime.close()


def test_one_slow_function_delays_no_other(start: Callable[..., Runtime]) -> None:
    release = threading.Event()
    functions = {"slow": lambda _payload: release.wait(LONGEST), "quick": lambda payload: payload}
    runtime = start(functions, slow=task("slow"), quick=task("quick"), wait=WAIT)
    runtime.interpreter.start("slow", "slow", {})
    runtime.interpreter.start("quick", "quick", {"x": 1})
    runtime.interpreter.start("wait", "wait", {"s": 0.05})
    assert runtime.until("quick").output == {"x": 1}
    assert runtime.until("wait").output == {"s": 0.05}
    assert runtime.interpreter.describe("slow").status == "RUNNING"  # type: ignore[union-attr]
    release.set()
    assert runtime.until("slow").output is True


def test_task_times_out_when_its_call_hangs(start: Callable[..., Runtime]) -> None:
    release = threading.Event()
    runtime = start({"hang": lambda _payload: release.wait(LONGEST)}, m=task("hang", TimeoutSeconds=1))
    runtime.interpreter.start("m", "run", {})
    assert runtime.until("run", "FAILED").error == "States.Timeout"
    release.set()


def test_earlier_timer_fires_first_when_a_later_one_was_there_before(start: Callable[..., Runtime]) -> None:
    runtime = start({}, wait=WAIT)
    runtime.interpreter.start("wait", "late", {"s": 3600})
    time.sleep(0.1)
    runtime.interpreter.start("wait", "soon", {"s": 0.1})
    runtime.until("soon")
    assert runtime.interpreter.describe("late").status == "RUNNING"  # type: ignore[union-attr]


def test_call_runs_after_the_next_start_when_the_driver_was_stopped_before_it(
    start: Callable[..., Runtime],
) -> None:
    calls: list[Any] = []
    release = threading.Event()

    def work(payload: Any) -> Any:
        calls.append(payload)
        release.wait(LONGEST)
        return payload

    first = start({"work": work}, m=task("work"))
    first.interpreter.start("m", "one", {"n": 1})
    first.interpreter.start("m", "two", {"n": 2})
    while not calls:
        time.sleep(0.01)
    first.driver.stop()
    release.set()
    first.close()
    assert calls == [{"n": 1}]

    second = start({"work": work}, m=task("work"))
    assert second.until("one").output == {"n": 1}
    assert second.until("two").output == {"n": 2}
    assert calls == [{"n": 1}, {"n": 2}], "the first call was recorded although the driver had been stopped"


def test_result_is_written_later_when_the_file_refuses_it_at_first(start: Callable[..., Runtime]) -> None:
    refusal = "CREATE TRIGGER refuse BEFORE UPDATE ON wf_executions BEGIN SELECT RAISE(ABORT, 'no'); END"

    def work(payload: Any) -> Any:
        with sqlite3.connect(runtime.database.path) as other:
            other.execute(refusal)
        other.close()
        return payload

    runtime = start({"work": work}, m=task("work"))
    runtime.interpreter.start("m", "run", {"n": 1})
    end = time.monotonic() + LONGEST
    while not runtime.driver.unwritten:
        assert time.monotonic() < end
        time.sleep(0.01)
    with sqlite3.connect(runtime.database.path) as other:
        other.execute("DROP TRIGGER refuse")
    other.close()
    assert runtime.until("run").output == {"n": 1}


def test_many_runs_finish_once_each_when_several_threads_start_them(start: Callable[..., Runtime]) -> None:
    calls: list[int] = []

    def work(payload: Any) -> Any:
        calls.append(payload["n"])
        return payload

    inner = {"StartAt": "I", "States": {"I": task("work")["States"]["A"]}}
    machine = {
        "StartAt": "M",
        "States": {"M": {"Type": "Map", "ItemsPath": "$.l", "ItemProcessor": inner, "End": True}},
    }
    runtime = start({"work": work}, m=machine)

    def begin(number: int) -> None:
        items = [{"n": number * 10 + each} for each in range(10)]
        runtime.interpreter.start("m", f"run-{number}", {"l": items})

    with ThreadPoolExecutor(4) as starters:
        list(starters.map(begin, range(12)))
    for number in range(12):
        assert runtime.until(f"run-{number}").output == [{"n": number * 10 + each} for each in range(10)]
    assert sorted(calls) == list(range(120))
