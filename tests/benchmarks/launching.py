"""A launch that is refused everywhere, and a sweep over a table that is full of clusters."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stix.adapters.dynamodb import DynamoStateStore
from stix.adapters.dynamodb_table import create_table_request
from stix.application import create_machines
from stix.application.records import put
from stix.application.sweep import sweep
from stix.application.world import World
from stix.model.cluster import Cluster, Heartbeat
from stix.model.offer import Offer
from stix.model.status import ClusterStatus
from stix.ports.state_store import Item, Key, Page
from tests.unit.world import ControlPlane, offer

from .figures import Record

_REGIONS = 20
_WALKS = 7
_FORGOTTEN = 7 * 86400.0
"""After which a refusal is remembered no more, in seconds."""
_CLUSTERS = 100_000
_SAMPLE = 5_000
_DUE = 50


def measure(record: Record) -> None:
    with tempfile.TemporaryDirectory(prefix="stix-bench-") as folder:
        _walk(record, Path(folder, "walk"))
        _sweep(record, Path(folder, "sweep"))
        _sweep_dynamodb(record, Path(folder, "dynamodb"))


def _walk(record: Record, folder: Path) -> None:
    """Every region of one accelerator refuses: the choices alone, and all of it with its writes. Medians of
    walks that remember nothing of each other."""
    zones = [f"{number:02d}" for number in range(_REGIONS)]
    plane = ControlPlane(folder, [offer(zone, 1 + number / 100) for number, zone in enumerate(zones)])
    plane.compute.full = set(zones)
    choosing = 0.0
    choose = create_machines.choose

    def timed(*arguments: Any) -> Any:
        nonlocal choosing
        began = time.process_time()
        found = choose(*arguments)
        choosing += time.process_time() - began
        return found

    choices, wholes = [], []
    create_machines.choose = timed
    try:
        for number in range(_WALKS):
            plane.launch(f"walk{number}")
            choosing, began = 0.0, time.process_time()
            _exhaust(plane, f"walk{number}")
            wholes.append(time.process_time() - began)
            choices.append(choosing)
            plane.pass_time(_FORGOTTEN)
    finally:
        create_machines.choose = choose
        plane.close()
    record.add("walk_choices", statistics.median(choices) * 1000)
    record.add("walk", statistics.median(wholes) * 1000)


def _exhaust(plane: ControlPlane, name: str) -> None:
    cluster = plane.cluster(name)
    plane.rank(cluster)
    while plane.create(cluster) != "EXHAUSTED":
        pass


class CountingStore:
    """Counts the items that the store answers with."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.read = 0

    def get(self, key: Key) -> Item | None:
        self.read += 1
        found: Item | None = self._store.get(key)
        return found

    def get_many(self, keys: Sequence[Key]) -> Any:
        self.read += len(keys)
        return self._store.get_many(keys)

    def children(self, *arguments: Any, **options: Any) -> Page:
        page: Page = self._store.children(*arguments, **options)
        self.read += len(page.items)
        return page

    def list(self, *arguments: Any, **options: Any) -> Page:
        page: Page = self._store.list(*arguments, **options)
        self.read += len(page.items)
        return page

    def due(self, *arguments: Any, **options: Any) -> Any:
        found = self._store.due(*arguments, **options)
        self.read += len(found)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def sweep_reads(
    store: Any,
    plane: ControlPlane,
    *,
    clusters: int,
    due: int,
    at_once: int = 100,
    sweeping: Callable[[World], dict[str, Any]] = sweep,
) -> tuple[int, float]:
    """Fill ``store`` with clusters that are up, ``due`` of them due now; items and CPU-ms of one sweep.

    ``at_once``: writes of one transaction while it is filled.
    """
    now = plane.clock.now()
    writes: list[Any] = []
    for number in range(clusters):
        cluster = Cluster(
            workspace="team",
            id=f"c-{number:06d}",
            name=f"n-{number}",
            status=ClusterStatus.UP,
            since=now,
            created_at=now,
            num_nodes=1,
            offer=Offer(cloud="fake", region="r", instance_type="t", vcpus=1, memory_gib=1, price=1),
            due_at=now - 1 if number < due else now + 3600,
        )
        beat = Heartbeat(workspace="team", cluster_id=cluster.id, rank=0, last_seen=now, idle_since=None)
        # Nobody looks at the heartbeat of a cluster that is not due.
        writes += [put(cluster), put(beat)] if number < due or at_once > 1 else [put(cluster)]
        if len(writes) >= at_once:
            _write(store, writes, at_once)
            writes = []
    _write(store, writes, at_once)
    counting = CountingStore(store)
    world = replace(plane.world, store=counting)
    began = time.process_time()
    looked = sweeping(world)["looked_at"]
    assert looked["cluster"] == due, looked
    return counting.read, (time.process_time() - began) * 1000


def _write(store: Any, writes: Sequence[Any], at_once: int) -> None:
    if at_once > 1 and writes:
        store.transact(writes)
        return
    for write in writes:
        store.put(write.item)


def _sweep_dynamodb(record: Record, folder: Path) -> None:
    """The same on DynamoDB's own paging and index, as moto has them; items as its answers count them."""
    import boto3
    from moto import mock_aws

    read = 0

    def count(parsed: dict[str, Any], **_: Any) -> None:
        nonlocal read
        read += parsed.get("ScannedCount", 0) + ("Item" in parsed)
        read += sum(len(items) for items in parsed.get("Responses", {}).values())

    with mock_aws():
        client = boto3.client("dynamodb", "eu-west-1", aws_access_key_id="x", aws_secret_access_key="x")
        client.create_table(**create_table_request("stix"))
        plane = ControlPlane(folder)
        store = DynamoStateStore("stix", client, clock=plane.clock.now)
        client.meta.events.register("after-call.dynamodb", count)
        filled = 0

        def sweeping(world: World) -> dict[str, Any]:
            nonlocal filled
            filled = read
            return sweep(world)

        sweep_reads(store, plane, clusters=_SAMPLE, due=_DUE, at_once=1, sweeping=sweeping)
        plane.close()
    record.add("sweep_dynamodb_reads", read - filled)


def _sweep(record: Record, folder: Path) -> None:
    plane = ControlPlane(folder)
    reads, cpu = sweep_reads(plane.store, plane, clusters=_CLUSTERS, due=_DUE)
    plane.close()
    record.add("sweep_reads", reads)
    record.add("sweep_cpu", cpu)
