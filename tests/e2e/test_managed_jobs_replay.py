"""Twenty managed jobs over three zones whose spot machines come and go as a trace says; the clock is virtual.

The control plane is the embedded one: its interpreter, functions and store. Machines and agents are played:
they report, store checkpoints, lose what they did since the last one. The clock moves only when nothing can
be done now.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stix.application import agents, checkpoints, join_nodes, logs
from stix.application.job_draft import get_job
from stix.application.ledger import entries_since
from stix.application.records import child_records
from stix.application.submit_managed_job import submit
from stix.application.tokens import NodePrincipal
from stix.model.errors import StixError
from stix.model.managed_job import JobEvent, ManagedJob
from stix.ports.compute import MachineState
from stix.simulate.traces import read_trace
from tests.unit.crashing import CrashPoints, MortalControlPlane
from tests.unit.fake_compute import START
from tests.unit.managed_jobs import request
from tests.unit.world import ANN, WORKSPACE, offer

TRACES = Path(__file__).parent / "traces"
PUBLIC = Path(os.environ.get("STIX_TRACES") or Path(__file__).parents[3] / "traces")
JOBS = 20
WORK = 2.0 * 3600
INTERVAL = 600.0
BEAT = 60.0
NOTICE = 120.0
SPOT, ON_DEMAND = 1.0, 3.0


@dataclass
class Run:
    """A run on its machine: the work behind its checkpoint, and the work up to now."""

    job_id: int
    managed: dict[str, Any]
    begun_at: float
    base: float
    stored: float

    def done(self, now: float) -> float:
        return self.base + now - self.begun_at


class Market(MortalControlPlane):
    """``up`` says of each zone, tick by tick, whether spot machines can be had. Every second machine that is
    taken gets EC2's notice by the event bus, the others go without a word."""

    def __init__(self, folder: Path, up: dict[str, list[int]], tick: float) -> None:
        super().__init__(folder, CrashPoints())
        self.compute._offers = [offer(zone, SPOT + at / 100, spot=True) for at, zone in enumerate(up)]
        self.compute.lag = 45.0
        self.beat_seconds = BEAT
        self.up, self.tick = up, tick
        self.runs: dict[str, Run] = {}
        self.dying: dict[str, float] = {}
        self.after: dict[str, int] = {}
        self.lost_work: list[float] = []
        self.taken: list[tuple[str, str]] = []
        self.zones: dict[str, str] = {}
        self.reached: list[float] = []

    def is_up(self, zone: str, moment: float) -> bool:
        at = int((moment - START) // self.tick)
        return at < len(self.up[zone]) and bool(self.up[zone][at])

    def _zone_of(self, machine_id: str) -> str:
        if machine_id not in self.zones:
            for asked in self.compute.requests:
                for one in self.compute.gangs[asked.token]:
                    self.zones[one] = str(asked.offer.zone)
        return self.zones[machine_id]

    def _machines_call(self) -> None:
        now = self.clock.now()
        self.compute.full = {zone for zone in self.up if not self.is_up(zone, now)}
        for number, machine in enumerate(list(self.compute.machines.values())):
            if self.compute.state(machine.id) is not MachineState.RUNNING:
                continue
            zone = self._zone_of(machine.id)
            if zone in self.compute.full:
                self._take(machine.id)
                continue
            if number % 2 and not self.is_up(zone, now + NOTICE) and machine.id not in self.dying:
                self.dying[machine.id] = now + NOTICE
                self._announce(machine.id)
            self._agent(machine.id)

    def _announce(self, machine_id: str) -> None:
        """EventBridge's event, as the rule's transformer makes it."""
        event = {
            "action": "machine_event",
            "cloud": "fake",
            "region": "north",
            "kind": "EC2 Spot Instance Interruption Warning",
            "time": "",
            "machine_id": machine_id,
        }
        assert self.functions.invoke("recover", event)["outcome"] == "NOTICED"
        run = self.runs.get(machine_id)
        if run is not None and machine_id in self.joined:
            # Its agent tells the task, which stores its work and ends.
            who = self.joined[machine_id][1]
            self._store(who, run)
            self.lost_work.append(run.done(self.clock.now()) - run.stored)
            self._end(who, run, "FAILED_DRIVER", reason="the cloud takes this machine")
            self.taken.append((machine_id, self._zone_of(machine_id)))
            del self.runs[machine_id]

    def _take(self, machine_id: str) -> None:
        self.compute.become(machine_id, MachineState.TERMINATED, "spot capacity was reclaimed")
        run = self.runs.pop(machine_id, None)
        if run is not None:
            self.lost_work.append(run.done(self.clock.now()) - run.stored)
            self.taken.append((machine_id, self._zone_of(machine_id)))

    def _agent(self, machine_id: str) -> None:
        machine = self.compute.machines[machine_id]
        try:
            _, who = self.joined.get(machine_id, (None, None))
            if who is None:
                told = {"machine_id": machine_id, "address": "10.0.0.1", "peer_port": 7000}
                answer = join_nodes.join(self.world, machine.join_token, told)
                who = NodePrincipal(WORKSPACE, answer["cluster_id"], answer["rank"])
                self.joined[machine_id] = machine.arrives_at, who
            run = self.runs.get(machine_id)
            if run is not None:
                self._work(machine_id, who, run)
            else:
                agents.report(self.world, who, {"idle_since": None, "jobs": []})
            if machine_id not in self.dying:
                after = {"after": self.after.get(machine_id, 0)}
                for command in agents.commands(self.world, who, after)[0]["commands"]:
                    self.after[machine_id] = command["seq"]
                    if command["type"] == "run":
                        self._begin_run(machine_id, who, command["job"])
        except StixError:
            return  # not ready, or gone: the agent calls again

    def _begin_run(self, machine_id: str, who: NodePrincipal, spec: dict[str, Any]) -> None:
        restored = checkpoints.exchange(self.world, who, {"job": spec["id"], "rank": 0, "restore": True})
        done = float(restored["done"])
        self.runs[machine_id] = Run(spec["id"], spec["managed"], self.clock.now(), done, done)
        entry = {"id": spec["id"], "status": "RUNNING", "started_at": self.clock.now()}
        agents.report(self.world, who, {"idle_since": None, "jobs": [entry]})

    def _work(self, machine_id: str, who: NodePrincipal, run: Run) -> None:
        done = run.done(self.clock.now())
        if done >= WORK:
            self.reached.append(done)
            self._end(who, run, "SUCCEEDED", exit_codes=[0])
            del self.runs[machine_id]
            return
        if done - run.stored >= INTERVAL - BEAT:
            self._store(who, run)
        agents.report(self.world, who, {"idle_since": None, "jobs": []})

    def _store(self, who: NodePrincipal, run: Run) -> None:
        run.stored = run.done(self.clock.now())
        data = json.dumps({"done": run.stored, "job": run.managed["job"]}).encode()
        about = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        base = {"job": run.job_id, "rank": 0}
        put = checkpoints.exchange(self.world, who, base | {"manifest": about})["manifest_put"]
        path, _, query = put["url"].removeprefix("http://api").partition("?")
        allowed = self.objects.open_signed("PUT", path, query, self.clock.now())
        self.objects.put(allowed.key, data)
        checkpoints.exchange(self.world, who, base | {"commit": about | {"done": run.stored}})

    def _end(self, who: NodePrincipal, run: Run, status: str, **about: Any) -> None:
        entry = {"id": run.job_id, "status": status, "ended_at": self.clock.now(), **about}
        agents.report(self.world, who, {"idle_since": None, "jobs": [entry]})
        end = {"job": run.job_id, "rank": 0, "chunks": 0, "bytes": {}, "sha256": {}}
        logs.ship(self.world, who, {"finished": [end]})

    def all_jobs(self) -> list[ManagedJob]:
        return [get_job(self.reading, WORKSPACE, number) for number in range(1, JOBS + 1)]


def replay(folder: Path, up: dict[str, list[int]], tick: float) -> Iterator[Market]:
    market = Market(folder, up, tick)
    try:
        for _ in range(JOBS):
            submit(market.world, ANN, request(), None)
        market.until(lambda: all(job.status.terminal for job in market.all_jobs()), hours=72)
        market.until(lambda: not market.live(), hours=6)
        yield market
    finally:
        market.close()


def check(market: Market) -> None:
    jobs = market.all_jobs()
    assert [str(job.status) for job in jobs] == ["SUCCEEDED"] * JOBS
    assert len(market.taken) >= 20
    assert sum(job.tasks[0].recoveries for job in jobs) >= len(market.taken)
    assert market.compute.alive() == []
    # A beat is how late a played agent may look.
    assert max(market.lost_work) <= INTERVAL + BEAT
    assert min(market.reached) >= WORK
    check_places(market)
    spent = sum(
        entry.seconds(market.clock.now()) / 3600 * entry.price
        for entry in entries_since(market.reading, WORKSPACE, 0.0)
    )
    paid = JOBS * WORK / 3600 * ON_DEMAND
    print(
        f"{JOBS} jobs of {WORK / 3600:g} h, {len(market.taken)} preemptions, "
        f"{sum(market.lost_work) / len(market.lost_work):.0f} s of work lost each: "
        f"{spent:.2f} USD, {spent / paid:.0%} of {paid:.2f} USD on demand"
    )
    assert spent < paid


def check_places(market: Market) -> None:
    """A job goes back to the place it has just lost only where every other one refused within the hour."""
    zones = {
        asked.tags["stix-cluster"]: (asked.offer.zone, at) for at, asked in enumerate(market.compute.requests)
    }
    assert zones
    returned = moved = 0
    for job in market.all_jobs():
        events = child_records(market.reading, JobEvent, WORKSPACE, f"{job.id:010d}")
        lost = ""
        for event in events:
            if event.name == "JobPreempted":
                lost = event.place
            elif event.name == "JobRecovered" and lost:
                if event.place != lost:
                    moved += 1
                    continue
                returned += 1
                others = [zone for zone in market.up if not lost.endswith(f"/{zone}")]
                for zone in others:
                    hour = [event.at - back for back in range(0, 3601, 60)]
                    assert not all(market.is_up(zone, moment) for moment in hour), (job.id, event)
    assert moved > returned


def test_twenty_jobs_end_well_while_their_zones_come_and_go(tmp_path: Path) -> None:
    traces = {name: read_trace(TRACES / f"north-{name}.json") for name in "abc"}
    up = {name: list(trace.counts) for name, trace in traces.items()}
    for market in replay(tmp_path, up, 600.0):
        check(market)


@pytest.mark.soak
@pytest.mark.skipif(not PUBLIC.is_dir(), reason="the public spot traces are not beside this clone")
def test_twenty_jobs_end_well_on_a_published_trace(tmp_path: Path) -> None:
    files = (
        sorted(PUBLIC.rglob("us-west-2*_v100_1.json"))[:2] + sorted(PUBLIC.rglob("us-west-2a_k80_8.json"))[:1]
    )
    if len(files) < 3:
        pytest.skip("the traces of three zones are not there")
    up = {name: list(read_trace(file).counts) for name, file in zip("abc", files, strict=True)}
    for market in replay(tmp_path, up, 600.0):
        check(market)
