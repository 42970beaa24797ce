"""The state store in plain dictionaries: what the suites compare the real ones with."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from typing import Any

from stix.ports.state_store import Check, Delete, DueItem, Item, Key, Page, Put, VersionConflictError


class ModelStateStore:
    """A ``StateStore`` written for obviousness. Its list cursor is a position in the order."""

    def __init__(self, clock: Callable[[], float]):
        self.items: dict[Key, Item] = {}
        self.clock = clock

    def get(self, key: Key) -> Item | None:
        item = self.items.get(key)
        return item if item and (item.expires_at is None or item.expires_at > self.clock()) else None

    def get_many(self, keys: list[Key]) -> list[Item | None]:
        return [self.get(key) for key in keys]

    def put(self, item: Item, *, unconditional: bool = False) -> Item:
        return self.transact([Put(item, unconditional)])[0]

    def delete(self, key: Key, *, version: int | None = None) -> None:
        self.transact([Delete(key, version)])

    def transact(self, writes: list[Any]) -> list[Item]:
        failed = []
        for write in writes:
            key, expected = _condition(write)
            stored = self.get(key)
            if expected is not None and expected != (stored.version if stored else 0):
                failed.append(key)
        if failed:
            raise VersionConflictError(failed)
        written = []
        for write in writes:
            if isinstance(write, Put):
                version = write.item.version
                if write.unconditional:
                    version = self.items[write.item.key].version if write.item.key in self.items else 0
                expires_at = write.item.expires_at
                item = write.item.changed(
                    version=version + 1,
                    body=json.loads(json.dumps(write.item.body)),
                    expires_at=None if expires_at is None else math.ceil(expires_at),
                )
                self.items[item.key] = item
                written.append(item)
            elif isinstance(write, Delete):
                self.items.pop(write.key, None)
        return written

    def children(self, workspace, kind, parent, *, after=None, limit=100, newest_first=False) -> Page:
        items = [
            item
            for key in sorted(self.items, key=lambda key: key.id, reverse=newest_first)
            if (key.workspace, key.kind, key.parent) == (workspace, kind, parent) and (item := self.get(key))
        ]
        if after is not None:
            items = [item for item in items if (item.key.id < after if newest_first else item.key.id > after)]
        return Page(tuple(items[:limit]), items[limit - 1].key.id if len(items) > limit else None)

    def list(self, workspace, kind, *, live=None, after=None, limit=100) -> Page:
        def place(item: Item) -> tuple[Any, ...]:
            return not item.live, -round(item.created_at * 1e6), item.key.id, item.key.parent

        items = sorted(
            (
                item
                for key in self.items
                if (key.workspace, key.kind) == (workspace, kind)
                and (item := self.get(key))
                and item.listed
                and live in (None, item.live)
            ),
            key=place,
        )
        if after is not None:
            items = [item for item in items if repr(place(item)) not in after.split("\n")]
        page = items[:limit]
        seen = "\n".join(filter(None, [after, *(repr(place(item)) for item in page)]))
        return Page(tuple(page), seen if len(items) > limit else None)

    def due(self, kind, shard, before, *, limit=100) -> list[DueItem]:
        entries = [
            DueItem(key, item.due_at)
            for key in self.items
            if key.kind == kind
            and key.shard == shard
            and (item := self.get(key))
            and item.live
            and item.due_at <= before
        ]
        return sorted(entries, key=lambda entry: entry.due_at)[:limit]


class LaggingIndexes:
    """A store whose ``list`` and ``due`` know nothing since the last ``catch_up``, as a global secondary
    index may; everything else answers at once."""

    def __init__(self, store: Any, clock: Callable[[], float]):
        self._store = store
        self._now = ModelStateStore(clock)
        self._index = ModelStateStore(clock)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put(self, item: Item, *, unconditional: bool = False) -> Item:
        written = self._store.put(item, unconditional=unconditional)
        self._now.items[written.key] = written
        return written

    def delete(self, key: Key, *, version: int | None = None) -> None:
        self._store.delete(key, version=version)
        self._now.items.pop(key, None)

    def transact(self, writes: list[Any]) -> list[Item]:
        written = self._store.transact(writes)
        self._now.items.update({item.key: item for item in written})
        for write in writes:
            if isinstance(write, Delete):
                self._now.items.pop(write.key, None)
        return written

    def catch_up(self) -> None:
        self._index.items = copy.copy(self._now.items)

    def list(self, *args: Any, **kwargs: Any) -> Page:
        return self._index.list(*args, **kwargs)

    def due(self, *args: Any, **kwargs: Any) -> list[DueItem]:
        return self._index.due(*args, **kwargs)


def _condition(write: Any) -> tuple[Key, int | None]:
    match write:
        case Put(item, unconditional):
            return item.key, None if unconditional else item.version
        case Delete(key, version) | Check(key, version):
            return key, version
    raise TypeError(write)
