"""The control plane dies at any call of a service's life: it serves, comes down, and leaves no machine."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stix.api.v1_services import ServiceUpdateRequest, ServiceUpRequest
from stix.application import agents, submit_service
from stix.application.gateway_reports import take_gateway_status
from stix.application.records import child_records
from stix.application.service_draft import find_service
from stix.application.service_view import services_view
from stix.application.tokens import NodePrincipal
from stix.model.errors import NotFoundError, StixError
from stix.model.service_state import Replica, Service
from stix.model.status import ReplicaStatus
from stix.ports.compute import MachineState
from tests.unit.crashing import CrashPoints, MortalControlPlane, die_at_every_call, die_at_some_calls
from tests.unit.managed_jobs import THREE_ZONES
from tests.unit.test_application_crashes import check_ledger, rows
from tests.unit.test_managed_jobs_crashes import Plane as JobsPlane
from tests.unit.world import ANN, WORKSPACE

SAMPLE = 8
TASK = {"name": "chat", "run": "python serve.py", "resources": {"ports": 8000, "use_spot": True}}


class Plane(JobsPlane):
    """Machines that serve until their cluster ends. The gateway finds ready whatever has an address, and
    every drain over at once; ``failing`` versions are never ready."""

    def __init__(self, folder: Path, points: CrashPoints) -> None:
        super().__init__(folder, points)
        self.outcomes = [{"status": "RUNNING"}] * 99
        self.failing: set[str] = set()
        self.gone: set[str] = set()

    def _machines_call(self) -> None:
        super()._machines_call()
        self.survive(self._gateway)

    def _gateway(self) -> None:
        services: dict[str, Any] = {}
        for entry in services_view(self.reading, WORKSPACE):
            states = {}
            for one in entry["replicas"]:
                state = "failed" if one["version"] in self.failing else "ready"
                if one["address"] in self.gone:
                    state = "not_ready"
                states[one["id"]] = {"state": "drained" if one["state"] == "draining" else state}
            services[entry["name"]] = {"replicas": states}
        take_gateway_status(self.world, WORKSPACE, "gw", {"services": services})

    def up(self, replicas: int = 1, **fields: Any) -> None:
        service = {"readiness_probe": "/health", "replicas": replicas}
        request = ServiceUpRequest(task=TASK | {"service": service} | fields.pop("task", {}), **fields)
        self.survive(lambda: submit_service.up(self.world, ANN, request, "up"))

    def update(self, mode: str) -> None:
        task = TASK | {"service": {"readiness_probe": "/health", "replicas": 1}}
        request = ServiceUpdateRequest(task=task, mode=mode)  # type: ignore[arg-type]
        self.survive(lambda: submit_service.update(self.world, ANN, "chat", request, "update"))

    def down(self) -> None:
        def ask() -> None:
            try:
                submit_service.down(self.world, ANN, "chat", purge=False)
            except NotFoundError:
                return  # the request before was heard

        self.survive(ask)
        self.until(lambda: self.service().ended_at is not None)

    def service(self) -> Service:
        found = find_service(self.reading, WORKSPACE, "chat")
        assert found is not None
        return found

    def replicas(self) -> list[Replica]:
        return child_records(self.reading, Replica, WORKSPACE, self.service().uid)

    def first(self) -> tuple[str, str]:
        """Address and machine of the first replica."""
        address = self.replicas()[0].address
        return address, f"m-{address.rpartition('.')[2]}"

    def ready(self, number: int = 1, version: int = 1) -> bool:
        return number == sum(
            one.status is ReplicaStatus.READY and one.service_version == version and one.ended_at is None
            for one in self.replicas()
        )


def serve(plane: Plane) -> None:
    plane.up(2, task={"secrets": {"TOKEN": None}}, secrets={"TOKEN": "hush"})
    plane.until(lambda: plane.ready(2))


def lose_a_machine(plane: Plane) -> None:
    """The first machine is gone without a word, which the gateway notices."""
    plane.up()
    plane.until(plane.ready)
    address, lost = plane.first()

    def fate(plane: MortalControlPlane, machine: str, who: NodePrincipal) -> None:
        if machine == lost:
            plane.compute.become(machine, MachineState.TERMINATED, "reclaimed")
            raise StixError("the machine is gone")

    plane.fate = fate
    plane.gone.add(address)
    plane.until(lambda: plane.replicas()[0].ended_at is not None)
    plane.until(plane.ready)


def be_noticed(plane: Plane) -> None:
    plane.up()
    plane.until(plane.ready)
    _, noticed = plane.first()

    def fate(plane: MortalControlPlane, machine: str, who: NodePrincipal) -> None:
        if machine == noticed:
            told = {"kind": "preemption", "at": plane.clock.now() + 120}
            agents.take_notice(plane.world, WORKSPACE, who.cluster_id, 0, told)

    plane.fate = fate
    plane.until(lambda: len(plane.replicas()) > 1 and plane.ready() and plane.replicas()[0].closed)


def update_in_turn(plane: Plane) -> None:
    plane.up()
    plane.until(plane.ready)
    plane.update("rolling")
    plane.until(lambda: plane.ready(1, version=2) and plane.ready(0, version=1))


def update_to_what_fails(plane: Plane) -> None:
    plane.up()
    plane.until(plane.ready)
    plane.failing = {"2"}
    plane.update("blue_green")
    plane.until(lambda: plane.service().newest.failed and plane.service().active == 1)
    assert plane.ready()


def find_no_place_at_first(plane: Plane) -> None:
    plane.compute.full = {"a", "b", "c"}
    plane.up()
    plane.until(lambda: plane.service().refusals > 0)
    plane.compute.full = set()
    plane.until(plane.ready)


SCENARIOS = (
    serve,
    lose_a_machine,
    be_noticed,
    update_in_turn,
    update_to_what_fails,
    find_no_place_at_first,
)


def live(folder: Path, scenario: Callable[[Plane], None], at: int | None) -> int:
    """Run a scenario and the service's end with a death at one point; how many points there are."""
    points = CrashPoints(at)
    plane = Plane(folder, points)
    plane.compute._offers = [one for one in THREE_ZONES if one.spot]
    try:
        scenario(plane)
        plane.down()
        passed = points.passed
        plane.until(lambda: not plane.live(), hours=3)
        assert plane.compute.alive() == []
        assert plane.compute.held == set()
        check_ledger(plane)
        assert all(one.closed for one in plane.replicas())
        assert len(plane.secrets.kept) <= plane.deaths
        assert not any(str(key) in rows(plane) for key in plane.secrets.kept)
        assert plane.deaths == (at is not None), "the point was not reached"
    finally:
        plane.close()
    shutil.rmtree(folder)
    return passed


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_service_leaves_nothing_when_the_control_plane_dies_at_some_call(tmp_path, scenario):
    die_at_some_calls(live, tmp_path, scenario, SAMPLE)


@pytest.mark.soak
@pytest.mark.parametrize("part", range(8))
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_service_leaves_nothing_when_the_control_plane_dies_at_any_call(tmp_path, scenario, part):
    die_at_every_call(live, tmp_path, scenario, part)
