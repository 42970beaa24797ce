"""Large logs of two nodes: nothing lost, little memory, and a follower who keeps up."""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path

from stix.sdk.log_stream import LogReader
from stix.sdk.logs import STDERR, STDOUT, Frame

from .control_plane import ControlPlane, control_plane
from .figures import Record, percentile
from .processes import PeakMemory

TOTAL_MB = 200
PACED_MB_PER_SECOND = 10
_NODES = 2

# Lines of 100 bytes that begin with the time, in turn on both streams; their hashes go to a file of its own.
_WRITER = """
import hashlib, os, sys, time
size, rate, folder = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
streams = [os.fdopen(1, "wb"), os.fdopen(2, "wb")]
hashes = [hashlib.sha256(), hashlib.sha256()]
began, written, turn = time.time(), 0, 0
while written < size:
    block = b"".join(b"%017.6f %s\\n" % (time.time(), b"x" * 81) for _ in range(200))
    streams[turn].write(block)
    streams[turn].flush()
    hashes[turn].update(block)
    turn = 1 - turn
    written += len(block)
    early = written / rate - (time.time() - began)
    if early > 0:
        time.sleep(early)
with open(os.path.join(folder, os.environ["STIX_NODE_RANK"]), "w") as out:
    out.write(" ".join(each.hexdigest() for each in hashes))
"""


class _Follower:
    """A log sink: hashes each stream, and notes how old each frame's last line is when it is written."""

    def __init__(self) -> None:
        self.hashes: dict[int, dict[int, hashlib._Hash]] = {}
        self.bytes = 0
        self.lags: list[float] = []

    def write(self, rank: int, frame: Frame) -> None:
        if frame.kind not in (STDOUT, STDERR):
            return
        streams = self.hashes.setdefault(rank, {STDOUT: hashlib.sha256(), STDERR: hashlib.sha256()})
        streams[frame.kind].update(frame.payload)
        self.bytes += len(frame.payload)
        now = time.time()
        stamps = re.findall(rb"^(\d{10}\.\d{6}) ", frame.payload, re.MULTILINE)
        self.lags += [now - float(stamp) for stamp in stamps]

    def flush(self) -> None:
        return

    def digests(self, rank: int) -> str:
        return " ".join(self.hashes[rank][kind].hexdigest() for kind in (STDOUT, STDERR))


def measure(record: Record, *, total_mb: int = TOTAL_MB) -> None:
    with control_plane() as plane:
        plane.launch("logs", num_nodes=_NODES)
        script = plane.home.parent / "writer.py"
        script.write_text(_WRITER, encoding="utf-8")

        def processes() -> dict[str, object]:
            return {**plane.agents(), "control plane": plane.process}

        with PeakMemory(processes) as memory:
            seconds, _ = _follow(plane, script, total_mb, rate=1e12)
            record.add("rate", total_mb / seconds)
            record.note(
                f"{total_mb} MB as fast as they can be written: followed to the end in {seconds:.1f} s"
            )
            seconds, follower = _follow(plane, script, total_mb, rate=PACED_MB_PER_SECOND * 1e6 / _NODES)
            record.note(
                f"{total_mb} MB at {PACED_MB_PER_SECOND} MB/s: followed to the end in {seconds:.1f} s"
            )
            record.add("follower_lag_p95", percentile(follower.lags, 95))
        record.add("server_rss", memory.peaks.pop("control plane"))
        record.add("agent_rss", max(memory.peaks.values()))


def _follow(plane: ControlPlane, script: Path, total_mb: int, *, rate: float) -> tuple[float, _Follower]:
    """Seconds from the submission to the follower's last byte. Raises ``RuntimeError`` if a byte differs."""
    size = total_mb * 1_000_000 // _NODES
    follower = _Follower()
    began = time.perf_counter()
    command = f"exec python3 {script} {size} {rate} {script.parent}"
    job_id = plane.submit("logs", command, num_nodes=_NODES, follow=True)
    with LogReader(plane.client, "logs", job_id) as reader:
        job = reader.copy(follower, follow=True)
    seconds = time.perf_counter() - began
    if job["status"] != "SUCCEEDED":
        raise RuntimeError(f"the writing job ended {job['status']}: {job['reason']}")
    for rank in range(_NODES):
        if (script.parent / str(rank)).read_text(encoding="utf-8") != follower.digests(rank):
            raise RuntimeError(f"the log of rank {rank} is not what the job wrote")
    return seconds, follower
