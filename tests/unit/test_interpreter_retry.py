"""Retry's arithmetic, against a plain account of what the Amazon States Language says about it."""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from stix.adapters.sqlite_database import SqliteDatabase
from stix.local.interpreter import Definition, FunctionError, Interpreter

NAMES = ["Capacity", "Quota", "Throttled", "States.Timeout"]

retriers = st.lists(
    st.fixed_dictionaries(
        {
            "ErrorEquals": st.one_of(
                st.lists(st.sampled_from([*NAMES, "States.TaskFailed"]), min_size=1, max_size=2, unique=True)
            ),
            "MaxAttempts": st.integers(0, 3),
            "IntervalSeconds": st.integers(1, 4),
            "BackoffRate": st.sampled_from([1.0, 1.5, 2.0]),
        },
        optional={"MaxDelaySeconds": st.integers(5, 9)},
    ),
    max_size=3,
)
errors = st.lists(st.sampled_from([*NAMES, None]), min_size=12, max_size=12)
catchers = st.lists(st.sampled_from([*NAMES, "States.ALL"]), max_size=1)


def account(
    given_retriers: list[dict[str, Any]], outcomes: list[str | None]
) -> tuple[int, float, str | None]:
    """How many calls, how many seconds of waiting, and the error that is left."""
    used = [0] * len(given_retriers)
    waited = 0.0
    for calls, error in enumerate(outcomes, start=1):
        if error is None:
            return calls, waited, None
        for index, retrier in enumerate(given_retriers):  # noqa: B007
            names = retrier["ErrorEquals"]
            if error in names or ("States.TaskFailed" in names and error != "States.Timeout"):
                break
        else:
            return calls, waited, error
        if used[index] == retrier["MaxAttempts"]:
            return calls, waited, error
        delay = retrier["IntervalSeconds"] * retrier["BackoffRate"] ** used[index]
        waited += min(delay, retrier.get("MaxDelaySeconds", delay))
        used[index] += 1
    raise AssertionError("more retries than outcomes")


def run(state: dict[str, Any], outcomes: list[str | None]) -> tuple[int, float, str, str | None]:
    now = [1_000_000.0]
    left = list(outcomes)
    calls = 0

    def invoke(_function: str, _payload: Any) -> Any:
        nonlocal calls
        calls += 1
        error = left.pop(0)
        if error is not None:
            raise FunctionError(error, "scripted")
        return {}

    machine = {"StartAt": "Call", "States": {"Call": state, "Caught": {"Type": "Succeed"}}}
    if "Catch" not in state:
        del machine["States"]["Caught"]  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        database = SqliteDatabase(Path(folder) / "state.db")
        definition = Definition.from_text("m", json.dumps(machine))
        engine = Interpreter(
            database, {"m": definition}, invoke, clock=lambda: now[0], source=random.Random(7)
        )
        engine.start("m", "run", {})
        while True:
            engine.run_ready()
            found = engine.describe("run")
            assert found is not None
            if found.status != "RUNNING":
                break
            wakeup = engine.next_wakeup()
            assert wakeup is not None
            now[0] = wakeup
        database.close()
    return calls, now[0] - 1_000_000.0, found.status, found.error


@settings(max_examples=60)
@given(retriers, errors, catchers)
def test_calls_and_waits_follow_the_retriers_when_errors_come_in_any_order(
    given_retriers: list[dict[str, Any]], outcomes: list[str | None], caught: list[str]
) -> None:
    state: dict[str, Any] = {
        "Type": "Task",
        "Resource": "arn:aws:lambda:us-east-1:123456789012:function:work",
        "Retry": given_retriers,
        "End": True,
    }
    if caught:
        state["Catch"] = [{"ErrorEquals": caught, "Next": "Caught"}]
    calls, waited, error = account(given_retriers, outcomes)
    handled = error is None or error in caught or "States.ALL" in caught
    found_calls, found_waited, status, found_error = run(state, outcomes)
    assert (found_calls, status) == (calls, "SUCCEEDED" if handled else "FAILED")
    assert found_error == (None if handled else error)
    assert abs(found_waited - waited) < 1e-3


@settings(max_examples=25)
@given(st.integers(1, 5), st.integers(1, 4), st.sampled_from([1.0, 2.0, 3.0]))
def test_waits_stay_below_the_plain_delay_when_jitter_is_full(
    failures: int, interval: int, rate: float
) -> None:
    state = {
        "Type": "Task",
        "Resource": "arn:aws:lambda:us-east-1:123456789012:function:work",
        "Retry": [
            {
                "ErrorEquals": ["States.ALL"],
                "MaxAttempts": failures,
                "IntervalSeconds": interval,
                "BackoffRate": rate,
                "JitterStrategy": "FULL",
            }
        ],
        "End": True,
    }
    calls, waited, status, _ = run(state, ["Capacity"] * failures + [None])
    assert (calls, status) == (failures + 1, "SUCCEEDED")
    assert 0 < waited < sum(interval * rate**used for used in range(failures))
