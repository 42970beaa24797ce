from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stix.application.world import Limits
from tests.infrastructure.history import UnboundedLoopError, longest_history

FOLDER = Path(__file__).resolve().parents[2] / "infra" / "state_machines"
DEFINITIONS = {
    path.name.removesuffix(".asl.json"): json.loads(path.read_text()) for path in FOLDER.glob("*.asl.json")
}
MAX_ATTEMPTS = Limits().max_attempts
MAX_PLACES = 250
"""Places of one sweep run at most; ``list_places`` keeps to it."""


def states(definition: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, state in definition["States"].items():
        yield name, state
        for inner in (
            *state.get("Branches", ()),
            *(state[k] for k in ("ItemProcessor", "Iterator") if k in state),
        ):
            yield from states(inner)


ALL_STATES = [
    pytest.param(state, id=f"{machine}: {name}")
    for machine, definition in sorted(DEFINITIONS.items())
    for name, state in states(definition)
]
TASKS = [param for param in ALL_STATES if param.values[0]["Type"] == "Task"]


def test_definitions_are_found() -> None:
    assert {"launch", "terminate", "sweep"} <= DEFINITIONS.keys()
    assert len(TASKS) >= 13


@pytest.mark.parametrize("task", TASKS)
def test_task_has_a_timeout(task: dict[str, Any]) -> None:
    assert ("TimeoutSeconds" in task) != ("TimeoutSecondsPath" in task)


@pytest.mark.parametrize("task", TASKS)
def test_task_retries_with_full_jitter_and_a_cap(task: dict[str, Any]) -> None:
    assert any("States.ALL" in retrier["ErrorEquals"] for retrier in task["Retry"])
    for retrier in task["Retry"]:
        if retrier["MaxAttempts"] == 0:
            continue
        assert retrier["JitterStrategy"] == "FULL"
        assert 0 < retrier["MaxDelaySeconds"] <= 60
        assert 0 < retrier["MaxAttempts"] <= 25
        assert retrier["BackoffRate"] > 1


@pytest.mark.parametrize("task", TASKS)
def test_task_catches_every_error(task: dict[str, Any]) -> None:
    assert task["Catch"][-1]["ErrorEquals"] == ["States.ALL"]
    # ResultPath keeps the input: the state that cleans up needs the ids.
    assert all(catcher["ResultPath"].startswith("$.") for catcher in task["Catch"])


@pytest.mark.parametrize("task", TASKS)
def test_time_out_is_named_both_ways_when_heartbeats_may_time_out_too(task: dict[str, Any]) -> None:
    for rule in (*task["Retry"], *task["Catch"]):
        assert ("States.Timeout" in rule["ErrorEquals"]) == ("States.HeartbeatTimeout" in rule["ErrorEquals"])


@pytest.mark.parametrize("machine", sorted(DEFINITIONS))
def test_machine_ends_by_itself(machine: str) -> None:
    assert 0 < DEFINITIONS[machine]["TimeoutSeconds"] <= 6 * 3600


@pytest.mark.parametrize("machine", sorted(DEFINITIONS))
def test_history_stays_short_in_the_worst_case(machine: str) -> None:
    length = longest_history(DEFINITIONS[machine], max_attempts=MAX_ATTEMPTS, max_items=MAX_PLACES)
    assert length < 5000


def test_history_is_counted_when_everything_goes_well_or_not() -> None:
    task = {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Next": "Done"}
    plain = {"StartAt": "Do", "States": {"Do": task, "Done": {"Type": "Succeed"}}}
    assert longest_history(plain, max_attempts=1, max_items=1) == 2 + (2 + 3) + 2
    retried = copy.deepcopy(plain)
    retried["States"]["Do"]["Retry"] = [
        {"ErrorEquals": ["A"], "MaxAttempts": 4},
        {"ErrorEquals": ["States.ALL"]},
    ]
    assert longest_history(retried, max_attempts=1, max_items=1) == 2 + (2 + 8 * 3) + 2
    mapped = {"StartAt": "Each", "States": {"Each": {"Type": "Map", "ItemProcessor": plain, "End": True}}}
    assert longest_history(mapped, max_attempts=1, max_items=5) == 2 + 2 + 2 + 5 * (2 + 7)


def test_history_grows_with_the_attempts_when_a_cycle_is_counted() -> None:
    once, many = (
        longest_history(DEFINITIONS["launch"], max_attempts=attempts, max_items=1)
        for attempts in (1, MAX_ATTEMPTS)
    )
    assert once < many < MAX_ATTEMPTS * once


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"Parameters": {"made.$": "$.attempts.made"}}, id="never grows"),
        pytest.param({"ResultPath": "$.elsewhere"}, id="grows elsewhere"),
    ],
)
def test_history_is_unbounded_when_the_counter_stands_still(changes: dict[str, Any]) -> None:
    launch = copy.deepcopy(DEFINITIONS["launch"])
    launch["States"]["Count the attempt"].update(changes)
    with pytest.raises(UnboundedLoopError, match="without adding"):
        longest_history(launch, max_attempts=MAX_ATTEMPTS, max_items=1)


def test_history_is_unbounded_when_the_counter_is_overwritten() -> None:
    launch = copy.deepcopy(DEFINITIONS["launch"])
    launch["States"]["Create the machines"]["ResultPath"] = "$.attempts"
    with pytest.raises(UnboundedLoopError, match="overwrites"):
        longest_history(launch, max_attempts=MAX_ATTEMPTS, max_items=1)


def test_history_is_unbounded_when_a_cycle_has_no_counter() -> None:
    terminate = copy.deepcopy(DEFINITIONS["terminate"])
    terminate["States"]["What was wanted?"]["Default"] = "Act on the machines"
    with pytest.raises(UnboundedLoopError, match="no counter"):
        longest_history(terminate, max_attempts=MAX_ATTEMPTS, max_items=1)


@pytest.mark.parametrize("state", ALL_STATES)
def test_query_language_is_jsonpath(state: dict[str, Any]) -> None:
    assert "QueryLanguage" not in state
    assert "Arguments" not in state
