"""The embedded state file: whose it is, who may write, and what a person reads when it is broken."""

from __future__ import annotations

import gc
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from stix.adapters import sqlite_database
from stix.adapters.sqlite import SqliteStateStore
from stix.adapters.sqlite_database import APPLICATION_ID, CACHE_KIB, SCHEMA_VERSION, SqliteDatabase
from stix.model.errors import UnavailableError
from stix.ports.state_store import Item, Key, StoreCorruptError

KEY = Key.top("team", "cluster", "train")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "home" / "state.db"


@pytest.fixture
def database(path):
    opened = SqliteDatabase(path)
    yield opened
    opened.close()


def test_file_is_durable_private_and_ours_when_made(database, path, monkeypatch):
    monkeypatch.setattr(SqliteDatabase, "_open", SqliteDatabase._open.__wrapped__)
    connection = database.connection()
    values = [
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "application_id", "user_version")
    ]
    assert values == ["wal", 2, APPLICATION_ID, SCHEMA_VERSION]
    assert connection.isolation_level is None
    with database.write() as connection:
        connection.execute("CREATE TABLE t (x)")
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_every_threads_connection_keeps_few_pages_when_opened(database):
    kept = []

    def look():
        kept.append(database.connection().execute("PRAGMA cache_size").fetchone()[0])

    look()
    other = threading.Thread(target=look)
    other.start()
    other.join()
    assert kept == [-CACHE_KIB, -CACHE_KIB]


def test_items_are_there_when_the_file_is_opened_again(path):
    first = SqliteStateStore(path)
    written = first.put(Item(KEY, {"n": 1}))
    first.close()
    second = SqliteStateStore(path)
    assert second.get(KEY) == written
    second.close()


def test_file_is_named_with_the_fix_when_it_is_no_database(path):
    path.parent.mkdir()
    path.write_bytes(b"this is not a database at all" * 100)
    with pytest.raises(StoreCorruptError, match="Move it aside") as error:
        SqliteStateStore(path)
    assert str(path) in str(error.value)
    assert "stix api start" in str(error.value)
    assert path.read_bytes().startswith(b"this is not")


def test_file_is_named_with_the_fix_when_pages_are_damaged(path):
    store = SqliteStateStore(path)
    for n in range(200):
        store.put(Item(Key.top("team", "cluster", f"c{n}"), {"x": "x" * 500}))
    store.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    damaged = SqliteDatabase(path)
    with pytest.raises(StoreCorruptError, match="-wal and -shm") as error:
        SqliteStateStore(damaged).get(Key.top("team", "cluster", "c7"))
    assert str(path) in str(error.value)
    damaged.close()


def test_file_is_left_alone_when_it_is_another_programs(path):
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreCorruptError, match="another program"):
        SqliteStateStore(path)
    assert path.read_bytes() == before


def test_file_is_left_alone_when_it_is_newer(path):
    SqliteStateStore(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(StoreCorruptError, match=f"format {SCHEMA_VERSION + 1}.*Upgrade stix"):
        SqliteStateStore(path)


def test_path_is_named_when_it_cannot_be_opened(tmp_path):
    with pytest.raises(UnavailableError, match=str(tmp_path)):
        SqliteStateStore(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UnavailableError, match="cannot be opened"):
        SqliteStateStore(tmp_path / "file" / "state.db")


def test_transaction_is_rolled_back_when_its_block_raises(database):
    with database.write() as connection:
        connection.execute("CREATE TABLE t (x)")
    with suppress(KeyError), database.write() as connection:
        connection.execute("INSERT INTO t VALUES (1)")
        raise KeyError
    with database.write() as connection:
        connection.execute("INSERT INTO t VALUES (2)")
    with database.read() as connection:
        assert connection.execute("SELECT x FROM t").fetchall() == [(2,)]


def test_transaction_is_refused_when_nested(database):
    with database.write() as connection:
        connection.execute("CREATE TABLE t (x)")
        with pytest.raises(RuntimeError, match="nest"), database.write():
            pass
        connection.execute("INSERT INTO t VALUES (1)")
    assert database.connection().execute("SELECT count(*) FROM t").fetchone() == (1,)


def test_wrong_statement_stays_an_error_of_the_program(database):
    with pytest.raises(sqlite3.OperationalError, match="no such table"), database.read() as connection:
        connection.execute("SELECT * FROM absent")


def test_writer_is_told_when_another_process_holds_the_file(database, path, monkeypatch):
    monkeypatch.setattr(sqlite_database, "BUSY_SECONDS", 0.05)
    with database.write() as connection:
        connection.execute("CREATE TABLE t (x)")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    late = SqliteDatabase(path)
    with pytest.raises(UnavailableError, match="locked") as error, late.write():
        pass
    assert str(path) in str(error.value)
    other.execute("ROLLBACK")
    other.close()
    with late.write() as connection:
        connection.execute("INSERT INTO t VALUES (1)")
    late.close()


def test_writer_is_told_when_another_thread_holds_the_file(database, monkeypatch):
    monkeypatch.setattr(sqlite_database, "BUSY_SECONDS", 0.05)
    errors = []

    def write() -> None:
        try:
            with database.write():
                pass
        except UnavailableError as exc:
            errors.append(str(exc))

    with database.write():
        thread = threading.Thread(target=write)
        thread.start()
        thread.join(30)
    assert len(errors) == 1
    assert "busy" in errors[0]


def test_connections_do_not_pile_up_when_threads_come_and_go(database, path):
    database.connection()
    for _ in range(30):
        thread = threading.Thread(target=database.connection)
        thread.start()
        thread.join()
    gc.collect()
    assert len(database._handles) == 1
    open_files = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_open(fd)]
    assert open_files.count(str(path)) <= 2


def _is_open(descriptor: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{descriptor}")


def test_every_thread_has_its_own_connection(database):
    seen = [database.connection(), database.connection()]
    thread = threading.Thread(target=lambda: seen.append(database.connection()))
    thread.start()
    thread.join()
    assert seen[0] is seen[1]
    assert seen[2] is not seen[0]


CHILD = """
import sys
from stix.adapters.sqlite import SqliteStateStore
from stix.ports.state_store import Item, Key, VersionConflictError
store = SqliteStateStore(sys.argv[1])
key, done = Key.top("team", "counter", "n"), 0
while done < 40:
    read = store.get(key) or Item(key, {"n": 0})
    try:
        store.put(read.changed(body={"n": read.body["n"] + 1}))
        done += 1
    except VersionConflictError:
        pass
store.close()
"""


def test_counter_loses_nothing_when_processes_make_and_write_one_file(path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    children = [subprocess.Popen([sys.executable, "-c", CHILD, str(path)], env=environment) for _ in range(4)]
    assert [child.wait(120) for child in children] == [0] * 4
    store = SqliteStateStore(path)
    assert store.get(Key.top("team", "counter", "n")).body == {"n": 160}
    store.close()


def test_forked_child_has_its_own_connection(path):
    store = SqliteStateStore(path)
    store.put(Item(KEY, {"n": 0}))
    child = os.fork()
    if child == 0:
        try:
            store.put(store.get(KEY).changed(body={"n": 1}))
            os._exit(0)
        finally:
            os._exit(1)
    deadline = time.monotonic() + 60
    assert os.waitpid(child, 0)[1] == 0
    assert time.monotonic() < deadline
    moved = store.put(store.get(KEY).changed(body={"n": 2}))
    assert moved.version == 3
    store.close()


def test_expired_items_are_purged_a_bounded_number_at_a_time(path):
    now = [1_000.0]
    store = SqliteStateStore(path, clock=lambda: now[0])
    for n in range(7):
        store.put(Item(Key.top("team", "operation", str(n)), expires_at=1_010.0 + n))
    kept = store.put(Item(KEY))
    assert store.purge() == 0
    now[0] = 1_014.0
    assert [store.purge(limit=3), store.purge(limit=3), store.purge(limit=3)] == [3, 2, 0]
    database = SqliteDatabase(path)
    with database.read() as connection:
        rows = connection.execute("SELECT id FROM items ORDER BY id").fetchall()
    assert rows == [("5",), ("6",), (kept.key.id,)]
    database.close()
    store.close()


def test_reads_use_an_index_when_the_table_is_large(path):
    """Query plans, not times: a list or a sweep that reads the whole table is a defect."""
    database = SqliteDatabase(path)
    store = SqliteStateStore(database)
    statements: list[str] = []
    database.connection().set_trace_callback(statements.append)
    store.get(KEY)
    store.get_many([KEY, Key.top("team", "cluster", "other")])
    store.children("team", "node", "train", after="1")
    store.list("team", "cluster", live=True)
    store.due("cluster", 3, 5.0)
    store.purge()
    database.connection().set_trace_callback(None)
    reads = [statement for statement in statements if statement.startswith(("SELECT", "WITH"))]
    assert len(reads) == 6
    for statement in reads:
        plan = " ".join(row[3] for row in database.connection().execute(f"EXPLAIN QUERY PLAN {statement}"))
        assert "SCAN items" not in plan, (statement, plan)
        assert "TEMP B-TREE" not in plan, (statement, plan)
    store.close()
