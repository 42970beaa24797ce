"""``kill -9`` at any moment: what was acknowledged is there afterwards, and half transactions are not."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import textwrap

import pytest

from stix.adapters.sqlite import SqliteStateStore
from stix.ports.state_store import Key

WRITER = textwrap.dedent(
    """
    import os, sys, threading
    from stix.adapters.sqlite import SqliteStateStore
    from stix.ports.state_store import Item, Key, Put

    store = SqliteStateStore(sys.argv[1])
    start = int(sys.argv[2])

    def write(thread):
        head = store.get(Key.top("w", "head", str(thread))) or Item(Key.top("w", "head", str(thread)))
        for n in range(start, start + 100_000):
            # The head and the record move together; the size moves the moment of the kill.
            record = Item(Key("w", "record", str(thread), f"{n:08d}"), {"n": n, "pad": "x" * (n * 37 % 5000)})
            head, _ = store.transact([Put(head.changed(body={"n": n})), Put(record)])
            os.write(1, f"{thread} {n}\\n".encode())

    threads = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    """
)


def _kill_while_writing(path, start: int, after: int) -> list[tuple[int, int]]:
    """Acknowledgements of a writer killed after ``after`` of them; those still in the pipe count too."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(start)],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    lines = []
    with process:
        for line in process.stdout:
            lines.append(line)
            if len(lines) == after:
                process.send_signal(signal.SIGKILL)
        process.wait(60)
    assert process.returncode == -signal.SIGKILL
    return [tuple(map(int, line.split())) for line in lines if line.endswith(b"\n")]


def _check_kills(tmp_path, kills: int, seed: int) -> None:
    path = tmp_path / "state.db"
    moments = random.Random(seed)
    acknowledged: set[tuple[int, int]] = set()
    for kill in range(kills):
        fresh = _kill_while_writing(path, start=kill * 100_000, after=moments.randint(1, 120))
        assert fresh
        acknowledged |= set(fresh)
        store = SqliteStateStore(path)
        for thread in range(3):
            stored, after = set(), None
            while True:
                page = store.children("w", "record", str(thread), after=after, limit=1000)
                stored |= {item.body["n"] for item in page.items}
                after = page.next
                if after is None:
                    break
            assert {n for who, n in acknowledged if who == thread} <= stored
            head = store.get(Key.top("w", "head", str(thread)))
            if stored:
                assert head.body["n"] == max(stored)
                assert head.version == len(stored)
        store.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_acknowledged_writes_survive_when_the_process_is_killed(tmp_path):
    _check_kills(tmp_path, kills=5, seed=20)


@pytest.mark.soak
def test_acknowledged_writes_survive_when_the_process_is_killed_many_times(tmp_path):
    _check_kills(tmp_path, kills=100, seed=21)
