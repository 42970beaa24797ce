"""The worlds that the provider contract runs in: one per cloud, with the faults that its cases ask for."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

from stix.agent.archive import build_archive
from stix.clouds.local import CLOUD, REGION, Host, LocalCompute
from stix.clouds.local.cgroups import Groups
from stix.clouds.local.node import Nodes
from stix.model.offer import Offer
from stix.ports.compute import Compute, GangRequest, Machine, MachineState, Place

# The real init runs this instead of the real agent: a script that the test hands over in the config.
_SCRIPTED_AGENT = """
import json, os, signal, subprocess
def run_agent(path):
    with open(path) as stream:
        config = json.load(stream)
    home, script = config["home_dir"], config.get("payload", "")
    environment = {"PATH": os.environ["PATH"], "HOME": home, "TMPDIR": os.environ["TMPDIR"]}
    if script:
        subprocess.Popen(["/bin/sh", "-c", script], cwd=home, env=environment, start_new_session=True)
    while True:
        signal.pause()
"""
_DEADLINE_SECONDS = 60.0


def until(condition: Callable[[], Any], what: str = "") -> Any:
    """The condition's first true value; fails after a deadline that only a hang can reach."""
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"it never came true: {what or condition}")
        time.sleep(0.01)
    return value


class MovableClock:
    """The real time, moved on by as much as a test wants."""

    def __init__(self) -> None:
        self.moved = 0.0

    def now(self) -> float:
        return time.time() + self.moved


class ComputeWorld(Protocol):
    """One cloud for one test."""

    place: Place

    def compute(self, *, deployment: str = "dep") -> Compute:
        """A new adapter, as after a restart of the control plane."""
        ...

    def request(self, token: str, count: int = 1, **changes: Any) -> GangRequest: ...

    def greedy_request(self, token: str) -> GangRequest:
        """More than the place has."""
        ...

    def breaks_at(self, index: int, error: BaseException) -> Any:
        """While entered, making the machine with that index in its gang raises ``error``."""
        ...

    def close(self) -> None: ...


class LocalWorld:
    place = Place(CLOUD, REGION)

    def __init__(self, folder: Path, archive: Path) -> None:
        self.root = folder / "root"
        self.claims = folder / "claims"
        self.archive = archive
        self.clock = MovableClock()
        self.api_url_file = folder / "url"
        self.api_url_file.write_text("http://127.0.0.1:1")
        self.host: Callable[[], Host] = lambda: Host(cpus=4, memory_gib=8)

    def compute(
        self,
        *,
        deployment: str = "dep",
        root: Path | None = None,
        payload: str = "",
        groups: Callable[[], Groups] = Groups,
        grace_seconds: float = 8.0,
    ) -> LocalCompute:
        return LocalCompute(
            root or self.root,
            deployment=deployment,
            archive=lambda: self.archive,
            api_url_file=self.api_url_file,
            clock=self.clock,
            host=self.host,
            groups=groups,
            claims_folder=self.claims,
            agent_settings={"payload": payload},
            grace_seconds=grace_seconds,
        )

    def request(
        self,
        token: str,
        count: int = 1,
        tags: Mapping[str, str] | None = None,
        deployment: str = "dep",
        **offer: Any,
    ) -> GangRequest:
        asked = {"cloud": CLOUD, "region": REGION, "vcpus": 1, "memory_gib": 0.5, "price": 0, **offer}
        return GangRequest(
            token=token,
            count=count,
            offer=Offer(instance_type="test", **asked),
            tags={
                "stix-deployment": deployment,
                "stix-cluster": f"c-{token}",
                "stix-intent": token,
                **(tags or {}),
            },
            join_token="join",
            api_url="",
            boot_seconds=60,
        )

    def greedy_request(self, token: str) -> GangRequest:
        return self.request(token, vcpus=64)

    @contextmanager
    def breaks_at(self, index: int, error: BaseException) -> Iterator[None]:
        real = Nodes.start

        def start(self: Nodes, folder: Path, record: Any) -> Any:
            if record.index == index:
                raise error
            return real(self, folder, record)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Nodes, "start", start)
            yield

    def folder(self, machine_id: str) -> Path:
        return self.root / "nodes" / machine_id

    def close(self) -> None:
        compute = self.compute(grace_seconds=0.0)
        nodes = self.root / "nodes"
        ids = [entry.name for entry in nodes.iterdir() if entry.name[0] != "."] if nodes.exists() else []
        compute.terminate(self.place, ids)
        until(
            lambda: all(m.state is MachineState.TERMINATED for m in compute.describe(self.place, ids)),
            "the end",
        )


def build_scripted_archive(destination: Path) -> Path:
    """The agent's zipapp with its real init and a scripted agent in it."""
    real = destination.with_suffix(".real")
    build_archive(real)
    with zipfile.ZipFile(real) as source, zipfile.ZipFile(destination, "w") as target:
        for name in source.namelist():
            if name != "stix_agent/agent.py":
                target.writestr(name, source.read(name))
        target.writestr("stix_agent/agent.py", _SCRIPTED_AGENT)
    return destination


def states(compute: Compute, world: ComputeWorld, ids: list[str]) -> list[MachineState]:
    return [machine.state for machine in compute.describe(world.place, ids)]


def await_states(compute: Compute, world: ComputeWorld, ids: list[str], state: MachineState) -> list[Machine]:
    until(lambda: set(states(compute, world, ids)) == {state}, f"{ids} are {state}")
    return compute.describe(world.place, ids)
