"""An interpreter on a virtual clock, for the tests that step it by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stix.adapters.sqlite_database import SqliteDatabase
from stix.local.interpreter import Definition, Execution, Interpreter


def single(state: dict[str, Any], **machine: Any) -> dict[str, Any]:
    return {"StartAt": "A", "States": {"A": {"End": True, **state}}, **machine}


def task(**fields: Any) -> dict[str, Any]:
    return {"Type": "Task", "Resource": "arn:aws:lambda:us-east-1:123456789012:function:work", **fields}


def token_task(**fields: Any) -> dict[str, Any]:
    parameters = {"FunctionName": "work", "Payload": {"token.$": "$$.Task.Token"}}
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke.waitForTaskToken",
        "Parameters": parameters,
        **fields,
    }


class World:
    """An interpreter on a file, its clock, and what its function was called with."""

    def __init__(self, path: Path):
        self.path = path
        self.now = 1_700_000_000.0
        self.payloads: list[Any] = []
        self.function: Callable[[Any], Any] = lambda payload: payload
        self.database = SqliteDatabase(path)
        self.options: dict[str, Any] = {}

    def invoke(self, _function: str, payload: Any) -> Any:
        self.payloads.append(payload)
        return self.function(payload)

    def engine(self, **machines: dict[str, Any]) -> Interpreter:
        definitions = {name: Definition.from_text(name, json.dumps(text)) for name, text in machines.items()}
        return Interpreter(self.database, definitions, self.invoke, clock=lambda: self.now, **self.options)

    def finish(self, engine: Interpreter, name: str = "run") -> Execution:
        for _ in range(200):
            engine.run_ready()
            run = engine.describe(name)
            assert run is not None
            if run.status != "RUNNING":
                return run
            wakeup = engine.next_wakeup()
            assert wakeup is not None
            self.now = max(self.now, wakeup)
        raise AssertionError("the run does not end")

    def rows(self, table: str) -> int:
        found: int = self.database.connection().execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        return found
