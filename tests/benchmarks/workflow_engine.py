"""CPU of one function state in the embedded interpreter: entering it, the call's hand-over, its result."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from stix.adapters.sqlite_database import SqliteDatabase
from stix.local.interpreter import Definition, Interpreter

from .figures import Record

_STATES = 20
_RUNS = 50
_PARKED = 1000


def measure(record: Record) -> None:
    chain = Definition.from_text("chain", json.dumps(_chain()))
    waiting = Definition.from_text("waiting", json.dumps(_waiting()))
    with tempfile.TemporaryDirectory(prefix="stix-bench-") as folder:
        database = SqliteDatabase(Path(folder) / "state.db")
        engine = Interpreter(
            database, {"chain": chain, "waiting": waiting}, lambda _function, payload: payload
        )
        record.add("function_state", _run_chains(engine, "before"))

        # Live runs that only wait must not make the others dearer.
        for number in range(_PARKED):
            engine.start("waiting", f"waiting-{number}", {})
        engine.run_ready()
        record.add("function_state_beside_1000", _run_chains(engine, "beside"))
        database.close()


def _run_chains(engine: Interpreter, name: str) -> float:
    """Milliseconds of CPU for each state. Raises ``RuntimeError`` if one was left out."""
    calls = 0
    began = time.process_time()
    for number in range(_RUNS):
        engine.start("chain", f"{name}-{number}", {"cluster": {"id": "c-1", "workspace": "default"}})
        calls += engine.run_ready()
    spent = time.process_time() - began
    last = engine.describe(f"{name}-{_RUNS - 1}")
    if calls != _RUNS * _STATES or last is None or last.status != "SUCCEEDED":
        raise RuntimeError(f"{calls} calls were made, and the last run is {last}")
    return spent / calls * 1000


def _chain() -> dict[str, Any]:
    """States as the product's machines have them: a payload built by paths, a selected result, retries."""
    states: dict[str, Any] = {}
    for number in range(_STATES):
        states[f"Step {number}"] = {
            "Type": "Task",
            "Resource": "arn:aws:states:::lambda:invoke",
            "Parameters": {
                "FunctionName": "work",
                "Payload": {"action": "step", "cluster.$": "$.cluster", "number": number},
            },
            "ResultSelector": {"outcome.$": "$.Payload.action"},
            "ResultPath": "$.step",
            "TimeoutSeconds": 60,
            "Retry": [{"ErrorEquals": ["States.ALL"], "IntervalSeconds": 1, "MaxAttempts": 3}],
            **({"End": True} if number == _STATES - 1 else {"Next": f"Step {number + 1}"}),
        }
    return {"StartAt": "Step 0", "States": states}


def _waiting() -> dict[str, Any]:
    return {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 86400, "End": True}}}
