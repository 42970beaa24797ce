"""What the state stores write and refuse, in one place, so that all of them mean the same."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from stix.ports.state_store import NOT_IN_PART, Check, Delete, Item, Key, Put, Write

__all__ = [
    "BATCH",
    "BODY_BYTES",
    "PAGE",
    "PART_BYTES",
    "TRANSACTION_BYTES",
    "check_index",
    "check_keys",
    "check_limit",
    "check_parts",
    "check_writes",
    "encode_body",
    "list_bounds",
    "list_sort_key",
    "written_form",
]

BATCH = 100
"""Most keys in a ``get_many`` and most writes in a ``transact``."""
PAGE = 1000
"""Most items in a page."""
BODY_BYTES = 350_000
"""Most bytes of a serialised body: DynamoDB's 400 KB an item, less keys and attributes."""
TRANSACTION_BYTES = 3_500_000
"""Most bytes of the bodies of a transaction: DynamoDB's 4 MB, less keys and attributes."""
PART_BYTES = 330
"""Most bytes of a part of a key: an id and its parent fit the list index's sort key of 1,024."""

_PLAIN = frozenset({str, int, float, bool, type(None)})
_ENCODER = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"))
_FAR = 100_000_000_000
"""Epoch seconds that no time reaches (the year 5138); keeps the inverted time at a fixed width."""


def check_parts(**parts: str) -> None:
    """Raises ``ValueError`` for a part of a key that cannot be stored."""
    for name, part in parts.items():
        if not part or NOT_IN_PART.search(part):
            raise ValueError(f"{name} {part!r} must not be empty nor hold '#' or control characters")
        if len(part.encode()) > PART_BYTES:
            raise ValueError(f"{name} {part[:40]!r}... is longer than {PART_BYTES} bytes")


def check_keys(keys: Sequence[Key]) -> None:
    """Raises ``ValueError`` for more keys than a batch holds or a key that cannot be stored."""
    if len(keys) > BATCH:
        raise ValueError(f"{len(keys)} keys in one call; at most {BATCH}")
    for key in keys:
        check_parts(workspace=key.workspace, kind=key.kind, parent=key.parent, id=key.id)


def check_limit(limit: int) -> None:
    if not 1 <= limit <= PAGE:
        raise ValueError(f"limit {limit} must be between 1 and {PAGE}")


def check_index(kind: str, shard: int, before: float, limit: int, shards: int) -> None:
    """Raises ``ValueError`` for arguments of ``due`` that no index entry can match."""
    check_parts(kind=kind)
    check_limit(limit)
    if not 0 <= shard < shards:
        raise ValueError(f"shard {shard} must be between 0 and {shards - 1}")
    if not math.isfinite(before):
        raise ValueError(f"before must be a finite time, not {before}")


def check_writes(writes: Sequence[Write]) -> dict[Key, str]:
    """The bodies of what is put, encoded. Raises ``ValueError`` for a transaction that one of the stores
    could not take."""
    keys = [_key_of(write) for write in writes]
    check_keys(keys)
    if len(set(keys)) != len(keys):
        raise ValueError("a transaction may hold each key once")
    items = [write.item for write in writes if isinstance(write, Put)]
    for item in items:
        _check_times(item)
    bodies = {item.key: encode_body(item) for item in items}
    total = sum(len(body.encode()) for body in bodies.values())
    if total > TRANSACTION_BYTES:
        raise ValueError(f"the bodies of the transaction have {total} bytes; at most {TRANSACTION_BYTES}")
    return bodies


def written_form(item: Item, version: int) -> Item:
    """The item as a later read returns it: ``expires_at`` on a whole second (up), times as floats."""
    return item.changed(
        version=version,
        created_at=_storable(item.created_at),
        due_at=None if item.due_at is None else _storable(item.due_at),
        expires_at=None if item.expires_at is None else float(math.ceil(item.expires_at)),
    )


def _check_times(item: Item) -> None:
    for name in ("created_at", "due_at", "expires_at"):
        moment = getattr(item, name)
        if moment is not None and not 0 <= moment < _FAR:
            raise ValueError(f"{item.key}: {name} {moment!r} is not a time in epoch seconds")


def encode_body(item: Item) -> str:
    """The body as JSON. Raises ``ValueError`` for what JSON cannot carry unchanged, or too much of it."""
    try:
        _check_json(item.body)
        text = _ENCODER.encode(item.body)
        size = len(text.encode())
    except (TypeError, ValueError) as exc:
        raise ValueError(f"{item.key}: the body is not JSON: {exc}") from exc
    if size > BODY_BYTES:
        raise ValueError(
            f"{item.key}: the body has {size} bytes; at most {BODY_BYTES}. "
            "Documents belong in the object store."
        )
    return text


def list_sort_key(item: Item) -> str:
    """Place in the ``list`` index: live before done, newest first, then by id; unique within a kind."""
    inverted = _FAR * 1_000_000 - round(item.created_at * 1_000_000)
    return f"{0 if item.live else 1}{inverted:018d}#{item.key.id}#{item.key.parent}"


def list_bounds(live: bool | None, after: str | None) -> tuple[str, str]:
    """Inclusive range of sort keys for one half (or both), beginning past the cursor ``after``.

    Empty (lower above upper) when the cursor lies past the half. Raises ``ValueError`` for a cursor that no
    page returned.
    """
    lower, upper = ("0", "2") if live is None else ("0", "1") if live else ("1", "2")
    if after is not None:
        if (
            after[:1] not in ("0", "1")
            or after.count("#") != 2
            or len(after.encode()) > 20 + 2 * PART_BYTES + 2
        ):
            raise ValueError(f"{after[:40]!r} is not a cursor of this list")
        # No key holds a character below the blank, so that nothing lies between the two.
        lower = max(lower, after + " ")
    return lower, upper


def _storable(moment: float) -> float:
    """DynamoDB has no numbers between 0 and 1e-130: what is shorter than a microsecond is zero."""
    return float(moment) if moment >= 1e-6 else 0.0


def _key_of(write: Write) -> Key:
    match write:
        case Put(item):
            return item.key
        case Delete(key) | Check(key):
            return key


def _check_json(value: Any) -> None:
    """Refuse what ``json`` would silently turn into something else: keys that are not text."""
    if isinstance(value, dict) or isinstance(value, Mapping):  # noqa: SIM101 - the first is ten times as fast
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ValueError(f"the key {key!r} is not text")
            if type(inner) not in _PLAIN:
                _check_json(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            if type(inner) not in _PLAIN:
                _check_json(inner)
