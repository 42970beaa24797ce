"""The interpreter's tables: executions, live frames, results of finished branches, names and definitions.

A frame is one place where a machine stands: the root, a branch of a Parallel, an item of a Map. Frames vanish
when they finish, so that the tables hold what lives and a bounded past.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

from .errors import DATA_LIMIT_EXCEEDED, RUNTIME, StateError

__all__ = ["DATA_LIMIT", "ExecutionRow", "Frame", "FrameStore", "dump", "dump_data"]

DATA_LIMIT = 256 * 1024

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS wf_definitions (
        digest TEXT PRIMARY KEY, machine TEXT NOT NULL, text TEXT NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS wf_names (
        machine TEXT NOT NULL, name TEXT NOT NULL, started_at REAL NOT NULL,
        PRIMARY KEY (machine, name)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS wf_executions (
        id INTEGER PRIMARY KEY AUTOINCREMENT, machine TEXT NOT NULL, name TEXT NOT NULL,
        digest TEXT NOT NULL, status TEXT NOT NULL, input TEXT NOT NULL, output TEXT, error TEXT,
        cause TEXT, started_at REAL NOT NULL, stopped_at REAL, deadline REAL,
        parent_frame INTEGER, parent_pattern TEXT)""",
    "CREATE INDEX IF NOT EXISTS wf_executions_name ON wf_executions (name)",
    """CREATE INDEX IF NOT EXISTS wf_executions_deadline ON wf_executions (deadline)
        WHERE deadline IS NOT NULL""",
    """CREATE INDEX IF NOT EXISTS wf_executions_done ON wf_executions (stopped_at)
        WHERE stopped_at IS NOT NULL""",
    """CREATE INDEX IF NOT EXISTS wf_executions_parent ON wf_executions (parent_frame)
        WHERE parent_frame IS NOT NULL""",
    """CREATE TABLE IF NOT EXISTS wf_frames (
        id INTEGER PRIMARY KEY AUTOINCREMENT, execution_id INTEGER NOT NULL, parent_id INTEGER,
        position INTEGER NOT NULL, scope TEXT NOT NULL, state TEXT NOT NULL, status TEXT NOT NULL,
        input TEXT NOT NULL, item TEXT, retries TEXT NOT NULL, entered_at REAL NOT NULL,
        moves INTEGER NOT NULL, attempt INTEGER NOT NULL, wake_at REAL,
        timeout_at REAL, heartbeat_at REAL, heartbeat_seconds REAL,
        token TEXT, pending INTEGER NOT NULL, failed INTEGER NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS wf_frames_execution ON wf_frames (execution_id)",
    """CREATE INDEX IF NOT EXISTS wf_frames_parent ON wf_frames (parent_id, status, position)
        WHERE parent_id IS NOT NULL""",
    "CREATE INDEX IF NOT EXISTS wf_frames_ready ON wf_frames (id) WHERE status = 'ready'",
    "CREATE INDEX IF NOT EXISTS wf_frames_wake ON wf_frames (wake_at) WHERE wake_at IS NOT NULL",
    "CREATE UNIQUE INDEX IF NOT EXISTS wf_frames_token ON wf_frames (token) WHERE token IS NOT NULL",
    """CREATE TABLE IF NOT EXISTS wf_results (
        frame_id INTEGER NOT NULL, position INTEGER NOT NULL, output TEXT NOT NULL,
        PRIMARY KEY (frame_id, position)) WITHOUT ROWID""",
)


def dump(value: Any) -> str:
    """Compact JSON. Raises ``ValueError`` or ``TypeError`` for what JSON cannot hold."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def dump_data(value: Any, what: str) -> str:
    """As ``dump``, within the 256 KiB that AWS allows. Raises ``StateError``."""
    try:
        text = dump(value)
    except (ValueError, TypeError) as exc:
        raise StateError(RUNTIME, f"{what} cannot be written as JSON: {exc}") from exc
    if len(text) * 4 > DATA_LIMIT and len(text.encode()) > DATA_LIMIT:
        raise StateError(DATA_LIMIT_EXCEEDED, f"{what} is larger than {DATA_LIMIT} bytes")
    return text


@dataclass(slots=True)
class Frame:
    """``status``: ready (to enter ``state``), running (a function is called), token (waits for an answer),
    child (waits for an execution), joining (waits for its own branches or items), sleeping (Wait), backoff
    (Retry), queued (a Map item beyond MaxConcurrency). ``moves`` counts states entered; ``attempt`` counts
    calls: an answer to an older one is dropped.
    """

    id: int
    execution_id: int
    parent_id: int | None
    position: int
    scope: str
    state: str
    status: str
    input: str
    item: str | None = None
    retries: str = "[]"
    entered_at: float = 0.0
    moves: int = 0
    attempt: int = 0
    wake_at: float | None = None
    timeout_at: float | None = None
    heartbeat_at: float | None = None
    heartbeat_seconds: float | None = None
    token: str | None = None
    pending: int = 0
    failed: int = 0

    def park(self, status: str, wake_at: float | None = None) -> None:
        self.status = status
        self.wake_at = wake_at

    def rest(self) -> None:
        """Forget what belonged to one visit of a task."""
        self.wake_at = self.timeout_at = self.heartbeat_at = self.heartbeat_seconds = self.token = None


@dataclass(slots=True)
class ExecutionRow:
    id: int
    machine: str
    name: str
    digest: str
    status: str
    input: str
    output: str | None
    error: str | None
    cause: str | None
    started_at: float
    stopped_at: float | None
    deadline: float | None
    parent_frame: int | None
    parent_pattern: str | None


_FRAME = ", ".join(field.name for field in fields(Frame))
_EXECUTION = ", ".join(field.name for field in fields(ExecutionRow))
_FRAME_VALUES = attrgetter(*(field.name for field in fields(Frame)[1:]))
_EXECUTION_VALUES = attrgetter(*(field.name for field in fields(ExecutionRow)[1:]))
_SELECT_FRAME = f"SELECT {_FRAME} FROM wf_frames "
_INSERT_FRAME = f"INSERT INTO wf_frames ({_FRAME}) VALUES ({', '.join('?' * len(fields(Frame)))})"
_UPDATE_FRAME = (
    "UPDATE wf_frames SET state=?, status=?, input=?, retries=?, entered_at=?, moves=?, attempt=?, "
    "wake_at=?, timeout_at=?, heartbeat_at=?, heartbeat_seconds=?, token=?, pending=?, failed=? WHERE id=?"
)
_SELECT_EXECUTION = f"SELECT {_EXECUTION} FROM wf_executions "
_SUBTREE = """WITH RECURSIVE tree(id) AS (
    SELECT id FROM wf_frames WHERE parent_id = ?
    UNION ALL SELECT wf_frames.id FROM wf_frames JOIN tree ON wf_frames.parent_id = tree.id) """


class FrameStore:
    """Statements over one connection; the caller holds the transaction."""

    def __init__(self, connection: sqlite3.Connection):
        self._run = connection.execute
        self._many = connection.executemany

    def create_tables(self) -> None:
        for statement in SCHEMA:
            self._run(statement)

    # Frames

    def frame(self, frame_id: int) -> Frame | None:
        row = self._run(_SELECT_FRAME + "WHERE id=?", (frame_id,)).fetchone()
        return Frame(*row) if row else None

    def frame_by_token(self, token: str) -> Frame | None:
        row = self._run(_SELECT_FRAME + "WHERE token=?", (token,)).fetchone()
        return Frame(*row) if row else None

    def add_frame(self, frame: Frame) -> None:
        """Gives the frame its id."""
        frame.id = self._run(_INSERT_FRAME, (None, *_FRAME_VALUES(frame))).lastrowid or 0

    def add_frames(self, frames: Iterator[Frame]) -> None:
        self._many(_INSERT_FRAME, ((None, *_FRAME_VALUES(frame)) for frame in frames))

    def save(self, f: Frame) -> None:
        self._run(
            _UPDATE_FRAME,
            (f.state, f.status, f.input, f.retries, f.entered_at, f.moves, f.attempt, f.wake_at, f.timeout_at,
             f.heartbeat_at, f.heartbeat_seconds, f.token, f.pending, f.failed, f.id),
        )  # fmt: skip

    def remove(self, frame_id: int) -> None:
        self._run("DELETE FROM wf_frames WHERE id=?", (frame_id,))

    def ready(self, limit: int) -> list[int]:
        rows = self._run("SELECT id FROM wf_frames WHERE status='ready' ORDER BY id LIMIT ?", (limit,))
        return [row[0] for row in rows]

    def queued(self, parent_id: int) -> Frame | None:
        row = self._run(
            _SELECT_FRAME + "WHERE parent_id=? AND status='queued' ORDER BY position LIMIT 1", (parent_id,)
        ).fetchone()
        return Frame(*row) if row else None

    def restart_running(self) -> int:
        """What was in flight when the process ended runs again."""
        return self._run(
            "UPDATE wf_frames SET status='ready', wake_at=NULL, timeout_at=NULL, heartbeat_at=NULL "
            "WHERE status='running'"
        ).rowcount

    def descendants(self, frame_id: int) -> list[int]:
        return [row[0] for row in self._run(_SUBTREE + "SELECT id FROM tree", (frame_id,))]

    def remove_all(self, frame_ids: list[int]) -> None:
        keys = [(frame_id,) for frame_id in frame_ids]
        self._many("DELETE FROM wf_frames WHERE id=?", keys)
        self._many("DELETE FROM wf_results WHERE frame_id=?", keys)

    def frames_of(self, execution_id: int) -> list[tuple[int, str]]:
        """Ids and state names, oldest first."""
        rows = self._run("SELECT id, state FROM wf_frames WHERE execution_id=? ORDER BY id", (execution_id,))
        return rows.fetchall()

    # Results of finished branches and items

    def add_result(self, frame_id: int, position: int, output: str) -> None:
        self._run("INSERT OR REPLACE INTO wf_results VALUES (?, ?, ?)", (frame_id, position, output))

    def take_results(self, frame_id: int) -> str:
        """The JSON array of all results, in order; they are removed."""
        rows = self._run("SELECT output FROM wf_results WHERE frame_id=? ORDER BY position", (frame_id,))
        text = "[" + ",".join(row[0] for row in rows) + "]"
        self.drop_results(frame_id)
        return text

    def drop_results(self, frame_id: int) -> None:
        self._run("DELETE FROM wf_results WHERE frame_id=?", (frame_id,))

    # Timers

    def due_frames(self, now: float, limit: int) -> list[int]:
        rows = self._run("SELECT id FROM wf_frames WHERE wake_at<=? ORDER BY wake_at LIMIT ?", (now, limit))
        return [row[0] for row in rows]

    def due_executions(self, now: float, limit: int) -> list[int]:
        rows = self._run(
            "SELECT id FROM wf_executions WHERE deadline<=? ORDER BY deadline LIMIT ?", (now, limit)
        )
        return [row[0] for row in rows]

    def next_wakeup(self) -> float | None:
        row = self._run(
            "SELECT (SELECT min(wake_at) FROM wf_frames WHERE wake_at IS NOT NULL), "
            "(SELECT min(deadline) FROM wf_executions WHERE deadline IS NOT NULL)"
        ).fetchone()
        moments = [moment for moment in row if moment is not None]
        return min(moments) if moments else None

    # Executions

    def claim_name(self, machine: str, name: str, now: float, forget_before: float) -> bool:
        return bool(
            self._run(
                "INSERT INTO wf_names VALUES (?, ?, ?) ON CONFLICT (machine, name) DO UPDATE "
                "SET started_at=excluded.started_at WHERE wf_names.started_at < ?",
                (machine, name, now, forget_before),
            ).rowcount
        )

    def add_execution(self, row: ExecutionRow) -> None:
        """Gives the row its id."""
        values = (None, *_EXECUTION_VALUES(row))
        marks = ", ".join("?" * len(values))
        row.id = (
            self._run(f"INSERT INTO wf_executions ({_EXECUTION}) VALUES ({marks})", values).lastrowid or 0
        )

    def execution(self, execution_id: int) -> ExecutionRow | None:
        row = self._run(_SELECT_EXECUTION + "WHERE id=?", (execution_id,)).fetchone()
        return ExecutionRow(*row) if row else None

    def children(self, frame_id: int) -> list[int]:
        """Running executions that the frame started and waits for."""
        rows = self._run(
            "SELECT id FROM wf_executions WHERE parent_frame=? AND stopped_at IS NULL", (frame_id,)
        )
        return [row[0] for row in rows]

    def finish_execution(self, row: ExecutionRow) -> None:
        self._run(
            "UPDATE wf_executions SET status=?, output=?, error=?, cause=?, stopped_at=?, deadline=NULL "
            "WHERE id=?",
            (row.status, row.output, row.error, row.cause, row.stopped_at, row.id),
        )

    def find_executions(
        self, *, name: str | None = None, machine: str | None = None, status: str | None = None, limit: int
    ) -> list[ExecutionRow]:
        """Newest first."""
        wanted = {"name": name, "machine": machine, "status": status}
        given = {key: value for key, value in wanted.items() if value is not None}
        where = "WHERE " + " AND ".join(f"{key}=?" for key in given) if given else ""
        rows = self._run(f"{_SELECT_EXECUTION} {where} ORDER BY id DESC LIMIT ?", (*given.values(), limit))
        return [ExecutionRow(*row) for row in rows]

    # Definitions: a run goes on with the text that it was started with

    def keep_definition(self, digest: str, machine: str, text: str) -> None:
        self._run("INSERT OR IGNORE INTO wf_definitions VALUES (?, ?, ?)", (digest, machine, text))

    def definition(self, digest: str) -> tuple[str, str] | None:
        row: tuple[str, str] | None = self._run(
            "SELECT machine, text FROM wf_definitions WHERE digest=?", (digest,)
        ).fetchone()
        return row

    # Retention

    def purge(self, *, finished_before: float, keep: int, forget_before: float, limit: int) -> int:
        """Remove at most ``limit`` finished executions that are too old or too many, and old names."""
        removed = self._run(
            "DELETE FROM wf_executions WHERE id IN (SELECT id FROM wf_executions "
            "WHERE stopped_at IS NOT NULL AND (stopped_at < ? OR stopped_at < "
            "(SELECT stopped_at FROM wf_executions WHERE stopped_at IS NOT NULL "
            "ORDER BY stopped_at DESC LIMIT 1 OFFSET ?)) ORDER BY stopped_at LIMIT ?)",
            (finished_before, max(keep - 1, 0), limit),
        ).rowcount
        removed += self._run(
            "DELETE FROM wf_names WHERE (machine, name) IN "
            "(SELECT machine, name FROM wf_names WHERE started_at < ? LIMIT ?)",
            (forget_before, limit),
        ).rowcount
        return removed

    def drop_unused_definitions(self, current: list[str]) -> None:
        marks = ", ".join("?" * len(current))
        self._run(
            f"DELETE FROM wf_definitions WHERE digest NOT IN ({marks}) "
            "AND digest NOT IN (SELECT digest FROM wf_executions)",
            current,
        )
