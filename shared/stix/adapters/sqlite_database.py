"""The embedded runtime's one SQLite file, shared by everything that keeps tables in it."""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from stix.adapters.group_commit import GroupCommit, Work
from stix.model.errors import UnavailableError
from stix.ports.state_store import StoreCorruptError

__all__ = ["APPLICATION_ID", "BUSY_SECONDS", "CACHE_KIB", "SCHEMA_VERSION", "SqliteDatabase"]

APPLICATION_ID = 0x53746978
"""SQLite's ``application_id`` of our files: "Stix" in ASCII."""

SCHEMA_VERSION = 1
"""``user_version`` of the file: all tables together. A file with a newer one is refused."""

BUSY_SECONDS = 8.0
"""How long a write waits for its turn; below the ten seconds that any request may take."""

CACHE_KIB = 256
"""Pages that each thread's connection keeps. SQLite's own 2 MiB, times the threads, would be most of the
server's memory once the file has grown; the system's page cache holds the same pages for all of them."""

_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_UNAVAILABLE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)
_OPEN_ATTEMPTS = 20

T = TypeVar("T")


class SqliteDatabase:
    """One SQLite file in WAL mode: a connection per thread, one writer at a time.

    A commit is durable (``synchronous=FULL``, one fsync of the log). Safe from many threads and from several
    processes. Errors of ``read`` and ``write`` are translated: ``StoreCorruptError`` for a damaged, foreign
    or newer file, ``UnavailableError`` for a file that is locked, full or not accessible; anything else
    (a constraint, a wrong statement) stays sqlite3's.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self._local = threading.local()
        self._opening = threading.Lock()
        self._writing = threading.Lock()
        self._group = GroupCommit(self._commit_together)
        self._prepared = False
        self._handles: weakref.WeakSet[_Handle] = weakref.WeakSet()
        self._inherited: list[_Handle] = []

    def connection(self) -> sqlite3.Connection:
        """The calling thread's connection in autocommit mode; closed when the thread or the database is
        dropped."""
        handle: _Handle | None = getattr(self._local, "handle", None)
        if handle is not None and handle.pid == os.getpid():
            return handle.connection
        with self._opening:
            if handle is not None:
                # After a fork SQLite forbids using, and even closing, the parent's connections.
                self._inherited.extend(self._handles)
                self._handles = weakref.WeakSet()
                self._group = GroupCommit(self._commit_together)
            with self._translated():
                self._local.handle = opened = _Handle(self._open())
            self._handles.add(opened)
        return opened.connection

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """The thread's connection, with errors translated. Every statement sees its own snapshot."""
        connection = self.connection()
        with self._translated():
            yield connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction that holds the write lock from its beginning; committed and durable at the end of
        the block, rolled back by any exception. Does not nest."""
        connection = self._connection_to_write()
        # Threads queue here in fair order; SQLite's own waiting is polling and can starve one of them.
        if not self._writing.acquire(timeout=BUSY_SECONDS):
            raise UnavailableError(f"The state file {self.path} has been busy for {BUSY_SECONDS:g} seconds.")
        try:
            with self._translated(), _transaction(connection, "IMMEDIATE"):
                yield connection
        finally:
            self._writing.release()

    def write_together(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What ``work`` returns, once it is durable: group commit.

        The works that wait while another commit is under way share one transaction, and so one fsync. Each
        has a savepoint of its own, so that one that raises undoes itself alone; where the commit fails, it
        fails for all. ``work`` may run in another thread and must only use the connection that it is given.
        """
        self._connection_to_write()
        with self._translated():
            return self._group.do(work)

    def _connection_to_write(self) -> sqlite3.Connection:
        connection = self.connection()
        if connection.in_transaction:
            raise RuntimeError("writes do not nest: this thread already has a transaction open")
        return connection

    def _commit_together(self, works: Sequence[Work[sqlite3.Connection]]) -> None:
        """Raises only where the whole transaction is lost."""
        with self.write() as connection:
            if len(works) == 1:
                works[0].result = works[0].do(connection)  # the transaction is its own
                return
            for work in works:
                connection.execute("SAVEPOINT work")
                try:
                    work.result = work.do(connection)
                except Exception as exc:
                    if not connection.in_transaction:
                        raise  # SQLite itself has rolled everything back: no space, for example
                    connection.execute("ROLLBACK TO work")
                    work.error = exc
                connection.execute("RELEASE work")

    def close(self) -> None:
        """Close the connections of all threads. Call it when no thread uses the database any more."""
        with self._opening:
            for handle in list(self._handles):
                handle.close()
            self._handles = weakref.WeakSet()
            self._local = threading.local()

    def _open(self) -> sqlite3.Connection:
        if not self._prepared:
            self._create_file()
        connection = sqlite3.connect(
            self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            if not self._prepared:
                self._prepare(connection)
                self._prepared = True
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _create_file(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # For its owner only from the first moment; SQLite gives the -wal and -shm files the same mode.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as exc:
            raise UnavailableError(
                f"The state file {self.path} cannot be opened: {exc.strerror or exc}.",
                hint="Make it a file that you may read and write, or choose another folder.",
            ) from exc

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Refuse files that are not ours before anything is written, then switch to WAL and claim ours."""
        with _transaction(connection, "DEFERRED"):
            self._refuse_unknown(connection)
        for attempt in range(_OPEN_ATTEMPTS):
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as exc:
                # Two processes that open a new file: SQLite reports "locked" at once here, without waiting.
                # An empty transaction waits for the other's end.
                if _primary_code(exc) != sqlite3.SQLITE_BUSY or attempt == _OPEN_ATTEMPTS - 1:
                    raise
                with _transaction(connection, "IMMEDIATE"):
                    continue
        if _pragma(connection, "user_version") == SCHEMA_VERSION:
            return
        with _transaction(connection, "IMMEDIATE"):
            self._refuse_unknown(connection)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _refuse_unknown(self, connection: sqlite3.Connection) -> None:
        application = _pragma(connection, "application_id")
        version = _pragma(connection, "user_version")
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if application == APPLICATION_ID:
            if version > SCHEMA_VERSION:
                raise StoreCorruptError(
                    f"The state file {self.path} has format {version}, written by a newer stix; this one "
                    f"knows formats up to {SCHEMA_VERSION}. Upgrade stix, or choose another folder."
                )
        elif application != 0 or tables:
            raise StoreCorruptError(
                f"The file {self.path} is a database of another program, not a state file of stix. "
                "Move it aside or choose another folder; `stix api start` makes a new state file."
            )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as exc:
            code = _primary_code(exc)
            if code in _CORRUPT:
                raise StoreCorruptError(
                    f"The state file {self.path} cannot be read ({exc}). Move it aside, together with its "
                    "-wal and -shm files; `stix api start` makes a new one. Machines that the old one knew "
                    "end by themselves within about ten minutes."
                ) from exc
            if code in _UNAVAILABLE:
                raise UnavailableError(
                    f"The state file {self.path} cannot be used now: {exc}.",
                    hint="Check that the disk has space, the file is yours, and nothing else locks it.",
                ) from exc
            raise


class _Handle:
    """Closes a connection when its thread's storage is dropped."""

    def __init__(self, connection: sqlite3.Connection):
        self.connection = connection
        self.pid = os.getpid()

    def close(self) -> None:
        self.connection.close()

    def __del__(self) -> None:
        if self.pid == os.getpid():
            self.close()


@contextmanager
def _transaction(connection: sqlite3.Connection, mode: str) -> Iterator[None]:
    connection.execute(f"BEGIN {mode}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _primary_code(exc: sqlite3.Error) -> int:
    """The primary result code; the higher bits are SQLite's details. 0 for errors of the module itself."""
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF
