"""The interpreter: state machines over SQLite, one transaction a transition, calls outside of them.

It has no threads and no timers of its own: ``WorkflowDriver`` gives it some, tests step it by ``run_ready``.
One process at a time may run the machines of a database file.
"""

from __future__ import annotations

import json
import logging
import random
import secrets
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from stix.adapters.sqlite_database import SqliteDatabase
from stix.ports.workflows import TaskTokenError

from .definition import Definition
from .errors import DATA_LIMIT_EXCEEDED, RUNTIME, DefinitionError, FunctionError, StateError
from .queued import QueuedCalls
from .store import DATA_LIMIT, ExecutionRow, Frame, FrameStore, dump
from .turn import EXECUTION_NAME, NAMES_KEPT_SECONDS, Invocation, Turn

__all__ = ["Execution", "Interpreter", "Outcome"]

logger = logging.getLogger(__name__)

_BATCH = 32
_PURGE_EVERY = 256
_DEFECTS = (
    ArithmeticError, AssertionError, AttributeError, DefinitionError, LookupError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
Invoke = Callable[[str, dict[str, Any]], Any]
Action = Callable[[Turn], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Execution:
    """A run as people see it. Times are epoch seconds.

    ``status`` is RUNNING, SUCCEEDED, FAILED, TIMED_OUT or ABORTED; ``states`` are the states that its live
    frames are in, none once it has stopped.
    """

    machine: str
    name: str
    status: str
    input: Any
    output: Any
    error: str | None
    cause: str | None
    started_at: float
    stopped_at: float | None
    states: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an invocation came to: a result, or an error."""

    result: Any = None
    error: StateError | None = None


class Interpreter:
    """Implements ``stix.ports.workflows.Workflows``.

    ``invoke(function, payload)`` runs a function and returns what JSON can hold; a ``FunctionError`` names
    the error type, any other exception is named by its class. It is called outside transactions, at least
    once per visit: a call that was in flight when the process died is made again.
    """

    def __init__(
        self,
        database: SqliteDatabase,
        definitions: Mapping[str, Definition],
        invoke: Invoke,
        *,
        clock: Callable[[], float] = time.time,
        source: random.Random | None = None,
        new_token: Callable[[], str] = secrets.token_urlsafe,
        retention_seconds: float = 7 * 86_400.0,
        retention_count: int = 2_000,
    ):
        self._database = database
        self._definitions = dict(definitions)
        self._by_digest = {definition.digest: definition for definition in definitions.values()}
        self._invoke = invoke
        self._clock = clock
        self._source = source or random.Random()
        self._new_token = new_token
        self._retention = retention_seconds, retention_count
        self._finished = 0
        self._calls = QueuedCalls(clock)
        self._queue: deque[Invocation] = deque()
        self._dispatch: Callable[[Invocation], None] = self._queue.append
        self._notify: Callable[[float], None] = lambda _at: None
        with database.write() as connection:
            store = FrameStore(connection)
            store.create_tables()
            for definition in definitions.values():
                store.keep_definition(definition.digest, definition.name, definition.text)
            store.drop_unused_definitions(list(self._by_digest))

    # The port

    def start(self, machine: str, name: str, payload: Mapping[str, Any]) -> bool:
        """See the port. Raises ``ValueError`` for an unknown machine, a bad name, or more than 256 KiB."""
        if not EXECUTION_NAME.fullmatch(name):
            raise ValueError(f"the run name {name!r} must be 1 to 80 characters of A-Z, a-z, 0-9, _ and -")
        if machine not in self._definitions:
            raise ValueError(
                f"there is no state machine {machine!r}; there are {', '.join(sorted(self._definitions))}"
            )
        text = dump(payload)
        if len(text.encode()) > DATA_LIMIT:
            raise ValueError(f"the payload of the run {name!r} is larger than {DATA_LIMIT} bytes")

        def begin(turn: Turn) -> bool:
            frame = turn.start(machine, name, text)
            if frame is not None:
                turn.advance(frame)
            return frame is not None

        return self._act(begin)

    def succeed(self, token: str, output: Mapping[str, Any]) -> None:
        text = dump(output)
        if len(text.encode()) > DATA_LIMIT:
            raise ValueError(f"the output for the task token is larger than {DATA_LIMIT} bytes")
        self._answer_token(token, lambda turn, frame: turn.answer(frame, json.loads(text)))

    def fail(self, token: str, error: str, cause: str) -> None:
        self._answer_token(
            token, lambda turn, frame: turn.reject(frame, StateError(error[:256], cause[:32_768]))
        )

    def heartbeat(self, token: str) -> None:
        def beat(turn: Turn, frame: Frame) -> None:
            if frame.heartbeat_seconds is not None:
                frame.heartbeat_at = turn.now + frame.heartbeat_seconds
                moments = [at for at in (frame.timeout_at, frame.heartbeat_at) if at is not None]
                turn.wait(frame, frame.status, min(moments))

        self._answer_token(token, beat)

    # Looking and stopping

    def describe(self, name: str, machine: str | None = None) -> Execution | None:
        """The newest run of that name; None when there is none (any more)."""
        with self._database.read() as connection:
            store = FrameStore(connection)
            rows = store.find_executions(name=name, machine=machine, limit=1)
            return _public(store, rows[0]) if rows else None

    def executions(
        self, *, machine: str | None = None, status: str | None = None, limit: int = 100
    ) -> list[Execution]:
        """Newest first."""
        with self._database.read() as connection:
            store = FrameStore(connection)
            rows = store.find_executions(machine=machine, status=status, limit=limit)
            return [_public(store, row) for row in rows]

    def stop(self, name: str, machine: str | None = None, *, error: str = "", cause: str = "") -> bool:
        """End a run as ABORTED, and what it waits for; False when none of that name runs."""

        def end(turn: Turn) -> bool:
            rows = turn.store.find_executions(name=name, machine=machine, status="RUNNING", limit=1)
            for row in rows:
                turn.finish(row, "ABORTED", error=error, cause=cause)
            return bool(rows)

        return self._act(end)

    # Running

    def attach(self, dispatch: Callable[[Invocation], None], notify: Callable[[float], None]) -> None:
        """Give invocations to ``dispatch``; ``notify(at)`` says that there is something to do at that time.
        Both are called after commits, by any thread."""
        self._dispatch = dispatch
        self._notify = notify

    def recover(self) -> int:
        """Once after a start: what was in flight when the last process ended runs again. How many that is."""

        def restart(turn: Turn) -> int:
            count = turn.store.restart_running()
            turn.ready_left = turn.ready_left or bool(count)
            return count

        return self._act(restart)

    def step(self) -> bool:
        """Handle one batch of due timers and ready frames; False when there was none."""
        now = self._clock()
        if self._finished >= _PURGE_EVERY:
            self._finished = 0
            self.purge()
        with self._database.read() as connection:
            store = FrameStore(connection)
            expired = store.due_executions(now, _BATCH)
            due = store.due_frames(now, _BATCH)
            ready = store.ready(_BATCH)
        for execution_id in expired:
            self._act(partial(_expire, execution_id=execution_id))
        self._transact([(frame_id, partial(_fire, frame_id=frame_id, calls=self._calls)) for frame_id in due])
        self._transact([(frame_id, partial(_advance, frame_id=frame_id)) for frame_id in ready])
        return bool(expired or due or ready)

    def run_ready(self) -> int:
        """Without a driver: do all that can be done now, calls included, in this thread. How many calls."""
        calls = 0
        while True:
            while self.step():
                pass
            if not self._queue:
                return calls
            invocation = self._queue.popleft()
            self.complete(invocation, self.call(invocation))
            calls += 1

    def call(self, invocation: Invocation) -> Outcome:
        """Run the function; touches no state."""
        self._calls.begun(invocation)
        try:
            result = self._invoke(invocation.function, json.loads(invocation.payload))
            size = len(dump(result).encode())
        except FunctionError as exc:
            return Outcome(error=_function_failed(exc.error_type, exc.message))
        except SystemExit as exc:
            return Outcome(
                error=_function_failed("Runtime.ExitError", f"the function exited with {exc.code}")
            )
        except Exception as exc:  # the edge to functions: the state machine handles it
            logger.warning("function failed", extra={"function": invocation.function}, exc_info=exc)
            return Outcome(error=_function_failed(type(exc).__name__, str(exc)))
        if size > DATA_LIMIT:
            text = f"The answer of {invocation.function} is larger than {DATA_LIMIT} bytes"
            return Outcome(error=StateError(DATA_LIMIT_EXCEEDED, text))
        return Outcome(result=result)

    def complete(self, invocation: Invocation, outcome: Outcome) -> None:
        """Record what a call came to; dropped when its frame moved on (timed out, stopped, answered)."""
        action = partial(_complete, invocation=invocation, outcome=outcome, calls=self._calls)
        self._transact([(invocation.frame_id, action)])
        self._calls.ended(invocation)

    def next_wakeup(self) -> float | None:
        """Epoch seconds of the earliest timer; None without timers."""
        with self._database.read() as connection:
            return FrameStore(connection).next_wakeup()

    def purge(self, limit: int = 1_000) -> int:
        """Remove a bounded number of finished runs beyond the retention; how many rows went."""
        now = self._clock()
        seconds, count = self._retention
        with self._database.write() as connection:
            return FrameStore(connection).purge(
                finished_before=now - seconds, keep=count, forget_before=now - NAMES_KEPT_SECONDS, limit=limit
            )

    # Inside

    def _act(self, action: Callable[[Turn], T]) -> T:
        """What ``action`` returns, once it is durable; turns of other threads may share its commit. What it
        wants to be done follows after that."""

        def work(connection: sqlite3.Connection) -> tuple[Turn, T]:
            turn = Turn(
                FrameStore(connection), self._clock(), partial(self._definition, connection),
                self._definitions.get, self._source, self._new_token,
            )  # fmt: skip
            return turn, action(turn)

        turn, result = self._database.write_together(work)
        for invocation in turn.invocations:
            self._calls.queued(invocation)
            self._dispatch(invocation)
        if turn.ready_left:
            self._notify(turn.now)
        elif turn.wake_at is not None:
            self._notify(turn.wake_at)
        self._finished += turn.finished
        return result

    def _transact(self, actions: Sequence[tuple[int, Action]]) -> None:
        """All actions in one transaction; if one cannot be run, each alone: only its execution fails."""
        if not actions:
            return

        def each_in_turn(turn: Turn) -> None:
            for _, action in actions:
                action(turn)

        try:
            self._act(each_in_turn)
        except _DEFECTS as exc:
            if len(actions) > 1:
                for each in actions:
                    self._transact([each])
                return
            logger.exception("state could not be run", extra={"frame": actions[0][0]})
            self._condemn(actions[0][0], exc)

    def _condemn(self, frame_id: int, exc: Exception) -> None:
        def fail(turn: Turn) -> None:
            frame = turn.store.frame(frame_id)
            row = turn.store.execution(frame.execution_id) if frame else None
            if row is not None:
                turn.finish(
                    row, "FAILED", error=RUNTIME, cause=f"Internal error: {type(exc).__name__}: {exc}"
                )

        self._act(fail)

    def _answer_token(self, token: str, action: Callable[[Turn, Frame], None]) -> None:
        def checked(turn: Turn) -> None:
            frame = turn.store.frame_by_token(token)
            if frame is None:
                raise TaskTokenError("no task waits for this token: it is unknown, answered or timed out")
            if frame.wake_at is not None and frame.wake_at <= turn.now:
                raise TaskTokenError("the task that waited for this token has timed out")
            action(turn, frame)

        with self._database.read() as connection:
            frame = FrameStore(connection).frame_by_token(token)
        self._transact([(frame.id if frame else 0, checked)])

    def _definition(self, connection: sqlite3.Connection, digest: str) -> Definition:
        definition = self._by_digest.get(digest)
        if definition is None:
            kept = FrameStore(connection).definition(digest)
            if kept is None:
                raise LookupError(f"the definition {digest} of a running execution is gone")
            definition = self._by_digest[digest] = Definition.from_text(*kept)
        return definition


def _expire(turn: Turn, *, execution_id: int) -> None:
    row = turn.store.execution(execution_id)
    if row is not None and row.stopped_at is None:
        turn.expired(row)


def _advance(turn: Turn, *, frame_id: int) -> None:
    frame = turn.store.frame(frame_id)
    if frame is not None and frame.status == "ready":
        turn.advance(frame)


def _fire(turn: Turn, *, frame_id: int, calls: QueuedCalls) -> None:
    frame = turn.store.frame(frame_id)
    if frame is not None and calls.is_over(turn, frame):
        turn.fire(frame)


def _complete(turn: Turn, *, invocation: Invocation, outcome: Outcome, calls: QueuedCalls) -> None:
    frame = turn.store.frame(invocation.frame_id)
    if frame is None or frame.attempt != invocation.attempt or frame.status != "running":
        return
    if calls.is_over(turn, frame):
        turn.fire(frame)
    elif outcome.error is not None:
        turn.reject(frame, outcome.error)
    else:
        turn.returned(frame, outcome.result)


def _function_failed(error_type: str, message: str) -> StateError:
    return StateError(error_type, dump({"errorMessage": message[:16_384], "errorType": error_type}))


def _public(store: FrameStore, row: ExecutionRow) -> Execution:
    return Execution(
        machine=row.machine, name=row.name, status=row.status, input=json.loads(row.input),
        output=None if row.output is None else json.loads(row.output), error=row.error, cause=row.cause,
        started_at=row.started_at, stopped_at=row.stopped_at,
        states=tuple(state for _, state in store.frames_of(row.id)),
    )  # fmt: skip
