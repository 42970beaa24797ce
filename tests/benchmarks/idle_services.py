"""What services cost the control plane while nothing happens to them: an hour of 1,000 with 10 replicas each.

Real: the table, the sweep of each minute, the interpreter, the function ``autoscale``, a gateway that is
heard every 20 s. The clusters are records, whose own sweeps are other benchmarks'.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stix.application.gateway_reports import take_gateway_status
from stix.application.records import put
from stix.model.cluster import Cluster, Node
from stix.model.job import Demand, Job
from stix.model.record import Record as Item
from stix.model.service_state import (
    GatewayFigures,
    Replica,
    ReplicaFigures,
    Service,
    ServiceMemory,
    ServiceVersion,
)
from stix.model.status import ClusterStatus, JobStatus, NodeStatus, ReplicaStatus, ServiceStatus
from tests.unit.crashing import CrashPoints, MortalControlPlane
from tests.unit.world import WORKSPACE, offer

from .figures import Record

SERVICES, REPLICAS = 1_000, 10
_MINUTES = 60
_AT_ONCE = 84
_FAR = 10 * 86400.0
_POLICY = {"min_replicas": REPLICAS, "max_replicas": 2 * REPLICAS, "target_qps_per_replica": 2}


def measure(record: Record, *, services: int = SERVICES) -> None:
    with tempfile.TemporaryDirectory(prefix="stix-bench-") as folder:
        plane = MortalControlPlane(Path(folder), CrashPoints(None))
        try:
            _fill(plane, services)
            with _unprinted():
                record.add("cpu", _hour(plane) * 1000 / services)
            left = [run.name for run in plane.engine.executions(status="RUNNING")]
            record.add("changed", float(len(left) + _changed(plane)))
        finally:
            plane.close()


@contextmanager
def _unprinted() -> Iterator[None]:
    """The functions' log is written as ever, but to nowhere: a thousand lines among the figures."""
    handlers = [handler for name in ("monitor", "autoscale") for handler in logging.getLogger(name).handlers]
    streams = [handler for handler in handlers if isinstance(handler, logging.StreamHandler)]
    with Path(os.devnull).open("w") as nowhere:
        before = [handler.setStream(nowhere) for handler in streams]
        try:
            yield
        finally:
            for handler, stream in zip(streams, before, strict=True):
                handler.setStream(stream)


def _hour(plane: MortalControlPlane) -> float:
    """CPU seconds of an hour, in which each service is due once."""
    begun = time.process_time()
    for _ in range(_MINUTES):
        for _ in range(3):
            plane.clock.moment += 20.0
            take_gateway_status(plane.world, WORKSPACE, "gw", {"services": {}})
        plane.functions.invoke("monitor", {"action": "sweep"})
        plane.engine.run_ready()
    return time.process_time() - begun


def _changed(plane: MortalControlPlane) -> int:
    """Services that were not looked at, or that did something."""
    found, after = 0, None
    while True:
        page = plane.store.list(WORKSPACE, Service.kind, live=True, after=after, limit=200)
        for item in page.items:
            acted = any(decision["actions"] for decision in item.body["decisions"])
            found += acted or item.body["nudges"] != 1 or item.status != "READY"
        after = page.next
        if after is None:
            return found


def _fill(plane: MortalControlPlane, services: int) -> None:
    waiting: list[Item] = []
    for number in range(services):
        waiting += _items(number, services, plane.clock.now())
        while len(waiting) >= _AT_ONCE:
            plane.store.transact([put(one) for one in waiting[:_AT_ONCE]])
            del waiting[:_AT_ONCE]
    if waiting:
        plane.store.transact([put(one) for one in waiting])


def _items(number: int, services: int, now: float) -> Iterator[Item]:
    name = f"s{number}"
    version = ServiceVersion(
        number=1,
        created_at=now,
        spec={"readiness_probe": "/health", "replica_policy": _POLICY},
        request_key="requests/none.json",
        port=8000,
    )
    memory = ServiceMemory(target=REPLICAS, ready_version=1, wanted=((now, REPLICAS),))
    yield Service(
        workspace=WORKSPACE,
        name=name,
        uid=f"svc-{name}",
        status=ServiceStatus.READY,
        since=now,
        created_at=now,
        ready_at=now,
        due_at=now + _MINUTES * 60.0 * (number + 0.5) / services - 60.0,
        port=30001 + number,
        versions=(version,),
        serving=(1,),
        replicas=REPLICAS,
        memory=memory,
    )
    states = {str(one): ReplicaFigures(state="ready", in_flight=0) for one in range(1, REPLICAS + 1)}
    yield GatewayFigures(workspace=WORKSPACE, service=name, gateway_id="gw", at=now, replicas=states)
    for one in range(1, REPLICAS + 1):
        yield from _replica(name, one, now)


def _replica(service: str, number: int, now: float) -> Iterator[Item]:
    cluster_id, place = f"c-{service}-{number}", offer("a")
    kept: dict[str, Any] = {"workspace": WORKSPACE, "due_at": now + _FAR}
    yield Replica(
        workspace=WORKSPACE,
        service=service,
        service_uid=f"svc-{service}",
        id=number,
        service_version=1,
        status=ReplicaStatus.READY,
        since=now,
        offer=place,
        launched_at=now,
        ready_at=now,
        cluster_id=cluster_id,
        cluster_name=cluster_id,
        address=f"10.0.0.{number}",
        port=8000,
        in_flight=0,
    )
    yield Cluster(
        **kept,
        id=cluster_id,
        name=cluster_id,
        status=ClusterStatus.UP,
        since=now,
        created_at=now,
        owner=f"service/{service}",
        num_nodes=1,
        offer=place,
    )
    yield Node(
        **kept,
        cluster_id=cluster_id,
        rank=0,
        status=NodeStatus.UP,
        since=now,
        machine_id=f"m-{service}-{number}",
        attempt=0,
        address=f"10.0.0.{number}",
    )
    yield Job(
        **kept,
        cluster_id=cluster_id,
        cluster_name=cluster_id,
        id=1,
        name="serve",
        status=JobStatus.RUNNING,
        num_nodes=1,
        demand=Demand(cpus=0.5),
        submitted_at=now,
        started_at=now,
        task_id="t",
        spec_key="specs/none.json",
    )
