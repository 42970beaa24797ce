"""kill -9 at an awkward moment, a second process on the same file, and the run ends as if nothing was."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import eventually

CHILD = Path(__file__).with_name("interpreter_child.py")
WAITS = 100


def task(function: str, payload: dict[str, Any], pattern: str = "") -> dict[str, Any]:
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke" + pattern,
        "Parameters": {"FunctionName": function, "Payload": payload},
        "TimeoutSeconds": 300,
        "Retry": [{"ErrorEquals": ["States.ALL"], "MaxAttempts": 2, "JitterStrategy": "FULL"}],
        "End": True,
    }


def branch(name: str, state: dict[str, Any]) -> dict[str, Any]:
    return {"StartAt": name, "States": {name: state}}


ITEM = task("item", {"id.$": "$.id", "hold.$": "$.hold"})
MACHINE = branch(
    "Everything",
    {
        "Type": "Parallel",
        "End": True,
        "Branches": [
            branch("Wait", {"Type": "Wait", "Seconds": WAITS, "End": True}),
            branch(
                "Map",
                {
                    "Type": "Map",
                    "ItemsPath": "$.items",
                    "MaxConcurrency": 2,
                    "ItemProcessor": branch("Item", ITEM),
                    "End": True,
                },
            ),
            branch("Ask", task("ask", {"id": "ask", "token.$": "$$.Task.Token"}, ".waitForTaskToken")),
            branch("Work", task("work", {"id": "work", "hold": True})),
        ],
    },
)


class Process:
    def __init__(self, folder: Path):
        self.process = subprocess.Popen(
            [sys.executable, str(CHILD), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read() == "started"

    def _read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self, command: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self._read()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Process]]:
    processes: list[Process] = []

    def begin() -> Process:
        processes.append(Process(tmp_path))
        return processes[-1]

    yield begin
    for process in processes:
        if process.process.returncode is None:
            process.kill()


def statuses(folder: Path, state: str) -> list[str]:
    with closing(sqlite3.connect(folder / "state.db")) as connection:
        return [row[0] for row in connection.execute("SELECT status FROM wf_frames WHERE state=?", (state,))]


def test_run_finishes_when_the_process_was_killed(tmp_path: Path, start: Callable[[], Process]) -> None:
    (tmp_path / "machine.asl.json").write_text(json.dumps(MACHINE), encoding="utf-8")
    (tmp_path / "hold").touch()
    journal = tmp_path / "journal"
    in_flight = ["item 3", "item 4", "work work"]

    first = start()
    eventually(
        lambda: journal.exists() and all(line in journal.read_text().splitlines() for line in in_flight)
    )
    eventually(lambda: "token" in statuses(tmp_path, "Ask"))
    states = json.loads(first.ask("describe"))["states"]
    assert {"Wait", "Map", "Ask", "Work", "Item", "Everything"} == set(states)
    first.kill()
    before = journal.read_text().splitlines()
    assert Counter(before).most_common(1)[0][1] == 1

    (tmp_path / "hold").unlink()
    (tmp_path / "later").write_text(str(WAITS))
    second = start()
    token = next(line.split()[2] for line in before if line.startswith("ask "))
    assert second.ask(f"answer {token}") == "answered"
    eventually(lambda: json.loads(second.ask("describe"))["status"] != "RUNNING")
    run = json.loads(second.ask("describe"))

    assert run["status"] == "SUCCEEDED"
    waited, items, answer, worked = run["output"]
    assert waited == {"items": [{"id": n, "hold": n in (3, 4)} for n in range(8)]}
    assert [item["Payload"]["id"] for item in items] == list(range(8))
    assert answer == {"answered": True}
    assert worked["Payload"] == {"id": "work"}
    calls = Counter(" ".join(line.split()[:2]) for line in journal.read_text().splitlines())
    assert {call for call, count in calls.items() if count == 2} == set(in_flight)
    assert set(calls.values()) == {1, 2}
    assert len(calls) == 10
