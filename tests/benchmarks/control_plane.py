"""An embedded control plane of its own for one benchmark, taken down with everything it started."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from stix.local.daemon import ensure_running, status, stop
from stix.sdk.client import Client
from stix.sdk.endpoint import Endpoint
from stix.sdk.follow import follow_operation

from .processes import stix

_FINAL = frozenset({"SUCCEEDED", "FAILED", "FAILED_SETUP", "FAILED_DRIVER", "CANCELLED"})


class LeftOverError(Exception):
    """Something still runs after everything was taken down."""


def clean_environment(home: Path) -> dict[str, str]:
    """This process's, for a home of its own; compiled modules are kept, as they are on a person's machine."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("STIX_", "PYTHON")) and name != "NO_COLOR"
    }
    return kept | {"STIX_HOME": str(home)}


@dataclass(frozen=True)
class ControlPlane:
    """A running one; ``client`` is used by one benchmark at a time."""

    home: Path
    environ: dict[str, str]
    endpoint: Endpoint
    client: Client

    @property
    def process(self) -> psutil.Process:
        found = status(self.home)
        assert found is not None
        return psutil.Process(found.pid)

    def stix(self, *arguments: str) -> Any:
        return stix(arguments, self.environ)

    def launch(self, cluster: str, *, num_nodes: int = 1, run: str | None = None) -> int | None:
        """Wait until the cluster is UP; the id of the job, where a task was given to run."""
        task: dict[str, Any] = {"num_nodes": num_nodes}
        if run is not None:
            task["run"] = run
        accepted = self.client.launch({"task": task, "cluster": cluster})
        self.expect(accepted["operation_id"])
        return accepted["job_id"]

    def submit(self, cluster: str, run: str, *, num_nodes: int = 1, follow: bool = False) -> int:
        task = {"num_nodes": num_nodes, "run": run}
        return self.client.exec(cluster, {"task": task, "follow": follow})["job_id"]

    def down(self, cluster: str) -> None:
        self.expect(self.client.down(cluster)["operation_id"])

    def expect(self, operation_id: str) -> None:
        operation = follow_operation(self.client, operation_id, lambda _line: None)
        if operation["status"] != "SUCCEEDED":
            raise RuntimeError(f"the {operation['kind']} ended {operation['status']}: {operation['error']}")

    def await_jobs(self, cluster: str, job_ids: Sequence[int]) -> dict[int, str]:
        """The final status of each, once all have one."""
        while True:
            found = {job["id"]: job["status"] for job in self.client.jobs(cluster) if job["id"] in job_ids}
            if all(found.get(job_id) in _FINAL for job_id in job_ids):
                return found
            time.sleep(0.2)

    def machines(self) -> dict[str, psutil.Process]:
        """The first process of every machine, by the machine's id."""
        found = {}
        for file in sorted(self.home.glob("nodes/*/agent/machine.pid")):
            pid = int(json.loads(file.read_text(encoding="utf-8"))["pid"])
            found[file.parent.parent.name] = psutil.Process(pid)
        return found

    def agents(self) -> dict[str, psutil.Process]:
        """The agent of every machine, which the machine's first process started; by the machine's id."""
        return {
            name: next(child for child in machine.children() if "agent" in child.cmdline())
            for name, machine in self.machines().items()
        }

    def node_token(self, machine_id: str) -> str:
        """What its agent authenticates with, to speak in its place."""
        identity = self.home / "nodes" / machine_id / "agent" / "identity.json"
        return str(json.loads(identity.read_text(encoding="utf-8"))["node_token"])


@contextmanager
def control_plane() -> Iterator[ControlPlane]:
    """Raises ``LeftOverError`` at the end if a process outlives the teardown (and ends it)."""
    with tempfile.TemporaryDirectory(prefix="stix-bench-") as folder:
        home = Path(folder) / "home"
        environ = clean_environment(home)
        stix(["api", "start"], environ)
        found = ensure_running(home)
        endpoint = Endpoint(found.url, found.token)
        try:
            with Client(endpoint) as client:
                plane = ControlPlane(home, environ, endpoint, client)
                try:
                    yield plane
                finally:
                    _take_down(plane)
        finally:
            stop(home)
            _end_left_over(folder)


def _take_down(plane: ControlPlane) -> None:
    operations = [plane.client.down(cluster["name"])["operation_id"] for cluster in plane.client.clusters()]
    for operation in operations:
        plane.expect(operation)


def _end_left_over(folder: str) -> None:
    """Processes take a moment to be gone after the answer that they are being ended."""
    deadline = time.monotonic() + 5
    while left := _processes_of(folder):
        if time.monotonic() > deadline:
            for process in left:
                with suppress(psutil.Error):
                    process.kill()
            raise LeftOverError(f"left over: {[process.pid for process in left]}")
        time.sleep(0.1)


def _processes_of(folder: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        with suppress(psutil.Error):
            words = [*process.cmdline(), *process.environ().values()]
            if process.status() != psutil.STATUS_ZOMBIE and any(word.startswith(folder) for word in words):
                found.append(process)
    return found
