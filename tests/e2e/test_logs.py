"""Logs: every byte of every stream arrives, in bounded memory, and soon."""

from __future__ import annotations

import hashlib
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.e2e.embedded import GENEROUS, EmbeddedHome, await_that
from tests.e2e.test_durability import await_log_end

pytestmark = pytest.mark.xdist_group("e2e-logs")

MEBIBYTE = 1 << 20
MOST_MEMORY = 150 * MEBIBYTE

# Lines of 100 bytes on both streams; what was written is hashed outside of the node.
WRITER = """\
import hashlib, os, sys
rank, out, lines = os.environ["STIX_NODE_RANK"], sys.argv[1], int(sys.argv[2])
sums = {1: hashlib.sha256(), 2: hashlib.sha256()}
for start in range(0, lines, 500):
    for stream in sums:
        piece = b"".join(
            b"%d %d %09d " % (stream, int(rank), n) + b"x" * 85 + b"\\n" for n in range(start, start + 500)
        )
        sums[stream].update(piece)
        done = 0
        while done < len(piece):
            done += os.write(stream, piece[done:])
for stream, name in ((1, "stdout"), (2, "stderr")):
    with open(f"{out}/{rank}-{name}", "w") as file:
        file.write(sums[stream].hexdigest())
"""


class Memory:
    """Samples the largest resident size of the server and of the agents."""

    def __init__(self, home: EmbeddedHome):
        self.most: dict[str, int] = {}
        self._watched = {"server": psutil.Process(home.server_pid())}
        self._watched |= {f"agent {rank}": process for rank, process in home.agents().items()}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.wait(0.1):
            for name, process in self._watched.items():
                self.most[name] = max(self.most.get(name, 0), process.memory_info().rss)


def write_and_compare(home: EmbeddedHome, out: Path, megabytes: int) -> Memory:
    """``megabytes`` over two nodes and both streams, followed by nobody, read back whole."""
    script = out / "writer.py"
    script.write_text(WRITER)
    lines = megabytes * 1_000_000 // 4 // 100
    with Memory(home) as memory:
        began = time.monotonic()
        job = home.exec("logs", f"python3 {script} {out} {lines}", "--num-nodes", "2")
        assert home.await_job("logs", job, seconds=500)["status"] == "SUCCEEDED"
        await_log_end(home, "logs", job)
        arrived = time.monotonic() - began
    saved = out / "saved"
    home.stix("logs", "logs", str(job), "--sync-down", str(saved))
    for rank in (0, 1):
        for stream in ("stdout", "stderr"):
            found = (saved / f"rank-{rank}" / stream).read_bytes()
            assert len(found) == lines * 100
            assert hashlib.sha256(found).hexdigest() == (out / f"{rank}-{stream}").read_text()
    told = ", ".join(f"{name} {most / MEBIBYTE:.0f} MiB" for name, most in sorted(memory.most.items()))
    print(f"{megabytes} MB of log arrived within {arrived:.1f} s; at most {told}")
    return memory


@pytest.fixture(scope="module")
def pair(new_home: Callable[..., EmbeddedHome]) -> EmbeddedHome:
    """A home with the cluster ``logs`` of two nodes."""
    home = new_home()
    home.stix("launch", "-y", "-c", "logs", "--num-nodes", "2")
    return home


def test_log_is_equal_to_what_was_written_when_two_nodes_write_much(pair: EmbeddedHome, out: Path) -> None:
    write_and_compare(pair, out, 10)


@pytest.mark.soak
def test_memory_is_bounded_when_two_nodes_write_very_much(pair: EmbeddedHome, out: Path) -> None:
    memory = write_and_compare(pair, out, 200)
    assert {name: most for name, most in memory.most.items() if most >= MOST_MEMORY} == {}


def test_follower_sees_every_line_in_order_when_a_job_writes_slowly(pair: EmbeddedHome) -> None:
    count = 60
    command = (
        "python3 -uc 'import time\nfor n in range(%d): print(n, time.time(), flush=True); time.sleep(0.05)'"
    )
    follower = pair.spawn("exec", "logs", command % count, stdout=-1, stderr=-3)
    lags = []
    assert follower.stdout is not None
    with follower.stdout:
        for expected, line in enumerate(follower.stdout):
            number, written = line.split()
            assert int(number) == expected
            lags.append(time.time() - float(written))
    assert follower.wait(60) == 0
    assert len(lags) == count
    p95 = statistics.quantiles(lags, n=20)[-1]
    print(f"follower lag: median {statistics.median(lags):.2f} s, p95 {p95:.2f} s")


def test_tail_shows_the_last_lines_when_the_log_has_ended(pair: EmbeddedHome) -> None:
    job = pair.exec("logs", "seq 1 1000")
    pair.await_job("logs", job)
    await_log_end(pair, "logs", job)
    assert pair.stix("logs", "logs", str(job), "--tail", "3").stdout == "998\n999\n1000\n"


def test_no_follow_shows_what_there_is_when_the_job_runs(pair: EmbeddedHome, out: Path) -> None:
    # Somebody follows it, so that pieces of the log are sent soon.
    command = f"touch {out}/begun; echo early; while [ ! -e {out}/go ]; do sleep 0.1; done; echo late"
    follower = pair.spawn("exec", "logs", command)
    shown = await_that(
        "the first line arrives",
        lambda: (out / "begun").exists() and pair.stix("logs", "logs", "--no-follow").stdout,
    )
    assert shown == "early\n"
    (out / "go").touch()
    assert pair.stix("logs", "logs").stdout == "early\nlate\n"
    assert follower.wait(GENEROUS) == 0


def test_worker_option_shows_one_node_when_two_wrote(pair: EmbeddedHome) -> None:
    job = pair.exec("logs", "echo I am $STIX_NODE_RANK", "--num-nodes", "2")
    pair.await_job("logs", job)
    await_log_end(pair, "logs", job)
    assert pair.stix("logs", "logs", str(job), "-w", "1").stdout == "(worker1, rank=1) I am 1\n"
