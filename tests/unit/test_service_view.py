"""What gateways are told of services: the gateway's own reader takes it as it is meant."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from stix.application.service_view import service_view
from stix.gateway import view as gateway
from stix.model.service_state import Replica, Service
from stix.model.status import ReplicaStatus
from tests.unit.services import replica, service, version
from tests.unit.world import offer


def read(told: Service, replicas: Iterable[Replica] = (), **tls: Any) -> gateway.Service:
    view = {"version": 1, "services": [service_view(told, list(replicas), **tls)]}
    return gateway.parse_view(json.dumps(view)).services[0]


def test_defaults_of_a_service_are_those_of_the_gateway() -> None:
    found = read(service())
    assert found == gateway.Service("chat", 30001, probe=gateway.Probe("/health"))


def test_every_setting_of_a_service_reaches_the_gateway() -> None:
    probe = {
        "path": "/ready?deep=1",
        "initial_delay_seconds": 5,
        "timeout_seconds": 0.0001,
        "endpoint_probe_interval_seconds": 2,
        "consecutive_failure_threshold_timeout": 0,
        "post_data": {"prompt": "hi"},
        "headers": {"X-Key": "1"},
    }
    balancer = {
        "stream_timeout_seconds": 1.5,
        "wait_seconds": 2,
        "max_queue": 3,
        "drain_seconds": 4,
        "sticky_header": "X-User",
    }
    spec = version(readiness_probe=probe, load_balancing_policy="sticky", load_balancer=balancer)
    pem = {"certificate": "-----BEGIN CERTIFICATE", "key": "-----BEGIN KEY"}
    found = read(service(spec, tokens=("ab" * 32,)), tls=pem)
    assert found.probe == gateway.Probe("/ready?deep=1", 5, 0.001, 2, 0, '{"prompt": "hi"}', {"X-Key": "1"})
    assert (found.policy, found.sticky_header) == ("sticky", "X-User")
    assert (found.stream_timeout_seconds, found.wait_seconds, found.max_queue) == (2, 2, 3)
    assert (found.drain_seconds, found.tokens) == (4, ("ab" * 32,))
    assert found.tls == gateway.Tls("-----BEGIN CERTIFICATE", "-----BEGIN KEY")


def test_replicas_appear_with_an_address_and_leave_with_their_machine() -> None:
    shown = [
        replica(1),
        replica(2, ReplicaStatus.STARTING),
        replica(3, ReplicaStatus.NOT_READY, address="fd00::3", port=9000),
        replica(4, ReplicaStatus.SHUTTING_DOWN, draining_since=5.0),
    ]
    hidden = [
        replica(5, ReplicaStatus.PROVISIONING, address=""),
        replica(6, ReplicaStatus.SHUTTING_DOWN),
        replica(7, ReplicaStatus.FAILED_PROBING),
        replica(8, ReplicaStatus.SHUTTING_DOWN, draining_since=5.0, ended_at=6.0),
    ]
    found = read(service(), [*shown, *hidden]).replicas
    assert [one.id for one in found] == ["1", "2", "3", "4"]
    assert [one.state for one in found] == ["ready", "ready", "ready", "draining"]
    assert (found[2].address, found[2].port) == ("fd00::3", 9000)


def test_a_version_that_takes_no_requests_yet_is_probed_on_standby_with_its_own_probe() -> None:
    two = version(2, readiness_probe={"path": "/v2", "initial_delay_seconds": 7})
    told = service(version(), two, active=2, serving=(1,))
    old, new = read(told, [replica(1), replica(2, service_version=2)]).replicas
    assert (old.state, old.version, old.probe) == ("ready", "1", None)
    assert (new.state, new.version) == ("standby", "2")
    assert new.probe == gateway.Probe("/v2", initial_delay_seconds=7)
    rolling = read(told.changed(serving=(1, 2)), [replica(1), replica(2, service_version=2)])
    assert [one.state for one in rolling.replicas] == ["ready", "ready"]
    assert (rolling.probe and rolling.probe.path) == "/v2"
    assert rolling.replicas[0].probe == gateway.Probe("/health")


@pytest.mark.parametrize("policy", ["instance_aware_least_load", "weighted"])
def test_weights_are_what_each_accelerator_is_to_take(policy: str) -> None:
    scaled = {"min_replicas": 1, "max_replicas": 3, "target_qps_per_replica": {"A100": 10, "L4:1": 2}}
    told = service(version(load_balancing_policy=policy, replica_policy=scaled))
    strong = replica(1, offer=offer("a", accelerator="A100", accelerator_count=1))
    weak = replica(2, offer=offer("a", accelerator="L4", accelerator_count=1))
    assert [one.weight for one in read(told, [strong, weak]).replicas] == [10, 2]
