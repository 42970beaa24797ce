"""The table: where every cluster, node, job and operation is one versioned item."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias

__all__ = [
    "NOT_IN_PART",
    "SHARDS",
    "Check",
    "Delete",
    "DueItem",
    "Item",
    "Key",
    "Page",
    "Put",
    "StateStore",
    "StoreCorruptError",
    "UnscheduledItemError",
    "VersionConflictError",
    "Write",
]

NOT_IN_PART = re.compile("[#\0-\x1f]")
"""What no part of a key may hold."""
SHARDS = 16
"""Partitions of the ``due`` index per kind."""


class VersionConflictError(Exception):
    """Somebody else moved the item since it was read: drop the decision, read again.

    ``keys`` names the items whose condition failed.
    """

    def __init__(self, keys: Sequence[Key]):
        super().__init__(", ".join(str(key) for key in keys))
        self.keys = tuple(keys)


class UnscheduledItemError(Exception):
    """A live item was written without ``due_at``: nobody would ever look at it again."""


class StoreCorruptError(Exception):
    """The store's own file cannot be read; the message names it and the way out."""


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Identity of an item. ``parent`` groups children (nodes and jobs of a cluster) for one strongly
    consistent query; a top-level thing is its own parent."""

    workspace: str
    kind: str
    parent: str
    id: str

    @classmethod
    def top(cls, workspace: str, kind: str, id: str) -> Key:
        return cls(workspace, kind, id, id)

    @property
    def shard(self) -> int:
        """Shard of the ``due`` index, from the ids alone (stable over processes and releases)."""
        return zlib.crc32(f"{self.workspace}\0{self.parent}\0{self.id}".encode()) % SHARDS

    def __str__(self) -> str:
        tail = self.id if self.id == self.parent else f"{self.parent}/{self.id}"
        return f"{self.workspace}/{self.kind}/{tail}"


@dataclass(frozen=True, slots=True)
class Item:
    """One item as read, or about to be written.

    Attributes:
        body: JSON values only. At most 350 KB serialised: documents belong in the object store.
        version: the version that was read; 0 means that the item must not exist yet.
        status: shown to people; the store does not interpret it.
        live: True while somebody must still look at it; then ``due_at`` is required.
        due_at: epoch seconds by which someone must look at it again.
        listed: whether it appears in the ``list`` index (newest first within live, then done).
        created_at: epoch seconds; orders the ``list`` index.
        expires_at: epoch seconds after which the store may drop it (reads already treat it as absent).
        schema_version: shape of ``body``; items with a newer one than the reader knows are left alone.
    """

    key: Key
    body: Mapping[str, Any] = field(default_factory=dict)
    version: int = 0
    status: str = ""
    live: bool = False
    due_at: float | None = None
    listed: bool = False
    created_at: float = 0.0
    expires_at: float | None = None
    schema_version: int = 1

    def __post_init__(self) -> None:
        if self.live and self.due_at is None:
            raise UnscheduledItemError(f"{self.key} is {self.status or 'live'} but has no due_at")

    def changed(self, **changes: Any) -> Item:
        """A copy with some attributes replaced; ``version`` stays, so that a put is conditional on it."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Put:
    """Write ``item`` if the stored version equals ``item.version`` (0: absent).

    ``unconditional`` writes whatever is stored; only for heartbeats and the outcomes of effects.
    """

    item: Item
    unconditional: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete ``key``; with ``version`` only if the stored version equals it. An absent item is success
    when ``version`` is None."""

    key: Key
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """Fail the transaction unless the stored version of ``key`` equals ``version`` (0: absent)."""

    key: Key
    version: int


Write: TypeAlias = Put | Delete | Check


@dataclass(frozen=True, slots=True)
class DueItem:
    """An entry of the ``due`` index: keys only, so that a heartbeat never touches the index."""

    key: Key
    due_at: float


@dataclass(frozen=True, slots=True)
class Page:
    """At most ``limit`` items; ``next`` is an opaque cursor, None on the last page."""

    items: tuple[Item, ...]
    next: str | None = None


class StateStore(Protocol):
    """Versioned items with conditional writes.

    ``get``, ``get_many`` and ``children`` are strongly consistent; ``list`` and ``due`` read indexes that
    may lag behind: read them as stale and re-read the item before acting on it.
    Every write that answers is durable. Adapters raise ``UnavailableError`` when the store cannot be reached.
    """

    def get(self, key: Key) -> Item | None: ...

    def get_many(self, keys: Sequence[Key]) -> list[Item | None]:
        """The items in the order of ``keys``; at most 100."""
        ...

    def put(self, item: Item, *, unconditional: bool = False) -> Item:
        """Write and return the item with its new version. Raises ``VersionConflictError``."""
        ...

    def delete(self, key: Key, *, version: int | None = None) -> None:
        """As the transaction's ``Delete``. Raises ``VersionConflictError``."""
        ...

    def transact(self, writes: Sequence[Write]) -> list[Item]:
        """All or nothing, at most 100 writes on distinct keys; the put items with their new versions, in
        order. Raises ``VersionConflictError`` naming every failed key."""
        ...

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
        """Children ordered by id (descending with ``newest_first``), beginning past the id ``after``.
        ``Page.next`` is the last id of the page when more follow."""
        ...

    def list(
        self,
        workspace: str,
        kind: str,
        *,
        live: bool | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page:
        """Listed items: live ones first, then done ones, each newest first. ``live`` keeps one half.
        ``after`` is a previous page's ``next``."""
        ...

    def due(self, kind: str, shard: int, before: float, *, limit: int = 100) -> Sequence[DueItem]:
        """Live items of one shard, over all workspaces, due at ``before`` or earlier; earliest first."""
        ...
