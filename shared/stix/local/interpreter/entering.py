"""What each state type does with its data: evaluation of paths and templates, and entering a state."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any, Protocol

from .errors import RUNTIME, StateError
from .paths import Path
from .resources import function_name
from .retry import Catcher
from .states import (
    Amount,
    Block,
    ChoiceState,
    FailState,
    MapState,
    ParallelState,
    PassState,
    State,
    SucceedState,
    TaskState,
    WaitState,
)
from .store import ExecutionRow, Frame, dump, dump_data
from .timestamps import format_timestamp, parse_timestamp

__all__ = ["Actions", "Evaluation", "Leave", "enter", "shape_result"]


@dataclass(frozen=True, slots=True)
class Leave:
    """The state is done: its output as JSON, and the next state (None ends the block)."""

    output: str
    next: str | None


class Actions(Protocol):
    """What entering a state may do to the world outside its data."""

    now: float

    @property
    def new_token(self) -> Any: ...

    def call(self, frame: Frame, function: str, payload: str) -> None: ...

    def wait(self, frame: Frame, status: str, wake_at: float | None) -> None: ...

    def start_child(self, frame: Frame, pattern: str, request: dict[str, Any]) -> dict[str, Any]: ...

    def fork(self, frame: Frame, scope: str, blocks: tuple[Block, ...], payload: str) -> None: ...

    def fan_out(
        self, frame: Frame, scope: str, block: Block, items: list[tuple[str, str]], concurrency: int
    ) -> None: ...


class Evaluation:
    """One visit of a frame to a state: a ``Scope`` for its expressions. ``data`` changes during the visit."""

    def __init__(self, frame: Frame, row: ExecutionRow, execution_id: str, machine_id: str, now: float):
        self.raw = json.loads(frame.input)
        self.data: Any = self.raw
        self.item: Any = None
        self._frame = frame
        self._row = row
        self._ids = execution_id, machine_id
        self._now = now
        self._context: dict[str, Any] | None = None
        self._chance: random.Random | None = None
        self._phase = "enter"

    @property
    def chance(self) -> random.Random:
        if self._chance is None:
            frame = self._frame
            visit = (self._ids[0], self._row.started_at, frame.id, frame.moves, frame.retries, self._phase)
            self._chance = random.Random(repr(visit))
        return self._chance

    @property
    def context(self) -> dict[str, Any]:
        if self._context is None:
            frame, row = self._frame, self._row
            self._context = {
                "Execution": {
                    "Id": self._ids[0],
                    "Input": json.loads(row.input),
                    "Name": row.name,
                    "RoleArn": "arn:aws:iam::000000000000:role/local",
                    "StartTime": format_timestamp(row.started_at),
                },
                "State": {
                    "EnteredTime": format_timestamp(frame.entered_at),
                    "Name": frame.state,
                    "RetryCount": sum(json.loads(frame.retries)),
                },
                "StateMachine": {"Id": self._ids[1], "Name": row.machine},
            }
            if frame.token is not None:
                self._context["Task"] = {"Token": frame.token}
            item = self.item if self.item is not None else json.loads(frame.item or "null")
            if item is not None:
                self._context["Map"] = {"Item": item}
        return self._context

    def take_result(self, result: Any) -> None:
        self.data = result
        self._chance, self._phase = None, "result"

    def take_input(self, state: State) -> Any:
        """Apply InputPath."""
        self.data = {} if state.input_path is None else state.input_path.read(self)
        return self.data

    def payload(self, state: State) -> Any:
        """Apply InputPath and Parameters."""
        self.take_input(state)
        return state.parameters(self) if state.parameters is not None else self.data

    def amount(self, name: str, amount: Amount | None) -> float | None:
        if not callable(amount):
            return amount
        value = amount(self)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
            raise StateError(RUNTIME, f"{name} must be a number of at least 0, not {value!r}")
        return value

    def leave(self, state: State, result: Any, next_state: str | None) -> Leave:
        """Apply ResultPath and OutputPath."""
        output = _put(state.result_path, self.raw, result)
        return self.end(state, output, next_state)

    def end(self, state: State, output: Any, next_state: str | None) -> Leave:
        """Apply OutputPath."""
        self.data = output
        shaped = {} if state.output_path is None else state.output_path.read(self)
        return Leave(dump_data(shaped, f"The output of the state {state.name!r}"), next_state)

    def caught(self, catcher: Catcher, error: StateError) -> Leave:
        output = _put(catcher.result_path, self.raw, {"Error": error.error, "Cause": error.cause})
        return Leave(dump_data(output, "The output of a Catch"), catcher.next)

    def items(self, state: MapState) -> list[Any]:
        self.take_input(state)
        items = state.items.read(self)
        if not isinstance(items, list):
            raise StateError(
                RUNTIME, f"The ItemsPath {state.items.text!r} must lead to an array, not {items!r}"
            )
        return items

    def select(self, state: MapState, index: int, value: Any) -> tuple[str, str]:
        """One item's input and its context object."""
        self.item = {"Index": index, "Value": value}
        self._context = None
        payload = value if state.parameters is None else state.parameters(self)
        return dump_data(payload, f"The item {index} of the state {state.name!r}"), dump(self.item)

    def tolerates(self, state: MapState, failed: int) -> bool:
        total = len(self.items(state))
        count = self.amount("ToleratedFailureCount", state.tolerated_count)
        percentage = self.amount("ToleratedFailurePercentage", state.tolerated_percentage)
        return (count is None or failed <= count) and (
            percentage is None or failed * 100 <= percentage * total
        )


def _put(path: Path | None, raw: Any, result: Any) -> Any:
    return raw if path is None else path.write(raw, result)


def enter(state: State, evaluation: Evaluation, actions: Actions, frame: Frame) -> Leave | None:
    """Run what the state does on entry; None when the frame waits. Raises ``StateError``."""
    match state:
        case PassState():
            payload = evaluation.payload(state)
            return evaluation.leave(state, state.result if state.has_result else payload, state.next)
        case ChoiceState():
            data = evaluation.take_input(state)
            for rule, target in state.rules:
                if rule(evaluation):
                    return evaluation.end(state, data, target)
            if state.default is None:
                raise StateError(
                    "States.NoChoiceMatched", f"No rule of {state.name!r} matched; it has no Default"
                )
            return evaluation.end(state, data, state.default)
        case TaskState():
            return _enter_task(state, evaluation, actions, frame)
        case WaitState():
            actions.wait(frame, "sleeping", _wake_at(state, evaluation, actions.now))
            return None
        case SucceedState():
            return evaluation.end(state, evaluation.take_input(state), None)
        case FailState():
            raise StateError(_words(state.error, evaluation), _words(state.cause, evaluation))
        case ParallelState():
            payload = dump_data(evaluation.payload(state), f"The input of the branches of {state.name!r}")
            actions.fork(frame, f"{frame.scope}/{state.name}", state.branches, payload)
            return None
        case MapState():
            return _enter_map(state, evaluation, actions, frame)
        case _:
            raise AssertionError(f"unknown state type {type(state).__name__}")


def shape_result(state: State, evaluation: Evaluation, result: Any) -> Leave:
    """What leaves a state that has waited, given its result. Raises ``StateError``."""
    if isinstance(state, WaitState):
        return evaluation.end(state, evaluation.take_input(state), state.next)
    evaluation.take_result(result)
    if state.result_selector is not None:
        result = state.result_selector(evaluation)
    return evaluation.leave(state, result, state.next)


def _enter_task(state: TaskState, evaluation: Evaluation, actions: Actions, frame: Frame) -> Leave | None:
    if state.pattern == "token" and frame.token is None:
        frame.token = actions.new_token()
    request = evaluation.payload(state)
    timeout = evaluation.amount("TimeoutSeconds", state.timeout)
    heartbeat = evaluation.amount("HeartbeatSeconds", state.heartbeat)
    if state.integration == "function":
        function, payload = state.function, request
    elif state.integration == "invoke":
        function, payload = function_name(str(request["FunctionName"])), request.get("Payload", {})
    else:
        answer = actions.start_child(frame, state.pattern, request)
        if state.pattern == "request":
            return shape_result(state, evaluation, answer)
    frame.timeout_at = None if timeout is None else actions.now + timeout
    frame.heartbeat_at = None if heartbeat is None else actions.now + heartbeat
    frame.heartbeat_seconds = heartbeat
    moments = [moment for moment in (frame.timeout_at, frame.heartbeat_at) if moment is not None]
    wake_at = min(moments) if moments else None
    if state.integration == "execution":
        actions.wait(frame, "token" if state.pattern == "token" else "child", wake_at)
        return None
    text = dump_data(payload, f"The payload of the state {state.name!r}")
    actions.call(frame, function, text)
    actions.wait(frame, "running", wake_at)
    return None


def _enter_map(state: MapState, evaluation: Evaluation, actions: Actions, frame: Frame) -> Leave | None:
    items = evaluation.items(state)
    concurrency = evaluation.amount("MaxConcurrency", state.concurrency) or 0
    if not items:
        return shape_result(state, evaluation, [])
    selected = [evaluation.select(state, index, value) for index, value in enumerate(items)]
    actions.fan_out(frame, f"{frame.scope}/{state.name}", state.processor, selected, int(concurrency))
    return None


def _wake_at(state: WaitState, evaluation: Evaluation, now: float) -> float:
    evaluation.take_input(state)
    if state.seconds is not None:
        return now + (evaluation.amount("SecondsPath", state.seconds) or 0)
    if not callable(state.timestamp):
        return state.timestamp or now
    value = state.timestamp(evaluation)
    try:
        return parse_timestamp(value).timestamp()
    except (ValueError, TypeError) as exc:
        raise StateError(RUNTIME, f"TimestampPath: {exc}") from exc


def _words(words: Any, evaluation: Evaluation) -> str:
    value = words(evaluation) if callable(words) else words
    if not isinstance(value, str):
        raise StateError(RUNTIME, f"Error and Cause must be strings, not {value!r}")
    return value
