"""One transaction's worth of transitions: what happens to frames that are ready, answered, failed or due."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .definition import Definition
from .entering import Evaluation, Leave, enter, shape_result
from .errors import RUNTIME, StateError
from .resources import machine_name
from .retry import matches, next_delay
from .states import Block, MapState, ParallelState, State, TaskState
from .store import ExecutionRow, Frame, FrameStore, dump
from .timestamps import format_timestamp

__all__ = ["Invocation", "Turn", "execution_id", "machine_id"]

# States that one transaction passes through before it lets others write.
_CHAIN = 50
EXECUTION_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")
NAMES_KEPT_SECONDS = 90 * 86_400.0


def machine_id(machine: str) -> str:
    return f"arn:aws:states:local:000000000000:stateMachine:{machine}"


def execution_id(machine: str, name: str) -> str:
    return f"arn:aws:states:local:000000000000:execution:{machine}:{name}"


@dataclass(frozen=True, slots=True)
class Invocation:
    """A function call to make outside the transaction; ``payload`` is JSON."""

    frame_id: int
    attempt: int
    function: str
    payload: str


@dataclass
class Turn:
    """Collects what has to happen after the commit: ``invocations``, and whether frames are left ready."""

    store: FrameStore
    now: float
    definition_of: Callable[[str], Definition]
    current: Callable[[str], Definition | None]
    source: random.Random
    new_token: Callable[[], str]
    invocations: list[Invocation] = field(default_factory=list)
    ready_left: bool = False
    finished: int = 0
    wake_at: float | None = None
    _last_row: ExecutionRow | None = None

    def start(
        self, machine: str, name: str, payload: str, parent: Frame | None = None, pattern: str | None = None
    ) -> Frame | None:
        """The root frame, ready; None when the name was used before. Raises ``KeyError``: no such machine."""
        definition = self.current(machine)
        if definition is None:
            raise KeyError(machine)
        if not self.store.claim_name(machine, name, self.now, self.now - NAMES_KEPT_SECONDS):
            return None
        row = ExecutionRow(
            id=0, machine=machine, name=name, digest=definition.digest, status="RUNNING", input=payload,
            output=None, error=None, cause=None, started_at=self.now, stopped_at=None,
            deadline=None if definition.timeout is None else self.now + definition.timeout,
            parent_frame=parent.id if parent else None, parent_pattern=pattern,
        )  # fmt: skip
        self.store.add_execution(row)
        self._timer(row.deadline)
        frame = Frame(0, row.id, None, 0, "", definition.root.start_at, "ready", payload, entered_at=self.now)
        self.store.add_frame(frame)
        return frame

    def advance(self, frame: Frame) -> None:
        """Enter the frame's state, and the next ones, until something has to be waited for."""
        for _ in range(_CHAIN):
            state = self._state(frame)
            try:
                leave = enter(state, self._evaluation(frame), self, frame)
            except StateError as error:
                leave = self._handle(frame, state, error)
            if leave is None or not self._move(frame, leave):
                return
        frame.park("ready")
        self.store.save(frame)
        self.ready_left = True

    def answer(self, frame: Frame, result: Any) -> None:
        """The frame's task has its result: of the function, the token's answer, or the child execution."""
        state = self._state(frame)
        try:
            leave: Leave | None = shape_result(state, self._evaluation(frame), result)
        except StateError as error:
            leave = self._handle(frame, state, error)
        self._go_on(frame, leave)

    def returned(self, frame: Frame, result: Any) -> None:
        """The function that the frame called has returned: the task's result, or the begin of its waiting."""
        state = self._state(frame)
        if isinstance(state, TaskState) and state.pattern == "token":
            self.wait(frame, "token", frame.wake_at)
        elif isinstance(state, TaskState) and state.integration == "invoke":
            self.answer(frame, {"ExecutedVersion": "$LATEST", "Payload": result, "StatusCode": 200})
        else:
            self.answer(frame, result)

    def reject(self, frame: Frame, error: StateError) -> None:
        """The frame's state failed: retry, catch, or fail what contains it."""
        self._go_on(frame, self._handle(frame, self._state(frame), error))

    def fire(self, frame: Frame) -> None:
        """The frame's timer is due."""
        if frame.status == "backoff":
            frame.park("ready")
            self.advance(frame)
        elif frame.status == "sleeping":
            self.answer(frame, None)
        elif frame.timeout_at is not None and frame.timeout_at <= self.now:
            self.reject(frame, StateError("States.Timeout", "The task ran longer than its TimeoutSeconds"))
        elif frame.heartbeat_at is not None and frame.heartbeat_at <= self.now:
            self.reject(
                frame, StateError("States.HeartbeatTimeout", "No heartbeat came within its HeartbeatSeconds")
            )

    def expired(self, row: ExecutionRow) -> None:
        """The whole machine's TimeoutSeconds have passed."""
        self.finish(row, "TIMED_OUT", error="States.Timeout", cause="")

    def finish(
        self, row: ExecutionRow, status: str, *, output: str | None = None, error: str = "", cause: str = ""
    ) -> None:
        """End an execution; whoever waits for it goes on in the same transaction."""
        self._cancel([frame_id for frame_id, _ in self.store.frames_of(row.id)])
        row.status, row.output, row.stopped_at = status, output, self.now
        row.error, row.cause = error or None, cause or None
        self.store.finish_execution(row)
        self.finished += 1
        parent = self.store.frame(row.parent_frame) if row.parent_frame is not None else None
        if parent is None or parent.status != "child" or row.parent_pattern not in ("sync", "sync2"):
            return
        described = self._described(row)
        if status == "SUCCEEDED":
            if row.parent_pattern == "sync2":
                described["Output"] = json.loads(output or "null")
                described["Input"] = json.loads(row.input)
            self.answer(parent, described)
        else:
            self.reject(parent, StateError("States.TaskFailed", dump(described)))

    # What entering a state may ask for

    def call(self, frame: Frame, function: str, payload: str) -> None:
        frame.attempt += 1
        self.invocations.append(Invocation(frame.id, frame.attempt, function, payload))

    def wait(self, frame: Frame, status: str, wake_at: float | None) -> None:
        frame.park(status, wake_at)
        self._timer(wake_at)
        self.store.save(frame)

    def start_child(self, frame: Frame, pattern: str, request: dict[str, Any]) -> dict[str, Any]:
        """The answer of StartExecution. Raises ``StateError``."""
        machine = machine_name(str(request["StateMachineArn"]))
        name = str(request.get("Name") or "") or f"{frame.execution_id}-{frame.id}-{self.new_token()[:32]}"
        if not EXECUTION_NAME.fullmatch(name):
            raise StateError("StepFunctions.InvalidNameException", f"Invalid Name: '{name}'")
        given = request.get("Input", {})
        text = given if isinstance(given, str) else dump(given)
        waited = pattern in ("sync", "sync2")
        try:
            json.loads(text)
            root = self.start(machine, name, text, frame if waited else None, pattern if waited else None)
        except KeyError as exc:
            cause = f"State Machine Does Not Exist: '{machine}'"
            raise StateError("StepFunctions.StateMachineDoesNotExistException", cause) from exc
        except ValueError as exc:
            raise StateError(
                "StepFunctions.InvalidExecutionInputException", f"The Input is no JSON: {exc}"
            ) from exc
        if root is None:
            cause = f"Execution Already Exists: '{execution_id(machine, name)}'"
            raise StateError("StepFunctions.ExecutionAlreadyExistsException", cause)
        self.ready_left = True
        return {"ExecutionArn": execution_id(machine, name), "StartDate": format_timestamp(self.now)}

    def fork(self, frame: Frame, scope: str, blocks: tuple[Block, ...], payload: str) -> None:
        """Start the branches of a Parallel."""
        frame.pending, frame.failed = len(blocks), 0
        for index, block in enumerate(blocks):
            child = Frame(
                0, frame.execution_id, frame.id, index, f"{scope}/{index}", block.start_at, "ready", payload,
                item=frame.item, entered_at=self.now,
            )  # fmt: skip
            self.store.add_frame(child)
        self.wait(frame, "joining", None)
        self.ready_left = True

    def fan_out(
        self, frame: Frame, scope: str, block: Block, items: list[tuple[str, str]], concurrency: int
    ) -> None:
        """Start the items of a Map: pairs of the item's input and its context object, both JSON."""
        frame.pending, frame.failed = len(items), 0
        self.store.add_frames(
            Frame(
                0, frame.execution_id, frame.id, index, f"{scope}/0", block.start_at,
                "queued" if concurrency and index >= concurrency else "ready", payload, item=item,
                entered_at=self.now,
            )
            for index, (payload, item) in enumerate(items)
        )  # fmt: skip
        self.wait(frame, "joining", None)
        self.ready_left = True

    # Inside

    def _state(self, frame: Frame) -> State:
        return self._definition(frame).state(frame.scope, frame.state)

    def _definition(self, frame: Frame) -> Definition:
        return self.definition_of(self._row(frame).digest)

    def _row(self, frame: Frame) -> ExecutionRow:
        if self._last_row is not None and self._last_row.id == frame.execution_id:
            return self._last_row
        row = self.store.execution(frame.execution_id)
        if row is None:
            raise LookupError(f"the frame {frame.id} belongs to no execution")
        self._last_row = row
        return row

    def _evaluation(self, frame: Frame) -> Evaluation:
        row = self._row(frame)
        return Evaluation(frame, row, execution_id(row.machine, row.name), machine_id(row.machine), self.now)

    def _timer(self, at: float | None) -> None:
        if at is not None and (self.wake_at is None or at < self.wake_at):
            self.wake_at = at

    def _go_on(self, frame: Frame, leave: Leave | None) -> None:
        if leave is not None and self._move(frame, leave):
            self.advance(frame)

    def _move(self, frame: Frame, leave: Leave) -> bool:
        """Go to the next state; False when the block ended."""
        frame.rest()
        if leave.next is not None:
            frame.state, frame.input = leave.next, leave.output
            frame.retries, frame.entered_at, frame.pending, frame.failed = "[]", self.now, 0, 0
            frame.moves += 1
            frame.status = "ready"
            return True
        if frame.parent_id is None:
            self.finish(self._row(frame), "SUCCEEDED", output=leave.output)
            return False
        self.store.remove(frame.id)
        self._joined(frame, leave.output)
        return False

    def _joined(self, child: Frame, output: str) -> None:
        parent = self.store.frame(child.parent_id or 0)
        if parent is None:
            return
        self.store.add_result(parent.id, child.position, output)
        parent.pending -= 1
        if parent.pending == 0:
            self.answer(parent, json.loads(self.store.take_results(parent.id)))
            return
        self.store.save(parent)
        following = self.store.queued(parent.id) if isinstance(self._state(parent), MapState) else None
        if following is not None:
            following.park("ready")
            following.entered_at = self.now
            self.store.save(following)
            self.ready_left = True

    def _handle(self, frame: Frame, state: State, error: StateError) -> Leave | None:
        """Where a caught error leads; None when the frame waits for a retry, or is gone."""
        frame.rest()
        if isinstance(state, (MapState, ParallelState)):
            self._cancel(self.store.descendants(frame.id))
            self.store.drop_results(frame.id)
        elif isinstance(state, TaskState):
            for child in self.store.children(frame.id):
                self._abort(child)
        used: list[int] = json.loads(frame.retries)
        attempt = next_delay(state.retry, used, error.error, self.source)
        if attempt is not None:
            index, delay = attempt
            used += [0] * (index + 1 - len(used))
            used[index] += 1
            frame.retries = dump(used)
            self.wait(frame, "backoff", self.now + delay)
            return None
        for catcher in state.catch:
            if matches(catcher.errors, error.error):
                try:
                    return self._evaluation(frame).caught(catcher, error)
                except StateError as second:
                    error = second
                    break
        self._fail(frame, error)
        return None

    def _fail(self, frame: Frame, error: StateError) -> None:
        if frame.parent_id is None:
            self.finish(self._row(frame), "FAILED", error=error.error, cause=error.cause)
            return
        parent = self.store.frame(frame.parent_id)
        self.store.remove(frame.id)
        if parent is None:
            return
        state = self._state(parent)
        if isinstance(state, MapState) and (state.tolerated_count, state.tolerated_percentage) != (
            None,
            None,
        ):
            parent.failed += 1
            self.store.save(parent)
            if self._evaluation(parent).tolerates(state, parent.failed):
                self._joined(frame, dump({"Error": error.error, "Cause": error.cause}))
                return
            error = StateError(
                "States.ExceedToleratedFailureThreshold",
                "The specified tolerated failure threshold was exceeded",
            )
        elif not isinstance(state, (MapState, ParallelState)):
            error = StateError(RUNTIME, f"the state {state.name!r} has no branches")
        self.reject(parent, error)

    def _cancel(self, frame_ids: list[int]) -> None:
        if not frame_ids:
            return
        for frame_id in frame_ids:
            for child in self.store.children(frame_id):
                self._abort(child)
        self.store.remove_all(frame_ids)

    def _abort(self, child_id: int) -> None:
        row = self.store.execution(child_id)
        if row is not None:
            row.parent_frame = None
            self.finish(row, "ABORTED", error="", cause="The execution that waited for this one went on")

    def _described(self, row: ExecutionRow) -> dict[str, Any]:
        described: dict[str, Any] = {
            "ExecutionArn": execution_id(row.machine, row.name),
            "Input": row.input,
            "InputDetails": {"Included": True},
            "Name": row.name,
            "StartDate": int(row.started_at * 1000),
            "StateMachineArn": machine_id(row.machine),
            "Status": row.status,
            "StopDate": int((row.stopped_at or self.now) * 1000),
        }
        if row.status == "SUCCEEDED":
            return {**described, "Output": row.output, "OutputDetails": {"Included": True}}
        return {**described, "Error": row.error, "Cause": row.cause}
