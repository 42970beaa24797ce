"""CPU of one call of the embedded state store, over a file of the size that a busy month leaves."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from stix.adapters.sqlite import SqliteStateStore
from stix.ports.state_store import Item, Key, Put

from .figures import Record

_ITEMS = 5000
_CALLS = 1000
_BODY = {"status": "RUNNING", "resources": "1 CPU", "reason": "x" * 80, "exit_codes": [0, 0], "number": 1.5}


def measure(record: Record) -> None:
    with tempfile.TemporaryDirectory(prefix="stix-bench-") as folder:
        store = SqliteStateStore(Path(folder) / "state.db")
        keys = [Key("default", "job", f"c-{number % 50}", f"{number:010d}") for number in range(_ITEMS)]
        now = time.time()
        items = [
            Item(key, _BODY, status="RUNNING", live=True, due_at=now + at, listed=True, created_at=now)
            for at, key in enumerate(keys)
        ]
        for start in range(0, _ITEMS, 100):
            store.transact([Put(item) for item in items[start : start + 100]])
        stored = [item.changed(version=1) for item in items]

        record.add("get", _each(lambda at: store.get(keys[at])))
        record.add("put", _each(lambda at: stored.__setitem__(at, store.put(stored[at]))))
        record.add(
            "transact_3",
            _each(
                lambda at: store.transact(
                    [Put(item, unconditional=True) for item in stored[at : at + 3]],
                )
            ),
        )
        record.add("list_page", _each(lambda _at: store.list("default", "job", limit=20)))
        record.add("due", _each(lambda at: store.due("job", at % 16, now + 100)))


def _each(call: Callable[[int], object]) -> float:
    """Milliseconds of CPU of one call; the waiting for the disk is not in it."""
    began = time.process_time()
    for at in range(_CALLS):
        call(at)
    return (time.process_time() - began) / _CALLS * 1000
