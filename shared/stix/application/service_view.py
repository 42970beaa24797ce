"""What the gateways of a workspace are told of its services (docs/gateway.md)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from stix.application.records import child_records, load
from stix.application.world import World
from stix.autoscaling.demand import capacity
from stix.model.readiness_probe import ReadinessProbe
from stix.model.service_state import Replica, Service, ServiceVersion
from stix.model.status import ReplicaStatus

__all__ = ["live_services", "read_tls", "service_view", "services_view", "view_topic"]

_SHOWN = frozenset({ReplicaStatus.STARTING, ReplicaStatus.READY, ReplicaStatus.NOT_READY})
_PAGE = 200
_LEAST_SECONDS = 0.001


def view_topic(workspace: str) -> str:
    """What a gateway's keeper waits on: woken when the view of a service has changed."""
    return f"services/{workspace}"


def live_services(world: World, workspace: str) -> list[Service]:
    """Those that have not ended, newest first; the index that this reads may lag behind."""
    found: list[Service] = []
    after: str | None = None
    while True:
        page = world.store.list(workspace, Service.kind, live=True, after=after, limit=_PAGE)
        found += [load(Service, item) for item in page.items]
        after = page.next
        if after is None:
            return found


def services_view(world: World, workspace: str) -> list[dict[str, Any]]:
    """The entries of all services of a workspace that are not going down, by name."""
    live = [one for one in live_services(world, workspace) if not one.down]
    services = sorted(live, key=lambda one: one.name)
    return [
        service_view(one, child_records(world, Replica, workspace, one.uid), read_tls(world, one))
        for one in services
    ]


def read_tls(world: World, service: Service) -> dict[str, str] | None:
    """``certificate`` and ``key``, PEM texts, of a service that has them."""
    key = _presented(service).tls_key
    return dict(world.secrets.get(key)) if key else None


def service_view(
    service: Service, replicas: Iterable[Replica], tls: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """One service's entry of a gateway's view. ``tls``: its ``certificate`` and ``key``.

    A replica appears once it has an address, on ``standby`` where its version takes no requests yet, and
    leaves once its machine is told to end.
    """
    version = _presented(service)
    spec = version.parsed()
    balancer = spec.load_balancer
    probes = {one.number: _probe(one.parsed().readiness_probe) for one in service.versions}
    probe = probes[version.number]
    entry = {
        "name": service.name,
        "port": service.port,
        "policy": spec.load_balancing_policy,
        "wait_seconds": balancer.wait_seconds,
        "max_queue": balancer.max_queue,
        "stream_timeout_seconds": max(1, math.ceil(balancer.stream_timeout_seconds)),
        "drain_seconds": balancer.drain_seconds,
        "probe": probe,
        "replicas": [
            _replica(one, service, version, probes.get(one.service_version, probe))
            for one in replicas
            if one.address and one.ended_at is None and (one.status in _SHOWN or one.draining_since)
        ],
    }
    metric = spec.replica_policy.custom_metric
    optional = {
        "sticky_header": balancer.sticky_header,
        "tokens": None if service.tokens is None else list(service.tokens),
        "tls": None if tls is None else dict(tls),
        "metric": None if metric is None else {"name": metric.name, "path": metric.path},
    }
    return entry | {name: value for name, value in optional.items() if value is not None}


def _presented(service: Service) -> ServiceVersion:
    """The version whose balancing, times and certificate hold: the newest of those that take requests."""
    kept = {one.number: one for one in service.versions}
    return kept.get(max(service.serving, default=service.active)) or kept[service.active]


def _replica(
    replica: Replica, service: Service, presented: ServiceVersion, probe: dict[str, Any]
) -> dict[str, Any]:
    policy = presented.parsed().replica_policy
    state = "ready" if replica.service_version in service.serving else "standby"
    entry: dict[str, Any] = {
        "id": str(replica.id),
        "version": str(replica.service_version),
        "address": replica.address,
        "port": replica.port,
        "weight": capacity(policy, replica.offer),
        "state": "draining" if replica.draining_since is not None else state,
    }
    if replica.service_version != presented.number:
        entry["probe"] = probe
    return entry


def _probe(probe: ReadinessProbe) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "path": probe.path,
        "initial_delay_seconds": probe.initial_delay_seconds,
        "timeout_seconds": max(probe.timeout_seconds, _LEAST_SECONDS),
        "endpoint_probe_interval_seconds": max(probe.endpoint_probe_interval_seconds, _LEAST_SECONDS),
        "consecutive_failure_threshold_timeout": probe.consecutive_failure_threshold_timeout,
        "headers": dict(probe.headers),
    }
    if probe.post_data is not None:
        data = probe.post_data
        entry["post_data"] = data if isinstance(data, str) else dict(data)
    return entry
