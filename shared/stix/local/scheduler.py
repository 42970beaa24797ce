"""Runs the list of schedules: due times are rows, one thread waits for the earliest."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stix.adapters.sqlite_database import SqliteDatabase
from stix.model.errors import UnavailableError
from stix.ports.surroundings import Clock

__all__ = ["Recurring", "Scheduler"]

logger = logging.getLogger(__name__)

_LONGEST_WAIT = 300.0
"""Seconds. A laptop's sleep stops the timer's clock but not the wall clock: look again now and then."""

_RETRY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Recurring:
    """``run`` is called every ``every_seconds``; it must return at once and hand slow work to a pool."""

    name: str
    every_seconds: float
    run: Callable[[], None]


class Scheduler:
    """Fires what is due, at least once each time.

    Due times survive a restart; whatever fell due while nothing ran is fired once, however often it was
    missed. A new name is due at once. After the clock was set back nothing waits longer than its interval.
    """

    def __init__(self, database: SqliteDatabase, clock: Clock, recurring: Sequence[Recurring]):
        self._database = database
        self._clock = clock
        self._recurring = {entry.name: entry for entry in recurring}
        self._condition = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None
        with database.write() as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS schedules (name TEXT PRIMARY KEY, due_at REAL NOT NULL) STRICT"
            )

    def start(self) -> None:
        self._thread = threading.Thread(target=self._loop, name="scheduler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Fire nothing more; idempotent."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        if self._thread is not None:
            self._thread.join()

    def fire_due(self) -> float:
        """Fire everything that is due now; seconds until the next. Raises ``UnavailableError``."""
        now = self._clock.now()
        due_times = self._due_times(now)
        fired = {name: now for name, due_at in due_times.items() if due_at <= now}
        for name in fired:
            self._recurring[name].run()
        if fired:
            # After firing: a kill in between fires once more, never once less.
            with self._database.write() as connection:
                for name in fired:
                    due_times[name] = self._following(name, due_times[name], now)
                    connection.execute(
                        "INSERT INTO schedules VALUES (?, ?) "
                        "ON CONFLICT (name) DO UPDATE SET due_at = excluded.due_at",
                        (name, due_times[name]),
                    )
        return min(due_times.values(), default=now + _LONGEST_WAIT) - now

    def _due_times(self, now: float) -> dict[str, float]:
        with self._database.read() as connection:
            rows = dict(connection.execute("SELECT name, due_at FROM schedules").fetchall())
        return {
            name: min(rows.get(name, now), now + entry.every_seconds)
            for name, entry in self._recurring.items()
        }

    def _following(self, name: str, due_at: float, now: float) -> float:
        """The next multiple of the interval after ``now``, so that the beat does not drift."""
        every = self._recurring[name].every_seconds
        return due_at + every * (int((now - due_at) // every) + 1)

    def _loop(self) -> None:
        while True:
            try:
                seconds = self.fire_due()
            except UnavailableError:
                logger.exception("the schedules cannot be read or written now")
                seconds = _RETRY_SECONDS
            with self._condition:
                if self._stopping:
                    return
                self._condition.wait(min(max(seconds, 0.0), _LONGEST_WAIT))
                if self._stopping:
                    return
