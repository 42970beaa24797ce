"""The embedded API with 1,000 clusters of 10 nodes in its table: heartbeats, lists and single looks.

The server's process is held on one core and this one, the client, on another. Every heartbeat of the measured
round comes from another node, each with its own token; the authorizer is on, and an answer means that the
heartbeat is on the disk.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from stix.adapters.sqlite import SqliteStateStore
from stix.application.records import put
from stix.application.tokens import hash_token, node_token
from stix.model.autostop import Autostop
from stix.model.cluster import Cluster, Heartbeat, Node
from stix.model.offer import Offer
from stix.model.status import ClusterStatus, NodeStatus
from stix.ports.state_store import Put

from .control_plane import ControlPlane, control_plane
from .figures import Record, median, percentile
from .processes import cpu_seconds

_CLUSTERS = 1000
_NODES = 10
_CONNECTIONS = 32
_BEFORE_SECONDS = 2.0
_PACED_RATE = 400
_PACED_SECONDS = 20
_LOOKS = 200
_LISTS = 15
_FAR_SECONDS = 86_400
_WORKSPACE = "default"


def measure(record: Record) -> None:
    with control_plane() as plane:
        tokens = _fill(plane.home / "state.db", time.time())
        try:
            with _apart(plane.process):
                asyncio.run(_heartbeats(plane, tokens, record))
                _looks(plane, record)
        finally:
            _empty(plane.home / "state.db")


def _fill(path: Path, now: float) -> list[str]:
    """Clusters that are up, with nothing due while the benchmark runs; the tokens of all nodes."""
    store = SqliteStateStore(path)
    offer = Offer(
        cloud="aws",
        region="us-east-1",
        zone="us-east-1a",
        instance_type="p4d.24xlarge",
        vcpus=96,
        memory_gib=1152,
        accelerator="A100",
        accelerator_count=8,
        spot=True,
        price=12.5,
        price_as_of=now,
    )
    far = now + _FAR_SECONDS
    tokens = []
    for number in range(_CLUSTERS):
        id = f"load{number:08d}"
        cluster = Cluster(
            workspace=_WORKSPACE,
            id=id,
            name=f"load-{number}",
            status=ClusterStatus.UP,
            since=now,
            due_at=far,
            created_at=now - number,
            user="bench",
            num_nodes=_NODES,
            offer=offer,
            last_use="stix launch train.yaml",
            autostop=Autostop(idle_minutes=60, down=True),
            head_address=f"10.0.{number % 250}.0",
        )
        writes: list[Put] = [put(cluster)]
        for rank in range(_NODES):
            tokens.append(node_token(_WORKSPACE, id, rank, f"{number:032d}"))
            node = Node(
                workspace=_WORKSPACE,
                cluster_id=id,
                rank=rank,
                status=NodeStatus.UP,
                since=now,
                due_at=far,
                machine_id=f"i-{number:012d}{rank:02d}",
                attempt=0,
                address=f"10.0.{number % 250}.{rank}",
                token_hash=hash_token(tokens[-1]),
                facts={"cpus": 96, "memory_gib": 1152.0, "gpus": [{"name": "A100"}] * 8},
            )
            beat = Heartbeat(workspace=_WORKSPACE, cluster_id=id, rank=rank, last_seen=now, idle_since=now)
            writes += [put(node), put(beat)]
        store.transact(writes)
    store.close()
    return tokens


def _empty(path: Path) -> None:
    """Before the teardown, which would look for their machines."""
    store = SqliteStateStore(path)
    with store._database.write() as connection:
        connection.execute("DELETE FROM items WHERE parent LIKE 'load%'")
    store.close()


@contextmanager
def _apart(server: psutil.Process) -> Iterator[None]:
    """All of the server's threads on one core, this process on another, where there are two."""
    cores = sorted(os.sched_getaffinity(0))
    for thread in server.threads():
        os.sched_setaffinity(thread.id, {cores[0]})
    os.sched_setaffinity(0, {cores[-1]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, set(cores))


async def _heartbeats(plane: ControlPlane, tokens: Sequence[str], record: Record) -> None:
    """Once from every node as fast as the server answers, then at a steady rate."""
    requests = [_report(plane, token) for token in tokens]
    before, began = cpu_seconds(plane.process), time.perf_counter()
    waits = await _closed_loop(plane, requests)
    wall, cpu = time.perf_counter() - began, cpu_seconds(plane.process) - before
    record.add("heartbeat_rate", len(requests) / wall)
    record.add("heartbeat_cpu", cpu / len(requests) * 1000)
    record.note(f"first round, every token new: p99 {percentile(waits, 99) * 1000:.1f} ms")
    before = cpu_seconds(plane.process)
    paced = requests[: _PACED_RATE * _PACED_SECONDS]
    with _DiskWaits(plane.home) as disk:
        waits = await _open_loop(plane, paced)
    cpu = cpu_seconds(plane.process) - before
    record.add("heartbeat_p99", percentile(waits, 99) * 1000)
    record.note(
        f"at {_PACED_RATE}/s: {cpu / len(paced) * 1000:.2f} ms CPU each, "
        f"median {median(waits) * 1000:.1f} ms, largest {max(waits) * 1000:.1f} ms; meanwhile an fsync of "
        f"ours beside it: median {median(disk.waits) * 1000:.1f} ms, largest {max(disk.waits) * 1000:.1f} ms"
    )


class _DiskWaits:
    """What a small write to the same disk takes meanwhile, ten times a second: seconds of each."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "disk-waits"
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.waits: list[float] = []

    def __enter__(self) -> _DiskWaits:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        with self._path.open("wb") as file:
            while True:
                began = time.perf_counter()
                os.pwrite(file.fileno(), bytes(4096), 0)
                os.fsync(file.fileno())
                self.waits.append(time.perf_counter() - began)
                if self._done.wait(0.1):
                    return


def _report(plane: ControlPlane, token: str) -> bytes:
    body = json.dumps({"idle_since": time.time(), "jobs": []})
    return (
        f"POST /agent/v1/report HTTP/1.1\r\nhost: {_host(plane)}\r\nauthorization: Bearer {token}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}"
    ).encode()


def _host(plane: ControlPlane) -> str:
    return plane.endpoint.url.removeprefix("http://")


class _Connections:
    """Open connections to the server, each with one request at a time."""

    def __init__(self, plane: ControlPlane) -> None:
        self._host, _, port = _host(plane).partition(":")
        self._port = int(port)
        self._free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        self._all: list[asyncio.StreamWriter] = []

    async def open(self, count: int) -> None:
        for _ in range(count):
            reader, writer = await asyncio.open_connection(self._host, self._port)
            self._free.put_nowait((reader, writer))
            self._all.append(writer)

    async def send(self, request: bytes) -> None:
        """Raises ``RuntimeError`` unless the answer is 200."""
        reader, writer = await self._free.get()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        status = head.split(b" ", 2)[1]
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        body = await reader.readexactly(length)
        if status != b"200":
            raise RuntimeError(f"a heartbeat was answered {status!r}: {body[:200]!r}")
        self._free.put_nowait((reader, writer))

    def close(self) -> None:
        for writer in self._all:
            writer.close()


async def _closed_loop(plane: ControlPlane, requests: Sequence[bytes]) -> list[float]:
    """Every connection sends its next request when it has its answer; the seconds of each."""
    connections = _Connections(plane)
    await connections.open(_CONNECTIONS)
    left, waits = iter(requests), []

    async def work() -> None:
        for request in left:
            began = time.perf_counter()
            await connections.send(request)
            waits.append(time.perf_counter() - began)

    await asyncio.gather(*(work() for _ in range(_CONNECTIONS)))
    connections.close()
    return waits


async def _open_loop(plane: ControlPlane, requests: Sequence[bytes]) -> list[float]:
    """Requests leave at a steady rate whatever the server does; a late start counts as waiting."""
    connections = _Connections(plane)
    await connections.open(4 * _CONNECTIONS)
    # All are made by then: to make them takes a quarter of a second, in which the first ones would be late.
    began = time.perf_counter() + _BEFORE_SECONDS

    async def one(at: int, request: bytes) -> float:
        due = began + at / _PACED_RATE
        await asyncio.sleep(due - time.perf_counter())
        await connections.send(request)
        return time.perf_counter() - due

    waits = await asyncio.gather(*(one(at, request) for at, request in enumerate(requests)))
    connections.close()
    return waits


def _looks(plane: ControlPlane, record: Record) -> None:
    """The whole list, page by page as the SDK reads it, and one cluster by name."""
    connection = http.client.HTTPConnection(_host(plane), timeout=30)

    def get(path: str) -> dict[str, object]:
        connection.request("GET", path, headers={"authorization": f"Bearer {plane.endpoint.token}"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"GET {path} answered {answer.status}")
        found: dict[str, object] = json.loads(body)
        return found

    def whole_list() -> int:
        count, after = 0, ""
        while True:
            page = get(f"/v1/clusters?after={after.replace('#', '%23')}")
            count += len(page["clusters"])  # type: ignore[arg-type]
            if not (after := str(page["next"] or "")):
                return count

    if whole_list() != _CLUSTERS:
        raise RuntimeError("the list is not whole")
    spent = []
    for _ in range(_LISTS):
        before = cpu_seconds(plane.process)
        whole_list()
        spent.append((cpu_seconds(plane.process) - before) * 1000)
    record.add("list_cpu", median(spent))
    waits = []
    before = cpu_seconds(plane.process)
    for at in range(_LOOKS):
        began = time.perf_counter()
        get(f"/v1/clusters?names=load-{at}")
        waits.append(time.perf_counter() - began)
    record.add("status_cpu", (cpu_seconds(plane.process) - before) / _LOOKS * 1000)
    record.note(f"GET of one cluster: p99 {percentile(waits, 99) * 1000:.1f} ms")
    connection.close()
