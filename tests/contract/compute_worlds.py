"""The worlds that the provider contract runs in: one per cloud, with the faults that its cases ask for."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pytest

from stix.agent.archive import build_archive
from stix.clouds.local import CLOUD, REGION, Host, LocalCompute
from stix.clouds.local.cgroups import Groups
from stix.clouds.local.host import Gpu
from stix.clouds.local.node import Nodes
from stix.model.errors import ProviderError, UnavailableError
from stix.model.offer import Offer
from stix.ports.compute import Compute, GangRequest, Machine, MachineState, Place
from tests.waiting import eventually

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


class MovableClock:
    """The real time, moved on by as much as a test wants."""

    def __init__(self) -> None:
        self.moved = 0.0

    def now(self) -> float:
        return time.time() + self.moved


class ComputeWorld(Protocol):
    """One cloud for one test: the provider's own side of it, with the faults that the cases ask for.

    ``cannot`` maps the name of a method below that this cloud has nothing for to the reason, for people: the
    cases that need it are skipped with it. ``refusals`` maps every code of the cloud's error table to the
    class it must become.
    """

    place: Place
    cannot: Mapping[str, str]
    refusals: Mapping[str, type[ProviderError]]

    def compute(self, *, deployment: str = "dep") -> Compute:
        """A new adapter, as after a restart of the control plane."""
        ...

    def request(self, token: str, count: int = 1, **changes: Any) -> GangRequest:
        """``changes``: fields of the request, of its offer (``spot=True``), or ``deployment``."""
        ...

    def greedy_request(self, token: str) -> GangRequest:
        """More than the place has."""
        ...

    def capacity(self, machines: int) -> None:
        """The place has room for so many machines more, of any kind."""
        ...

    def refuse(self, code: str) -> None:
        """The provider refuses the next creation with that code, in the way in which it does so."""
        ...

    def throttle(self, times: int) -> None:
        """The provider is above its rate limit for that many calls."""
        ...

    def lose_answer(self) -> None:
        """The next creation takes effect, but its answer never arrives."""
        ...

    def deliver_twice(self) -> None:
        """The next creation reaches the provider two times."""
        ...

    def short_pages(self, size: int) -> None:
        """Lists come in pages of at most that many machines."""
        ...

    def add_machines(self, count: int, *, deployment: str) -> None:
        """Running machines of that deployment, made on the provider's side at once."""
        ...

    def preempt(self, machine_id: str) -> None:
        """The provider takes a spot machine away, now."""
        ...

    def announce_preemption(self, machine_id: str) -> str:
        """The provider tells the machine that it will be taken; the base URL of its metadata service."""
        ...

    def disks(self, machine_id: str) -> set[str]:
        """Ids of the disks that the provider holds for the machine."""
        ...

    def leftovers(self) -> list[str]:
        """All that the provider holds for gangs besides machines: rules, templates, groups, disks."""
        ...

    def settle(self) -> None:
        """Let all that is under way at the provider finish."""
        ...

    def close(self) -> None:
        """Ends it. Fails when a request or an answer broke the provider's published schema."""
        ...


class _ForgetfulCompute(LocalCompute):
    """Loses an answer when its world wants it so."""

    def __init__(self, world: LocalWorld, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._world = world

    def create(self, request: GangRequest) -> list[str]:
        ids = super().create(request)
        if self._world.answer_is_lost():
            raise UnavailableError("The answer was lost.")
        return ids


class LocalWorld:
    place = Place(CLOUD, REGION)
    refusals: ClassVar[Mapping[str, type[ProviderError]]] = {}
    cannot: ClassVar[Mapping[str, str]] = {
        "refusals": "this computer has no codes for its refusals",
        "throttle": "this computer has no rate limit",
        "deliver_twice": "a call inside this process is made once",
        "short_pages": "this computer's machines are listed from one folder",
        "add_machines": "a machine of this computer is a process tree: 250 are too many for one",
        "preempt": "nobody takes this computer away",
        "announce_preemption": "nobody takes this computer away",
    }

    def __init__(self, folder: Path, archive: Path) -> None:
        self.root = folder / "root"
        self.claims = folder / "claims"
        self.archive = archive
        self.clock = MovableClock()
        self.api_url_file = folder / "url"
        self.api_url_file.write_text("http://127.0.0.1:1")
        self.host: Callable[[], Host] = lambda: Host(cpus=4, memory_gib=8)
        self._gpus = 0
        self._losing = False

    def compute(
        self,
        *,
        deployment: str = "dep",
        root: Path | None = None,
        payload: str = "",
        groups: Callable[[], Groups] = Groups,
        grace_seconds: float = 8.0,
    ) -> LocalCompute:
        return _ForgetfulCompute(
            self,
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
        if self._gpus:
            asked |= {"accelerator": "A100", "accelerator_count": 1}
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

    def capacity(self, machines: int) -> None:
        """One GPU a machine: they are what this computer runs out of."""
        self._gpus = machines
        gpus = tuple(Gpu(index, "A100", 40.0) for index in range(machines))
        self.host = lambda: Host(cpus=4, memory_gib=8, gpus=gpus)

    def lose_answer(self) -> None:
        self._losing = True

    def answer_is_lost(self) -> bool:
        lost, self._losing = self._losing, False
        return lost

    def disks(self, machine_id: str) -> set[str]:
        folder = self.folder(machine_id)
        return {f"{folder}:{folder.stat().st_ino}"} if folder.exists() else set()

    def leftovers(self) -> list[str]:
        nodes = self.root / "nodes"
        return (
            sorted(entry.name for entry in nodes.iterdir() if entry.name[0] != ".") if nodes.exists() else []
        )

    def settle(self) -> None:
        """Processes come and go by themselves."""

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
        eventually(
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
    seen: list[Machine] = []

    def reached() -> bool:
        world.settle()
        seen[:] = compute.describe(world.place, ids)
        return {machine.state for machine in seen} == {state}

    def said() -> str:
        return f"all are {state}, not " + ", ".join(f"{one.id} {one.state} ({one.reason})" for one in seen)

    eventually(reached, said)
    return seen
