"""A control plane that dies at a chosen call: real interpreter and functions, fake machines with agents."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from stix.adapters.sqlite import SqliteStateStore
from stix.adapters.sqlite_database import SqliteDatabase
from stix.application import agents, join_nodes
from stix.application.records import cluster_by_name
from stix.application.tokens import NodePrincipal
from stix.application.world import Limits, World
from stix.local.functions import FUNCTIONS, Functions, bundle_folder, import_handlers
from stix.local.interpreter import Interpreter, load_definitions
from stix.model.cluster import Cluster
from stix.model.errors import StixError
from stix.ports.compute import MachineState
from stix.ports.state_store import SHARDS
from stix.runtime.bootstrap import install
from tests.unit.fake_compute import START
from tests.unit.world import KINDS, WORKSPACE, ControlPlane, offer

T = TypeVar("T")

LIMITS = Limits(
    report_seconds=60, poll_seconds=60, boot_seconds=120, lost_seconds=240, launch_lease_seconds=400
)
BEAT = 20.0

READS = {
    "store": ("get", "get_many", "children", "list", "due"),
    "compute": ("describe", "list_tagged", "offers"),
    "secrets": ("get",),
    "objects": ("get", "size", "keys", "sign_get", "sign_put"),
    "workflows": (),
}
EFFECTS = {
    "store": ("put", "delete", "transact"),
    "compute": ("create", "terminate", "stop", "start", "release"),
    "secrets": ("put", "delete"),
    "objects": ("put", "delete"),
    "workflows": ("start", "succeed", "fail"),
}


class Crash(BaseException):
    """The process is gone. No handler of errors may see it."""


class CrashPoints:
    """Counts the moments before every call and after every effect; the process dies at number ``at``.

    Reads that follow each other within one piece of work, with nothing written between them, are one moment:
    a death at any of them leaves the same behind.
    """

    def __init__(self, at: int | None = None):
        self.at = at
        self.passed = 0
        self.where = ""
        self._changed = True

    def change(self) -> None:
        """Something was written, or another piece of work begins."""
        self._changed = True

    def pass_by(self, where: str) -> None:
        if not self._changed:
            return
        self._changed = False
        self.passed += 1
        if self.passed - 1 == self.at:
            self.where = where
            raise Crash(where)

    def watch(self, name: str, target: Any) -> Any:
        """``target`` with a crash point around each of its calls."""

        def watched(method: str, effect: bool) -> Callable[..., Any]:
            def call(_self: Any, *args: Any, **options: Any) -> Any:
                self.pass_by(f"before {name}.{method}")
                if effect:
                    self.change()
                answer = getattr(target, method)(*args, **options)
                if effect:
                    self.pass_by(f"after {name}.{method}")
                return answer

            return call

        methods = {method: watched(method, False) for method in READS[name]}
        methods |= {method: watched(method, True) for method in EFFECTS[name]}
        return type(f"Watched{name}", (), methods)()


class WatchedDatabase(SqliteDatabase):
    """Tells the points of each commit, also of the interpreter's own."""

    def __init__(self, path: Path, points: CrashPoints):
        super().__init__(path)
        self._points = points

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        with super().write() as connection:
            yield connection
        self._points.change()


class MortalControlPlane(ControlPlane):
    """A control plane whose process starts again after each death, on the same file, beside living machines.

    ``silent`` are zones whose machines never call.
    """

    def __init__(self, folder: Path, points: CrashPoints, *, silent: frozenset[str] = frozenset()):
        super().__init__(folder, [offer("a", 1.0), offer("b", 2.0), offer("c", 3.0)], LIMITS)
        self.store.close()
        self.database = WatchedDatabase(folder / "state.db", points)
        self.store = SqliteStateStore(self.database, clock=self.clock.now)
        self.compute.lag = 5.0
        self.silent = silent
        self.deaths = 0
        self.joined: dict[str, tuple[float, NodePrincipal]] = {}
        self.ran: list[int] = []
        self.next_beat = START
        self.beat_seconds = BEAT
        self._points = points
        self._definitions = load_definitions(
            bundle_folder() / "infra" / "state_machines",
            {f"{name.capitalize()}FunctionArn": name for name in FUNCTIONS},
        )
        self.functions = Functions(
            import_handlers(["optimize", "provision", "monitor", "recover", "autoscale"])
        )
        self._begin()

    def _begin(self) -> None:
        """A new process over what is on the disk."""
        agents._cache.clear()
        self.engine = Interpreter(
            self.database,
            self._definitions,
            self.functions.invoke,
            clock=self.clock.now,
            source=random.Random(1),
        )
        watch = self._points.watch
        self.world = replace(
            self.world,
            store=watch("store", self.store),
            objects=watch("objects", self.objects),
            secrets=watch("secrets", self.secrets),
            workflows=watch("workflows", self.engine),
            compute={"fake": watch("compute", self.compute)},
        )
        install(self.world)
        self.engine.recover()

    def close(self) -> None:
        install(None)
        self.functions.close(1.0)
        self.database.close()

    def survive(self, work: Callable[[], T]) -> T:
        """Do it; when the process dies of it, start a new one and do it again, as a client does."""
        while True:
            self._points.change()
            try:
                return work()
            except Crash:
                self.deaths += 1
                self._begin()

    def until(self, reached: Callable[[], bool], *, hours: float = 6.0) -> None:
        """Let time pass until ``reached``, or fail."""
        end = self.clock.now() + hours * 3600
        while not reached():
            assert self.clock.now() < end, f"it does not get there after {self._points.where or 'no crash'}"
            self.beat()

    def beat(self) -> None:
        """Everybody does what there is to do now; then the next moment comes at which there is something."""
        self.survive(self.engine.run_ready)
        if self.clock.now() >= self.next_beat:
            self.next_beat += self.beat_seconds
            self._machines_call()
            self.survive(lambda: self.functions.invoke("monitor", {"action": "sweep"}))
        self._check_machines()
        self.survive(self.engine.run_ready)
        moments = [self.next_beat, self.engine.next_wakeup() or self.next_beat]
        self.clock.moment = max(self.clock.moment, min(moments))

    def _machines_call(self) -> None:
        for machine in list(self.compute.machines.values()):
            zone = next(
                r.offer.zone for r in self.compute.requests if machine.id in self.compute.gangs[r.token]
            )
            running = self.compute.state(machine.id) is MachineState.RUNNING
            if running and zone not in self.silent:
                self.survive(lambda machine=machine: self._agent(machine.id))

    def _agent(self, machine_id: str) -> None:
        machine = self.compute.machines[machine_id]
        booted, who = self.joined.get(machine_id, (None, None))
        try:
            if who is None or booted != machine.arrives_at:
                request = {"machine_id": machine_id, "address": f"10.0.0.{machine_id[2:]}", "peer_port": 7000}
                answer = join_nodes.join(self.world, machine.join_token, request)
                who = NodePrincipal(WORKSPACE, answer["cluster_id"], answer["rank"])
                self.joined[machine_id] = machine.arrives_at, who
            agents.report(self.world, who, {"idle_since": None, "jobs": self._jobs_done()})
            for command in agents.commands(self.world, who, {})[0]["commands"]:
                if command["type"] == "run" and command["job"]["id"] not in self.ran:
                    self.ran.append(command["job"]["id"])
        except StixError:
            return  # not ready, or gone: the agent calls again

    def _jobs_done(self) -> list[dict[str, Any]]:
        return [{"id": job, "status": "SUCCEEDED", "exit_codes": [0]} for job in self.ran]

    def _check_machines(self) -> None:
        """No machine exists of which no intent was written before."""
        for machine_id in self.compute.alive():
            tags = self.compute.machines[machine_id].tags
            cluster = Cluster.model_construct(workspace=tags["stix-workspace"], id=tags["stix-cluster"])
            tokens = [intent.token for intent in self.intents(cluster)]
            assert tags["stix-intent"] in tokens

    def status(self, name: str = "train") -> str:
        found = cluster_by_name(self.reading, WORKSPACE, name)
        return "GONE" if found is None else f"{found.status} {found.wanted}"

    @property
    def reading(self) -> World:
        """Looking is no crash point."""
        return replace(self.world, store=self.store)

    def live(self) -> list[str]:
        """Keys of everything that somebody must still look at, however late, and names of runs."""
        far = self.clock.now() + 10 * 365 * 86400
        return [
            str(entry.key)
            for kind in KINDS
            for shard in range(SHARDS)
            for entry in self.store.due(kind, shard, far)
        ] + [run.name for run in self.engine.executions(status="RUNNING")]


Live = Callable[[Path, Callable[[Any], None], int | None], int]
"""Runs a scenario in a folder with a death at one point, None for none; how many points there are."""


def die_at_some_calls(live: Live, folder: Path, scenario: Callable[[Any], None], count: int) -> None:
    """The scenario without a death, then with one at each of ``count`` points, the same in every run."""
    total = live(folder / "none", scenario, None)
    assert total > 50
    print(f"{scenario.__name__}: {total} moments at which it can die")
    for at in sorted(random.Random(4711).sample(range(total), count)):
        live(folder / str(at), scenario, at)


def die_at_every_call(live: Live, folder: Path, scenario: Callable[[Any], None], part: int) -> None:
    """The same at every eighth point, beginning with ``part``."""
    total = live(folder / "none", scenario, None)
    for at in range(part, total, 8):
        live(folder / str(at), scenario, at)
