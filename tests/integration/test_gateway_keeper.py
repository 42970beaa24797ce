"""The gateway beside the embedded control plane: there while a service is, whoever starts, stops or dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from stix.agent.archive import build_archive
from stix.local.gateway_keeper import GatewayKeeper
from tests.integration.gateway_world import ReplicaProcess, get, has_haproxy
from tests.ports import free_port
from tests.unit.world import WORKSPACE, ControlPlane
from tests.waiting import eventually

pytestmark = has_haproxy


class Keeping:
    """A control plane that is started and stopped over one folder; ``services`` is what it reads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "gateway"
        self.plane = ControlPlane(folder)
        self.services: list[dict[str, Any]] = []
        self.keeper: GatewayKeeper | None = None
        self.port = free_port()
        self.archive = folder / "agent.pyz"

    def start(self) -> None:
        self.keeper = GatewayKeeper(
            self.folder, self.plane.world, WORKSPACE, self.archive, self._build, lambda *_: self._view()
        )
        self.keeper.start()

    def stop(self) -> None:
        if self.keeper is not None:
            self.keeper.stop()
        self.keeper = None

    def show(self, *replicas: dict[str, Any]) -> None:
        service = {"name": "chat", "port": self.port, "wait_seconds": 60, "replicas": list(replicas)}
        self.services = [service] if replicas else []
        assert self.keeper is not None
        self.keeper.wake()

    def answers(self, text: str) -> Callable[[], bool]:
        def answers() -> bool:
            try:
                return get(f"http://127.0.0.1:{self.port}/who").text == text
            except httpx.HTTPError:
                return False

        return answers

    def processes(self) -> set[int]:
        """The supervisor and HAProxy, from the folder in their command line or their own."""
        found = set()
        for one in psutil.process_iter(["cmdline", "cwd", "status"]):
            mine = str(self.folder) in " ".join(one.info["cmdline"] or ())
            mine |= (one.info["cwd"] or "").startswith(str(self.folder))
            if mine and one.info["status"] != psutil.STATUS_ZOMBIE:
                found.add(one.pid)
        return found

    def supervisor(self) -> int:
        """0 where a new one begins just now."""
        return int((self.folder / "state" / "lock").read_text() or 0)

    def kill_supervisor(self) -> int:
        """Its pid, which is never 0: that would be all of these tests."""
        pid = int(eventually(self.supervisor))
        os.kill(pid, signal.SIGKILL)
        return pid

    def _build(self) -> None:
        build_archive(self.archive)

    def _view(self) -> dict[str, Any]:
        return {"version": 1, "services": self.services}


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[Keeping]:
    made = Keeping(tmp_path)
    yield made
    if made.keeper is None:
        made.start()
    made.show()
    eventually(lambda: not made.processes())
    made.stop()
    made.plane.close()


@pytest.fixture
def replica() -> Iterator[ReplicaProcess]:
    made = ReplicaProcess("one")
    yield made
    made.kill()


def test_gateway_runs_only_while_there_is_a_service(keeping: Keeping, replica: ReplicaProcess) -> None:
    keeping.start()
    assert keeping.processes() == set()
    keeping.show(replica.entry())
    eventually(keeping.answers("one"))
    keeping.show()
    eventually(lambda: not keeping.processes())
    eventually(lambda: not (keeping.folder / "view.json").exists())
    assert (keeping.folder / "state" / "access.log").exists()


def test_gateway_serves_on_while_the_control_plane_is_stopped_and_is_taken_over(
    keeping: Keeping, replica: ReplicaProcess
) -> None:
    keeping.start()
    keeping.show(replica.entry())
    eventually(keeping.answers("one"))
    before = keeping.supervisor()
    keeping.stop()
    assert keeping.answers("one")()
    keeping.start()
    keeping.show(replica.entry(id="two"))
    status = keeping.folder / "state" / "status.json"
    eventually(lambda: '"two"' in status.read_text())
    assert keeping.answers("one")()
    assert keeping.supervisor() == before


def test_gateway_is_started_again_when_it_was_killed(keeping: Keeping, replica: ReplicaProcess) -> None:
    keeping.start()
    keeping.show(replica.entry())
    eventually(keeping.answers("one"))
    before = keeping.kill_supervisor()
    assert keeping.answers("one")(), "HAProxy goes on without its supervisor"
    eventually(lambda: keeping.supervisor() not in (0, before) and keeping.answers("one")())


def test_gateway_ends_with_its_service_when_its_supervisor_was_killed(
    keeping: Keeping, replica: ReplicaProcess
) -> None:
    keeping.start()
    keeping.show(replica.entry())
    eventually(keeping.answers("one"))
    keeping.stop()
    keeping.kill_supervisor()
    keeping.services = []
    keeping.start()
    eventually(lambda: not keeping.processes())
