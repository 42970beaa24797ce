"""A real gateway on the loopback interface, and replicas to put behind it."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from stix.gateway import publish_view, read_status
from tests.ports import free_port
from tests.waiting import PATIENCE, eventually

REPLICA = Path(__file__).with_name("replica_double.py")
_SOURCES = str(Path(__file__).parents[2] / "shared")
has_haproxy = pytest.mark.skipif(
    shutil.which("haproxy", path=os.environ["PATH"] + ":/usr/sbin") is None,
    reason="HAProxy is not installed (Debian's package haproxy)",
)

get = functools.partial(httpx.get, timeout=PATIENCE)


class ReplicaProcess:
    """One replica; ``entry`` is its place in a view."""

    def __init__(self, name: str, port: int | None = None, **fields: Any) -> None:
        self.name, self.port = name, port or free_port()
        self.fields = fields
        self._process = subprocess.Popen([sys.executable, str(REPLICA), str(self.port), name])
        self.url = f"http://127.0.0.1:{self.port}"
        eventually(self._answers)

    def entry(self, **changed: Any) -> dict[str, Any]:
        return {"id": self.name, "address": "127.0.0.1", "port": self.port, **self.fields, **changed}

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/who").status_code == 200
        return False

    def release(self, count: int = 1) -> None:
        """Lets go so many requests for /hold."""
        get(f"{self.url}/release/{count}")


class GatewayProcess:
    """``python -m stix.gateway`` in a folder, with one service ``chat`` or those of ``show``."""

    def __init__(self, folder: Path) -> None:
        self.state, self.view = folder / "state", folder / "view.json"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.version = 0
        self._replicas: list[ReplicaProcess] = []
        self.supervisor: subprocess.Popen[bytes] | None = None

    def start(self, *options: str, python: str = sys.executable) -> GatewayProcess:
        command = [python, "-m", "stix.gateway", "--view", str(self.view), "--state", str(self.state)]
        self.supervisor = subprocess.Popen(
            [*command, "--bind", "127.0.0.1", *options], env={**os.environ, "PYTHONPATH": _SOURCES}
        )
        return self

    def replica(self, name: str, **fields: Any) -> ReplicaProcess:
        self._replicas.append(ReplicaProcess(name, **fields))
        return self._replicas[-1]

    def show(self, *replicas: dict[str, Any], wait: bool = True, **fields: Any) -> None:
        """The service ``chat`` with these replicas; returns when each is as wanted."""
        service = {
            "name": "chat",
            "port": self.port,
            "wait_seconds": 30,
            **fields,
            "replicas": list(replicas),
        }
        self.show_services(service)
        if wait:
            for one in replicas:
                if one.get("state") != "draining":
                    self.await_state(one["id"], "ready")

    def show_services(self, *services: dict[str, Any]) -> None:
        self.version += 1
        publish_view(str(self.view), {"version": self.version, "services": list(services)})
        if self.supervisor is None:
            self.start()
        eventually(lambda: self.status().get("view_version") == self.version)

    def status(self) -> dict[str, Any]:
        return read_status(str(self.state)) or {}

    def chat(self) -> dict[str, Any]:
        found: dict[str, Any] = self.status()["services"]["chat"]
        return found

    def await_state(self, replica: str, *states: str) -> dict[str, Any]:
        def as_wanted() -> Any:
            one = self.chat()["replicas"].get(replica, {})
            return one.get("state") in states and one

        found: dict[str, Any] = eventually(as_wanted)
        return found

    @contextlib.contextmanager
    def holding(self, count: int = 1, method: str = "GET") -> Iterator[list[Future[httpx.Response]]]:
        """So many requests that are in progress until their replicas release them; at the end all do."""
        with ThreadPoolExecutor(count) as pool:
            try:
                ask = functools.partial(httpx.request, method, f"{self.url}/hold", timeout=PATIENCE)
                yield [pool.submit(ask) for _ in range(count)]
            finally:
                for one in self._replicas:
                    with contextlib.suppress(httpx.HTTPError):
                        one.release(count)

    def await_looks(self, count: int = 3) -> None:
        """Returns when the supervisor has looked at everything so often again, and has told of it."""
        for _ in range(count):
            told = self.status()["at"]
            eventually(lambda: self.status()["at"] > told)  # noqa: B023

    @property
    def haproxy_pid(self) -> int:
        return int(self.status()["haproxy"]["pid"])

    def kill_supervisor(self) -> None:
        assert self.supervisor is not None
        self.supervisor.kill()
        self.supervisor.wait()

    def finish(self) -> None:
        """Ends everything, and sees that nothing is left."""
        pid = (self.status().get("haproxy") or {}).get("pid")
        if self.supervisor is not None and self.supervisor.poll() is None:
            self.supervisor.send_signal(signal.SIGTERM)
            self.supervisor.wait(PATIENCE)
        for one in self._replicas:
            one.kill()
        if pid:
            left = _is_haproxy(pid)
            if left:
                os.kill(pid, signal.SIGKILL)
            assert not left, "HAProxy was left behind"


def _is_haproxy(pid: int) -> bool:
    """Not so for a process that was given its number since."""
    try:
        process = psutil.Process(pid)
        return process.name() == "haproxy" and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    made = GatewayProcess(tmp_path)
    yield made
    made.finish()
