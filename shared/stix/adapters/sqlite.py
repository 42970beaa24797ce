"""The state store of the embedded runtime: one table in the shared SQLite file."""

from __future__ import annotations

import builtins
import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence

from pydantic_core import from_json

from stix.adapters.item_codec import (
    check_index,
    check_keys,
    check_limit,
    check_parts,
    check_writes,
    list_bounds,
    list_sort_key,
    written_form,
)
from stix.adapters.sqlite_database import SqliteDatabase
from stix.ports.state_store import (
    SHARDS,
    Check,
    Delete,
    DueItem,
    Item,
    Key,
    Page,
    Put,
    VersionConflictError,
    Write,
)

__all__ = ["SqliteStateStore"]

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS items (
        workspace TEXT NOT NULL, kind TEXT NOT NULL, parent TEXT NOT NULL, id TEXT NOT NULL,
        version INTEGER NOT NULL, status TEXT NOT NULL, live INTEGER NOT NULL, due_at REAL,
        listed INTEGER NOT NULL, created_at REAL NOT NULL, expires_at REAL, schema_version INTEGER NOT NULL,
        body TEXT NOT NULL, shard INTEGER NOT NULL, list_sk TEXT,
        UNIQUE (workspace, kind, parent, id))""",
    "CREATE INDEX IF NOT EXISTS items_due ON items (kind, shard, due_at) WHERE live",
    "CREATE INDEX IF NOT EXISTS items_list ON items (workspace, kind, list_sk) WHERE list_sk IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS items_expiry ON items (expires_at) WHERE expires_at IS NOT NULL",
)
_COLUMNS = (
    "workspace, kind, parent, id, version, status, live, due_at, listed, created_at, expires_at, "
    "schema_version, body"
)
_IS_KEY = "workspace = ? AND kind = ? AND parent = ? AND id = ?"
_UNEXPIRED = "(expires_at IS NULL OR expires_at > ?)"
_UPSERT = f"""INSERT INTO items ({_COLUMNS}, shard, list_sk) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)
    ON CONFLICT (workspace, kind, parent, id) DO UPDATE SET
        version = excluded.version, status = excluded.status, live = excluded.live, due_at = excluded.due_at,
        listed = excluded.listed, created_at = excluded.created_at, expires_at = excluded.expires_at,
        schema_version = excluded.schema_version, body = excluded.body, list_sk = excluded.list_sk"""


class SqliteStateStore:
    """``StateStore`` over a ``SqliteDatabase``, or over the file at a path. Its indexes never lag.

    Safe from many threads and processes. ``ValueError`` for items and arguments that break the port's limits.
    """

    def __init__(
        self, database: SqliteDatabase | str | os.PathLike[str], *, clock: Callable[[], float] = time.time
    ):
        self._database = database if isinstance(database, SqliteDatabase) else SqliteDatabase(database)
        self._clock = clock
        with self._database.write() as connection:
            for statement in _SCHEMA:
                connection.execute(statement)

    def get(self, key: Key) -> Item | None:
        return self.get_many([key])[0]

    def get_many(self, keys: Sequence[Key]) -> list[Item | None]:
        check_keys(keys)
        if not keys:
            return []
        # One statement for all of them; in this order, or SQLite would rather read the whole table.
        wanted = ",".join(["(?,?,?,?)"] * len(keys))
        query = (
            f"WITH wanted AS (VALUES {wanted}) SELECT {_COLUMNS} FROM wanted CROSS JOIN items"
            " ON workspace = column1 AND kind = column2 AND parent = column3 AND id = column4"
            f" WHERE {_UNEXPIRED}"
        )
        values = [part for key in keys for part in _values(key)]
        with self._database.read() as connection:
            rows = connection.execute(query, (*values, self._clock())).fetchall()
        found = {item.key: item for item in map(_item, rows)}
        return [found.get(key) for key in keys]

    def put(self, item: Item, *, unconditional: bool = False) -> Item:
        return self.transact([Put(item, unconditional)])[0]

    def delete(self, key: Key, *, version: int | None = None) -> None:
        self.transact([Delete(key, version)])

    def transact(self, writes: Sequence[Write]) -> builtins.list[Item]:
        bodies = check_writes(writes)
        if not writes:
            return []
        now = self._clock()

        def work(connection: sqlite3.Connection) -> builtins.list[Item]:
            failed = [key for key in (_conflict(connection, write, now) for write in writes) if key]
            if failed:
                raise VersionConflictError(failed)
            return [item for item in (_apply(connection, write, bodies) for write in writes) if item]

        return self._database.write_together(work)

    def children(
        self,
        workspace: str,
        kind: str,
        parent: str,
        *,
        after: str | None = None,
        limit: int = 100,
        newest_first: bool = False,
    ) -> Page:
        check_parts(workspace=workspace, kind=kind, parent=parent)
        check_limit(limit)
        where, values = (
            f"workspace = ? AND kind = ? AND parent = ? AND {_UNEXPIRED}",
            (workspace, kind, parent),
        )
        beyond, order = ("<", "DESC") if newest_first else (">", "ASC")
        cursor = () if after is None else (after,)
        if after is not None:
            check_parts(after=after)
            where += f" AND id {beyond} ?"
        items = self._select(
            f"{where} ORDER BY id {order} LIMIT ?", (*values, self._clock(), *cursor, limit + 1)
        )
        return Page(tuple(items[:limit]), items[limit - 1].key.id if len(items) > limit else None)

    def list(
        self,
        workspace: str,
        kind: str,
        *,
        live: bool | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page:
        check_parts(workspace=workspace, kind=kind)
        check_limit(limit)
        items = self._select(
            f"workspace = ? AND kind = ? AND list_sk BETWEEN ? AND ? AND {_UNEXPIRED} "
            "ORDER BY list_sk LIMIT ?",
            (workspace, kind, *list_bounds(live, after), self._clock(), limit + 1),
        )
        return Page(tuple(items[:limit]), list_sort_key(items[limit - 1]) if len(items) > limit else None)

    def due(self, kind: str, shard: int, before: float, *, limit: int = 100) -> builtins.list[DueItem]:
        check_index(kind, shard, before, limit, SHARDS)
        query = (
            "SELECT workspace, parent, id, due_at FROM items WHERE live AND kind = ? AND shard = ? "
            f"AND due_at <= ? AND {_UNEXPIRED} ORDER BY due_at LIMIT ?"
        )
        with self._database.read() as connection:
            rows = connection.execute(query, (kind, shard, before, self._clock(), limit)).fetchall()
        return [DueItem(Key(workspace, kind, parent, id), due_at) for workspace, parent, id, due_at in rows]

    def purge(self, limit: int = 100) -> int:
        """Drop at most ``limit`` expired items; returns how many. What a TTL does, called by a schedule."""
        check_limit(limit)
        expired = "SELECT rowid FROM items WHERE expires_at <= ? ORDER BY expires_at LIMIT ?"
        now = self._clock()
        with self._database.read() as connection:
            if connection.execute(expired, (now, 1)).fetchone() is None:
                return 0
        with self._database.write() as connection:
            return connection.execute(f"DELETE FROM items WHERE rowid IN ({expired})", (now, limit)).rowcount

    def close(self) -> None:
        """Close the file. Call it when no thread uses the store any more."""
        self._database.close()

    def _select(self, condition: str, values: tuple[object, ...]) -> builtins.list[Item]:
        with self._database.read() as connection:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM items WHERE {condition}", values).fetchall()
        return [_item(row) for row in rows]


def _conflict(connection: sqlite3.Connection, write: Write, now: float) -> Key | None:
    """The write's key if its condition does not hold."""
    match write:
        case Put(item, unconditional):
            key, expected = item.key, None if unconditional else item.version
        case Delete(key, version) | Check(key, version):
            expected = version
    if expected is None:
        return None
    query = f"SELECT version FROM items WHERE {_IS_KEY} AND {_UNEXPIRED}"
    row = connection.execute(query, (*_values(key), now)).fetchone()
    return None if expected == (row[0] if row else 0) else key


def _apply(connection: sqlite3.Connection, write: Write, bodies: Mapping[Key, str]) -> Item | None:
    match write:
        case Put(item, unconditional):
            version = item.version
            if unconditional:
                # Counting on from what is stored: a version that someone has read must not come again.
                query = f"SELECT version FROM items WHERE {_IS_KEY}"
                row = connection.execute(query, _values(item.key)).fetchone()
                version = row[0] if row else 0
            written = written_form(item, version + 1)
            connection.execute(_UPSERT, _row(written, bodies[item.key]))
            return written
        case Delete(key):
            connection.execute(f"DELETE FROM items WHERE {_IS_KEY}", _values(key))
        case Check():
            pass
    return None


def _values(key: Key) -> tuple[str, str, str, str]:
    return key.workspace, key.kind, key.parent, key.id


def _row(item: Item, body: str) -> tuple[object, ...]:
    return (
        *_values(item.key),
        item.version,
        item.status,
        item.live,
        item.due_at,
        item.listed,
        item.created_at,
        item.expires_at,
        item.schema_version,
        body,
        item.key.shard,
        list_sort_key(item) if item.listed else None,
    )


def _item(
    row: tuple[str, str, str, str, int, str, int, float | None, int, float, float | None, int, str],
) -> Item:
    workspace, kind, parent, id, version, status, live, due_at, listed, created, expires, schema, body = row
    return Item(
        key=Key(workspace, kind, parent, id),
        body=from_json(body),  # twice as fast as json's
        version=version,
        status=status,
        live=bool(live),
        due_at=due_at,
        listed=bool(listed),
        created_at=created,
        expires_at=expires,
        schema_version=schema,
    )
