"""The head's queue on disk: what was accepted, where each job stands, and what the control plane knows."""

from __future__ import annotations

import json
import sqlite3
import threading
from typing import Iterable, List, Sequence, Set, Tuple

from .files import Json

_KEPT_ENDED = 1000


class JobTable:
    """One row per job; an accepted command is on the disk when ``accept`` returns."""

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA cache_size=-512")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS job (id INTEGER PRIMARY KEY, seq INTEGER NOT NULL,"
            " spec TEXT NOT NULL, state TEXT NOT NULL, settled INTEGER NOT NULL DEFAULT 0)"
        )
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS cursor (one INTEGER PRIMARY KEY CHECK (one = 1), after INTEGER)"
        )
        self._db.execute("INSERT OR IGNORE INTO cursor VALUES (1, 0)")

    @property
    def after(self) -> int:
        """The last command that is kept here."""
        with self._lock:
            return int(self._db.execute("SELECT after FROM cursor").fetchone()[0])

    def accept(
        self, jobs: Sequence[Tuple[int, Json, Json]], cancelled: Sequence[Tuple[int, Json]], after: int
    ) -> Set[int]:
        """Keeps (seq, spec, state) of jobs and the (id, state) of cancelled ones, surviving a power loss.

        The ids that were not known yet.
        """
        with self._lock:
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("BEGIN IMMEDIATE")
            new: Set[int] = set()
            for seq, spec, state in jobs:
                row = (int(spec["id"]), seq, _dump(spec), _dump(state))
                done = self._db.execute(
                    "INSERT OR IGNORE INTO job (id, seq, spec, state) VALUES (?, ?, ?, ?)", row
                )
                if done.rowcount:
                    new.add(row[0])
            self._db.executemany(
                "UPDATE job SET state = ? WHERE id = ?", [(_dump(s), i) for i, s in cancelled]
            )
            self._db.execute("UPDATE cursor SET after = max(after, ?)", (after,))
            self._db.execute("COMMIT")
            # What happens later can be learnt again from the ranks, so it need not wait for the disk.
            self._db.execute("PRAGMA synchronous=NORMAL")
            return new

    def save(self, states: Iterable[Tuple[int, Json, bool]]) -> None:
        """(id, state, settled); settled: ended and known to the control plane."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "UPDATE job SET state = ?, settled = ? WHERE id = ?",
                [(_dump(state), int(settled), job) for job, state, settled in states],
            )
            self._db.execute("COMMIT")

    def load(self) -> List[Tuple[int, Json, Json]]:
        """(seq, spec, state) of every job that is not settled, in order; forgets the oldest settled ones."""
        with self._lock:
            self._db.execute(
                "DELETE FROM job WHERE settled = 1 AND id NOT IN"
                " (SELECT id FROM job WHERE settled = 1 ORDER BY seq DESC LIMIT ?)",
                (_KEPT_ENDED,),
            )
            rows = self._db.execute(
                "SELECT seq, spec, state FROM job WHERE settled = 0 ORDER BY seq, id"
            ).fetchall()
        return [(seq, json.loads(spec), json.loads(state)) for seq, spec, state in rows]

    def close(self) -> None:
        with self._lock:
            self._db.close()


def _dump(value: Json) -> str:
    return json.dumps(value, separators=(",", ":"))
