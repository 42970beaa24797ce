"""A service as a person has it: real commands, control plane, agents, replicas, HAProxy, and real clients.

``make soak`` has the full sizes: 20,000 requests and 200 open streams during the rolls, and a control plane
that is away for five minutes.
"""

from __future__ import annotations

import itertools
import json
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from stix.local.daemon import status
from tests.e2e.embedded import ROOT, EmbeddedHome, await_that, command_of
from tests.e2e.serving_load import Load, Record
from tests.integration.gateway_world import has_haproxy

pytestmark = [has_haproxy, pytest.mark.xdist_group("e2e-serving")]

EXAMPLE = ROOT / "docs" / "examples" / "generate.yaml"


@dataclass(frozen=True)
class Size:
    requests: int
    workers: int
    streams: int
    away_seconds: float


SAMPLE = Size(requests=2_000, workers=6, streams=20, away_seconds=3)
FULL = Size(requests=20_000, workers=12, streams=200, away_seconds=300)


class Served:
    """The example as the service ``generate``, with delays of two seconds."""

    def __init__(self, home: EmbeddedHome, folder: Path, **policy: Any) -> None:
        self.home, self.folder, self.policy = home, folder, policy

    def task(self, version: int) -> str:
        task = yaml.safe_load(EXAMPLE.read_text())
        task["service"] = {
            "readiness_probe": {
                "path": "/health",
                "initial_delay_seconds": 90,
                "endpoint_probe_interval_seconds": 1,
                "consecutive_failure_threshold_timeout": 2,
            },
            "replica_policy": {"upscale_delay_seconds": 2, "downscale_delay_seconds": 2, **self.policy},
        }
        task["envs"] = {"VERSION": str(version)}
        # Many streams are to be open, not to be fast.
        task["run"] = task["run"].replace("--port 8000", "--port 8000 --tokens-per-second 10")
        file = self.folder / f"generate-{version}.yaml"
        file.write_text(yaml.safe_dump(task))
        return str(file)

    def up(self) -> None:
        self.home.stix("serve", "up", "-y", "-n", "generate", self.task(1))

    def update(self, version: int, mode: str) -> None:
        self.home.stix("serve", "update", "-y", "--mode", mode, "generate", self.task(version))

    def status(self) -> dict[str, Any]:
        if status(self.home.folder) is None:
            self.home.stix("serve", "status")  # Any command starts the control plane again.
        with self.home.client() as client:
            return dict(client.service("generate"))

    def addresses(self) -> list[tuple[str, int]]:
        found = [httpx.URL(one) for one in self.status()["endpoints"]]
        return [(url.host, url.port or 0) for url in found]

    def replicas(self, status: str = "READY") -> dict[int, dict[str, Any]]:
        return {one["id"]: one for one in self.status()["replicas"] if one["status"] == status}

    def await_replicas(self, number: int, version: int = 1, *, without: tuple[int, ...] = ()) -> None:
        """Exactly so many, of that version alone."""

        def there() -> bool:
            shown = [one for one in self.status()["replicas"] if one["ended_at"] is None]
            ready = [one for one in shown if one["status"] == "READY" and one["version"] == version]
            return len(shown) == len(ready) == number and not {one["id"] for one in shown} & set(without)

        await_that(f"{number} replicas of version {version}", there, every=0.5)

    def machines(self, *clusters: str) -> list[str]:
        shown = json.loads(self.home.stix("status", "-v", "-o", "json").stdout)["clusters"]
        return [
            node["machine_id"]
            for one in shown
            if one["name"] in clusters or one["owner"] in clusters
            for node in one["nodes"]
        ]


def kill_machine(home: EmbeddedHome, machine: str) -> None:
    """As if its power went: all its processes at once."""
    roots = [one for one in home.processes() if f"/{machine}/" in f"{' '.join(command_of(one))}/"]
    killed = list(roots)
    # Whoever starts others anew stands still before these are looked for.
    for root in roots:
        with suppress(psutil.NoSuchProcess):
            root.suspend()
    for root in roots:
        with suppress(psutil.NoSuchProcess):
            killed += root.children(recursive=True)
    for process in killed:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    await_that("they have ended", lambda: not any(_lives(process) for process in killed))


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def home(tmp_path: Path) -> Iterator[EmbeddedHome]:
    made = EmbeddedHome(tmp_path / "home")
    yield made
    made.stix("serve", "down", "-y", "-a")
    made.finish()


def assert_none_failed(record: Record) -> None:
    failed = record.failed
    assert not failed, f"{len(failed)} of {record.count()} failed: {failed[:5]}"


def live(served: Served, size: Size) -> None:
    home = served.home
    served.up()
    assert served.replicas() == {}
    (address,) = served.addresses()
    await_that("its gateway listens", lambda: _listens(*address))
    first = httpx.get(f"http://{address[0]}:{address[1]}/generate?tokens=4", timeout=120)
    assert first.json()["version"] == "1"
    served.await_replicas(1)

    load = Load([address], workers=size.workers, streams=size.streams, tokens=50)
    served.await_replicas(4)
    lose_replicas(served)

    # Rolls, under load that began before and ends after them.
    kept = Load([address], workers=size.workers, streams=size.streams + size.streams // 5, tokens=50)
    assert_only_interrupted(load.finish(), most=2 * (size.workers + size.streams))
    version = roll(served, kept.record, size.requests)
    # One that has ended is opened anew, so that all of them are seldom open.
    await_that("the streams are open", lambda: kept.open_streams >= size.streams)

    # Nobody is there to look after it.
    assert home.kill_server()
    before = kept.record.count()
    time.sleep(size.away_seconds)
    await_that("requests are answered", lambda: kept.record.count() > before + size.away_seconds)
    record = kept.finish()
    assert_none_failed(record)
    assert record.count("POST") > size.requests // 6
    assert set(record.versions()) == {str(one) for one in range(1, version + 1)}

    # It catches up: one client is left, and then none.
    last = Load([address], streams=1, tokens=80)
    served.await_replicas(1, version=version)
    assert_none_failed(last.finish())
    served.await_replicas(0)


def roll(served: Served, record: Record, requests: int) -> int:
    """New versions one after the other, both ways, until so many requests beside the streams were answered
    during the rolls; the last version."""
    during = 0
    for version in itertools.count(2):
        before = record.count("GET") + record.count("POST")
        served.update(version, "blue_green" if version % 2 else "rolling")
        served.await_replicas(4, version=version)
        during += record.count("GET") + record.count("POST") - before
        print(f"{during} requests during {version - 1} rolls")
        if during >= requests and version >= 3:
            return version
    raise AssertionError("unreachable")


def lose_replicas(served: Served) -> None:
    """A replica's agent and all its processes are killed; then two at once, as a zone goes."""
    replicas = list(served.replicas().values())
    for lost in (replicas[:1], replicas[1:3]):
        for machine in served.machines(*(one["cluster"] for one in lost)):
            kill_machine(served.home, machine)
        served.await_replicas(4, without=tuple(one["id"] for one in lost))


def assert_only_interrupted(record: Record, most: int) -> None:
    """Of lost replicas only what they were answering is lost: streams, and POSTs, which nobody repeats. All
    clients together have ``most`` of these at the moments of both losses."""
    lost = [one for one in record.outcomes if one.problem]
    assert [one for one in lost if one.kind == "GET"] == []
    assert len(lost) <= most


def comes_down(served: Served) -> None:
    home = served.home
    home.stix("serve", "down", "-y", "generate")
    await_that(
        "the service is gone", lambda: "generate" not in home.stix("serve", "status").stdout, every=0.5
    )
    await_that("its machines and its gateway are gone", lambda: not _left(home))
    # The last steps come after the last process.
    await_that(
        "nothing is live", lambda: not [one for one in home.live_items() if one.key.kind != "operation"]
    )


def _left(home: EmbeddedHome) -> list[psutil.Process]:
    return [one for one in home.processes() if one.pid != home.server_pid()]


def test_service_serves_from_its_first_request_to_its_end(home: EmbeddedHome, tmp_path: Path) -> None:
    served = Served(home, tmp_path, min_replicas=0, max_replicas=4, target_queue_length=5)
    live(served, SAMPLE)
    comes_down(served)


@pytest.mark.soak
def test_service_serves_from_its_first_request_to_its_end_at_full_size(
    home: EmbeddedHome, tmp_path: Path
) -> None:
    served = Served(home, tmp_path, min_replicas=0, max_replicas=4, target_queue_length=50)
    live(served, FULL)
    comes_down(served)


@pytest.fixture
def gateway_home(tmp_path: Path) -> Iterator[EmbeddedHome]:
    settings = {"STIX_GATEWAY_NODES": "2", "STIX_GATEWAY_INFRA": "local", "STIX_REPORT_SECONDS": "2"}
    made = EmbeddedHome(tmp_path / "home", **settings)
    yield made
    made.stix("serve", "down", "-y", "-a")
    made.finish()


def lose_a_gateway(served: Served) -> list[str]:
    """The machines of the gateways that were; the first of them is killed under load."""
    served.up()
    await_that("both gateways are up", lambda: len(served.status()["endpoints"]) == 2, every=0.5)
    served.await_replicas(1)
    addresses = served.addresses()
    for host, port in addresses:
        await_that("it serves", lambda host=host, port=port: _serves(host, port), every=0.2)  # type: ignore[misc]
    machines = served.machines("gateways")
    assert len(machines) == 2
    load = Load(addresses, workers=4, streams=4, tokens=30)
    await_that("requests", lambda: load.record.count() > 100)
    kill_machine(served.home, machines[0])
    await_that("more requests", lambda: load.record.count() > 500)
    record = load.finish()
    times = Counter(one.client for one in record.failed)
    assert max(times.values(), default=0) <= 1, "only what was under way at the killed gateway"
    return machines


def _listens(host: str, port: int) -> bool:
    with socket.socket() as stream:
        return stream.connect_ex((host, port)) == 0


def _serves(host: str, port: int) -> bool:
    try:
        return httpx.get(f"http://{host}:{port}/health", timeout=30).status_code == 200
    except httpx.TransportError:
        return False


def test_service_is_reached_when_one_of_two_gateways_is_killed(
    gateway_home: EmbeddedHome, tmp_path: Path
) -> None:
    served = Served(gateway_home, tmp_path, min_replicas=1)
    lose_a_gateway(served)
    comes_down(served)


@pytest.mark.soak
def test_gateway_is_replaced_when_it_was_killed(gateway_home: EmbeddedHome, tmp_path: Path) -> None:
    served = Served(gateway_home, tmp_path, min_replicas=1)
    before = lose_a_gateway(served)

    def replaced() -> bool:
        now = served.machines("gateways")
        return len(now) == 2 and before[0] not in now and len(served.status()["endpoints"]) == 2

    await_that("the gateway is replaced", replaced, seconds=300, every=1)
    for host, port in served.addresses():
        await_that("it serves", lambda host=host, port=port: _serves(host, port), every=0.2)  # type: ignore[misc]
    comes_down(served)
