"""A world of owned fakes for the application's tests: a real store over a file, everything else in memory.

``ControlPlane`` speaks the scenarios' language: launch, boot, join, report. Time moves only by ``pass_time``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stix.adapters.local_files import LocalObjectStore
from stix.adapters.sqlite import SqliteStateStore
from stix.api.v1 import ExecRequest, LaunchRequest
from stix.application import agents as agents_use_cases
from stix.application import create_machines, join_nodes, settle_cluster, submit
from stix.application.operations import get_operation
from stix.application.records import (
    child_records,
    cluster_by_name,
    get_cluster,
    job_key,
    load,
)
from stix.application.tokens import NodePrincipal, UserPrincipal
from stix.application.world import Limits, World
from stix.model.cluster import Cluster, Intent, Node
from stix.model.job import Job
from stix.model.offer import Offer
from stix.model.operation import Operation
from stix.ports.cloud_facts import CloudFacts
from stix.ports.state_store import SHARDS
from stix.ports.surroundings import Event
from stix.ports.workflows import TaskTokenError
from tests.unit.fake_compute import FakeClock, FakeCompute

WORKSPACE = "team"
ANN = UserPrincipal(WORKSPACE, "ann")
FAKE_FACTS = CloudFacts("fake", stops=True, stops_spot=True, connects_clusters=True, discovers=True)
KINDS = (
    "cluster",
    "node",
    "job",
    "operation",
    "intent",
    "ledger",
    "tombstone",
    "managed_job",
    "pool",
    "service",
)


def offer(zone: str = "a", price: float = 1.0, **fields: Any) -> Offer:
    shape = {"vcpus": 4, "memory_gib": 16, "instance_type": "m4"} | fields
    return Offer(cloud="fake", region="north", zone=zone, price=price, **shape)


class FakeIds:
    """Sortable and unique, never random."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def new(self, prefix: str) -> str:
        return f"{prefix}-{next(self._numbers):016d}"

    def secret(self) -> str:
        return f"secret{next(self._numbers)}"


class RecordingBus:
    def __init__(self) -> None:
        self.published: list[Event] = []

    def publish(self, *events: Event) -> None:
        self.published.extend(events)

    def names(self) -> list[str]:
        return [event.name for event in self.published]


class RecordingWake:
    def __init__(self) -> None:
        self.topics: list[str] = []

    def wake(self, topic: str) -> None:
        self.topics.append(topic)


class MemorySecrets:
    def __init__(self) -> None:
        self.kept: dict[str, dict[str, str]] = {}

    def put(self, reference: str, values: Mapping[str, str]) -> None:
        self.kept[reference] = dict(values)

    def get(self, reference: str) -> dict[str, str]:
        return dict(self.kept[reference])

    def delete(self, reference: str) -> None:
        self.kept.pop(reference, None)


class FakeWorkflows:
    """Records what was started; a token waits from ``wait_for`` until it is answered once."""

    def __init__(self) -> None:
        self.runs: list[tuple[str, str, dict[str, Any]]] = []
        self.waiting: set[str] = set()
        self.answers: dict[str, tuple[str, str]] = {}
        self.refuse: Exception | None = None

    def start(self, machine: str, name: str, payload: Mapping[str, Any]) -> bool:
        if self.refuse is not None:
            raise self.refuse
        if any(name == earlier for _, earlier, _ in self.runs):
            return False
        self.runs.append((machine, name, dict(payload)))
        return True

    def wait_for(self, token: str) -> str:
        self.waiting.add(token)
        return token

    def succeed(self, token: str, output: Mapping[str, Any]) -> None:
        self._answer(token, ("succeeded", ""))

    def fail(self, token: str, error: str, cause: str) -> None:
        self._answer(token, ("failed", error))

    def heartbeat(self, token: str) -> None:
        if token not in self.waiting:
            raise TaskTokenError(token)

    def _answer(self, token: str, answer: tuple[str, str]) -> None:
        if token not in self.waiting:
            raise TaskTokenError(token)
        self.waiting.remove(token)
        self.answers[token] = answer

    def machines(self) -> list[str]:
        return [machine for machine, _, _ in self.runs]


class ControlPlane:
    """The application over the fakes."""

    cloud_type: type[FakeCompute] = FakeCompute

    def __init__(self, folder: Path, offers: Sequence[Offer] = (), limits: Limits | None = None):
        self.clock = FakeClock()
        self.store = SqliteStateStore(folder / "state.db", clock=self.clock.now)
        self.objects = LocalObjectStore(
            folder / "objects", lambda: "http://api", bytes(range(32)), clock=self.clock.now
        )
        self.compute = self.cloud_type(self.clock, offers or [offer("a", 1.0), offer("b", 2.0)])
        self.workflows = FakeWorkflows()
        self.secrets = MemorySecrets()
        self.events = RecordingBus()
        self.wake = RecordingWake()
        self.world = World(
            deployment="test",
            runtime="embedded",
            store=self.store,
            objects=self.objects,
            workflows=self.workflows,
            compute={"fake": self.compute},
            secrets=self.secrets,
            events=self.events,
            wake=self.wake,
            clock=self.clock,
            ids=FakeIds(),
            limits=limits or Limits(),
            api_url=lambda: "http://api",
            clouds={"fake": FAKE_FACTS},
            agent_hash=lambda: "f" * 64,
        )

    def close(self) -> None:
        self.store.close()

    def pass_time(self, seconds: float) -> None:
        self.clock.moment += seconds

    # Requests of people

    def launch(self, name: str | None = "train", *, key: str | None = None, **fields: Any) -> dict[str, Any]:
        return submit.launch(self.world, ANN, launch_request(name, **fields), key)

    def execute(self, name: str = "train", *, key: str | None = None, **fields: Any) -> dict[str, Any]:
        request = ExecRequest(task={"run": "true"} | fields.pop("task", {}), **fields)
        return submit.execute(self.world, ANN, name, request, key)

    # The steps of the launch machine

    def rank(self, cluster: Cluster) -> str:
        return str(create_machines.rank(self.world, WORKSPACE, cluster.id)["outcome"])

    def create(self, cluster: Cluster) -> str:
        return str(create_machines.create(self.world, WORKSPACE, cluster.id)["outcome"])

    def await_join(self, cluster: Cluster, token: str = "token") -> None:
        join_nodes.await_join(self.world, WORKSPACE, cluster.id, self.workflows.wait_for(token))

    def hand_over(self, cluster: Cluster) -> str:
        return str(join_nodes.hand_over(self.world, WORKSPACE, cluster.id)["outcome"])

    def run_terminate(self, cluster: Cluster) -> str:
        """What was wanted. The two steps of the machine `terminate` in which the provider is told and asked,
        without its waits."""
        settle_cluster.settle(self.world, WORKSPACE, cluster.id)
        return str(settle_cluster.confirm(self.world, WORKSPACE, cluster.id)["wanted"])

    def boot(self, name: str = "train", **fields: Any) -> Cluster:
        """Launch and create: the machines run, no agent has joined."""
        self.launch(name, **fields)
        cluster = self.cluster(name)
        assert self.rank(cluster) == "RANKED"
        assert self.create(cluster) == "CREATED"
        return self.cluster(name)

    def bring_up(self, name: str = "train", **fields: Any) -> Cluster:
        """Launch up to UP, every node joined."""
        cluster = self.boot(name, **fields)
        self.await_join(cluster, f"token-{cluster.id}")
        for rank in range(cluster.num_nodes):
            self.join(cluster, rank)
        assert self.hand_over(cluster) == "UP"
        return self.cluster(name)

    # Requests of agents

    def join(self, cluster: Cluster, rank: int = 0, **fields: Any) -> dict[str, Any]:
        gang = self.compute.requests[-1]
        machine_id = self.compute.gangs[gang.token][rank]
        request = {"machine_id": machine_id, "address": f"10.0.0.{rank}", "peer_port": 7000 + rank}
        return join_nodes.join(self.world, fields.pop("token", gang.join_token), request | fields)

    def report(self, cluster: Cluster, rank: int = 0, **request: Any) -> dict[str, Any]:
        return agents_use_cases.report(self.world, self.node_principal(cluster, rank), request)

    def commands(self, cluster: Cluster, rank: int = 0, **request: Any) -> dict[str, Any]:
        return agents_use_cases.commands(self.world, self.node_principal(cluster, rank), request)[0]

    @staticmethod
    def node_principal(cluster: Cluster, rank: int = 0) -> NodePrincipal:
        return NodePrincipal(WORKSPACE, cluster.id, rank)

    # What the table says

    @property
    def reading(self) -> World:
        """The world that a test looks through."""
        return self.world

    def cluster(self, name: str = "train") -> Cluster:
        found = cluster_by_name(self.reading, WORKSPACE, name)
        assert found is not None, f"no cluster {name}"
        return found

    def by_id(self, cluster: Cluster) -> Cluster:
        return get_cluster(self.reading, WORKSPACE, cluster.id)

    def operation(self, operation_id: str) -> Operation:
        return get_operation(self.reading, WORKSPACE, operation_id)

    def job(self, cluster: Cluster, job_id: int = 1) -> Job:
        item = self.store.get(job_key(WORKSPACE, cluster.id, job_id))
        assert item is not None
        return load(Job, item)

    def jobs(self, cluster: Cluster) -> list[Job]:
        return child_records(self.reading, Job, WORKSPACE, cluster.id)

    def nodes(self, cluster: Cluster) -> list[Node]:
        return child_records(self.reading, Node, WORKSPACE, cluster.id)

    def intents(self, cluster: Cluster) -> list[Intent]:
        return child_records(self.reading, Intent, WORKSPACE, cluster.id)

    def due(self) -> list[str]:
        """Kinds of all live items whose moment has passed."""
        now = self.clock.now()
        return [kind for kind in KINDS for shard in range(SHARDS) for _ in self.store.due(kind, shard, now)]


def launch_request(name: str | None = "train", **fields: Any) -> LaunchRequest:
    """``task`` fields are merged into a small task; all others are the request's."""
    task = {"name": "hello", "run": "echo hi"} | fields.pop("task", {})
    return LaunchRequest(task=task, cluster=name, **fields)
