"""What gateways say is kept where it is news, and begins a step where that can change something."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stix.application.gateway_reports import take_gateway_status
from stix.application.records import load, put, service_key
from stix.application.service_situation import metrics_of, read_figures, verdict
from stix.model.errors import InvalidInputError
from stix.model.service_state import Service
from tests.unit.services import replica, service, version
from tests.unit.serving_plane import ServingPlane
from tests.unit.world import WORKSPACE, ControlPlane

SCALED = {"min_replicas": 1, "max_replicas": 4, "target_qps_per_replica": 2}


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    plane = ControlPlane(tmp_path)
    yield plane
    plane.close()


def keep(plane: ControlPlane, **spec: Any) -> None:
    plane.store.transact([put(service(version(**spec))), put(replica(1))])


def tell(plane: ControlPlane, gateway: str = "gw-1", **entry: Any) -> list[str]:
    shape = {"replicas": {"1": {"state": "ready", "in_flight": 0}}} | entry
    return take_gateway_status(plane.world, WORKSPACE, gateway, {"services": {"chat": shape}})


def silence(plane: ControlPlane, gateway: str = "gw-1") -> list[str]:
    return take_gateway_status(plane.world, WORKSPACE, gateway, {"services": {}})


def service_of(plane: ControlPlane) -> Service:
    return load(Service, plane.store.get(service_key(WORKSPACE, "chat")))  # type: ignore[arg-type]


def test_a_state_that_changed_begins_one_step_and_the_same_again_none(plane: ControlPlane) -> None:
    keep(plane)
    assert tell(plane) == ["chat"]
    assert tell(plane) == []
    assert plane.workflows.machines() == ["service"]
    assert tell(plane, replicas={"1": {"state": "not_ready", "reason": "refused"}}) == ["chat"]
    kept = service_of(plane)
    assert (kept.nudges, kept.due_at) == (2, plane.clock.now() + 60)


def test_the_last_request_of_a_draining_replica_begins_a_step(plane: ControlPlane) -> None:
    keep(plane)
    tell(plane, replicas={"1": {"state": "draining", "in_flight": 2}})
    assert tell(plane, replicas={"1": {"state": "draining", "in_flight": 0}}) == []
    assert tell(plane, replicas={"1": {"state": "drained", "in_flight": 0}}) == ["chat"]


def test_load_begins_a_step_only_when_the_policy_wants_something_else(plane: ControlPlane) -> None:
    keep(plane, replica_policy=SCALED)
    tell(plane, rate_60s=0.0)
    plane.pass_time(20)
    begun = tell(plane, rate_60s=1.5)
    assert begun == ["chat"], "the first load is the first wish that is remembered"
    assert tell(plane, rate_60s=3.1) == ["chat"], "two are wanted"


def test_load_begins_no_step_of_a_fixed_number_of_replicas(plane: ControlPlane) -> None:
    keep(plane, replicas=2)
    tell(plane)
    written = plane.store.get(service_key(WORKSPACE, "chat"))
    assert tell(plane, rate_60s=50.0) == []
    plane.pass_time(31)
    assert tell(plane, rate_60s=50.0) == []
    assert plane.store.get(service_key(WORKSPACE, "chat")) == written
    figures, _ = read_figures(plane.world, WORKSPACE, "chat")
    assert figures[0].request_rate == 50.0


def test_figures_hold_as_long_as_their_gateway_is_heard(plane: ControlPlane) -> None:
    keep(plane, replica_policy=SCALED)
    tell(plane, rate_60s=1.5, in_flight=1, waiting=2, response_seconds={"p95": 0.25})
    for _ in range(20):
        plane.pass_time(30)
        silence(plane)
    metrics = metrics_of(*read_figures(plane.world, WORKSPACE, "chat"))
    assert metrics is not None
    assert metrics.as_of == plane.clock.now()
    assert (metrics.request_rate, metrics.queue_length, metrics.latency_p95) == (1.5, 3, 0.25)
    plane.pass_time(500)
    stale = metrics_of(*read_figures(plane.world, WORKSPACE, "chat"))
    assert stale is not None
    assert stale.as_of == plane.clock.now() - 500


def test_two_gateways_are_added_up_and_a_silent_one_has_no_say(plane: ControlPlane) -> None:
    keep(plane, replica_policy=SCALED)
    tell(plane, "gw-1", rate_60s=1.0, replicas={"1": {"state": "not_ready", "in_flight": 1}})
    tell(plane, "gw-2", rate_60s=2.0, replicas={"1": {"state": "ready", "in_flight": 2}})
    figures, until = read_figures(plane.world, WORKSPACE, "chat")
    metrics, said = metrics_of(figures, until), verdict(figures, 1)
    assert metrics is not None
    assert metrics.request_rate == 3.0
    assert said is not None
    assert (said.state, said.in_flight) == ("ready", 3)
    assert verdict(figures, 7) is None
    plane.pass_time(61)
    silence(plane, "gw-1")
    figures, until = read_figures(plane.world, WORKSPACE, "chat")
    assert list(until) == ["gw-1"]
    said = verdict(figures, 1)
    assert said is not None
    assert said.state == "not_ready"


def test_a_report_of_an_unknown_or_ended_service_is_left_out(plane: ControlPlane) -> None:
    plane.store.transact([put(service(ended_at=1.0))])
    assert tell(plane) == []
    assert plane.workflows.machines() == []


@pytest.mark.parametrize(
    ("status", "field"),
    [
        ({}, "services:"),
        ({"services": {"chat": []}}, "services.chat:"),
        ({"services": {"chat": {"replicas": {"1": {}}}}}, "services.chat:"),
        ({"services": {"chat": {"rate_60s": "fast"}}}, "services.chat:"),
    ],
)
def test_what_is_no_status_is_refused_when_taken(
    plane: ControlPlane, status: dict[str, Any], field: str
) -> None:
    keep(plane)
    with pytest.raises(InvalidInputError, match=field):
        take_gateway_status(plane.world, WORKSPACE, "gw-1", status)


def test_the_same_load_is_acted_on_when_its_gateway_is_heard_again(tmp_path: Path) -> None:
    plane = ServingPlane(tmp_path)
    plane.up(replica_policy=SCALED | {"upscale_delay_seconds": 60})
    plane.boot_all()
    plane.rate = 3.5
    plane.gateway()
    plane.pass_time(300)
    plane.sweep()
    assert "old" in service_of(plane).reason
    plane.wait(100)
    assert plane.statuses() == {1: "READY", 2: "PENDING"}
    plane.close()
