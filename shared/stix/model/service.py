"""What a service and a pool of workers are to be: probe, number of replicas, balancing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stix.model.accelerators import parse_accelerator
from stix.model.cron import Cron, parse_cron, parse_timezone
from stix.model.plain import given_fields
from stix.model.problems import FieldPath, Problem, refuse, refuse_all, shown
from stix.model.readiness_probe import (
    DAY_SECONDS,
    ReadinessProbe,
    parse_header_name,
    parse_path,
    parse_probe,
    seconds_above_zero,
    seconds_of_a_day,
)
from stix.model.shapes import Parser, choice, each, flag, mapping, named, number, text, whole

__all__ = [
    "CustomMetric",
    "LoadBalancer",
    "Pool",
    "ReplicaPolicy",
    "ScheduledReplicas",
    "ServiceSpec",
    "Tls",
    "parse_pool",
    "parse_service",
]


@dataclass(frozen=True, slots=True)
class ScheduledReplicas:
    """From the moments of ``cron`` on, until another entry's moment: other bounds."""

    cron: Cron
    min_replicas: int
    max_replicas: int | None = None
    timezone: str = "UTC"


@dataclass(frozen=True, slots=True)
class CustomMetric:
    """A metric that replicas show at ``path`` in Prometheus' text format: its sum over all of them is to be
    ``target`` for each."""

    name: str
    target: float
    path: str = "/metrics"


@dataclass(frozen=True, slots=True)
class ReplicaPolicy:
    """How many replicas: ``min_replicas``, or more up to ``max_replicas`` as the targets ask for.

    ``target_qps_per_replica`` is requests per second, one number or one for each accelerator (``A100:1``);
    ``target_queue_length`` requests in progress or waiting for each replica; ``target_latency_p95`` seconds.
    Of several targets the one that asks for most replicas counts.
    """

    min_replicas: int
    max_replicas: int | None = None
    num_overprovision: int | None = None
    target_qps_per_replica: float | Mapping[str, float] | None = None
    target_queue_length: float | None = None
    target_latency_p95: float | None = None
    custom_metric: CustomMetric | None = None
    schedule: tuple[ScheduledReplicas, ...] = ()
    upscale_delay_seconds: float = 300
    downscale_delay_seconds: float = 1200
    base_ondemand_fallback_replicas: int | None = None
    dynamic_ondemand_fallback: bool | None = None
    spot_placer: str | None = None

    @property
    def targets(self) -> tuple[str, ...]:
        """The fields that are given and say how many replicas there are to be."""
        return tuple(name for name in _TARGETS if getattr(self, name) is not None)


_TARGETS = ("target_qps_per_replica", "target_queue_length", "target_latency_p95", "custom_metric")


@dataclass(frozen=True, slots=True)
class Tls:
    """Paths of the key and the certificate on this machine."""

    keyfile: str
    certfile: str


@dataclass(frozen=True, slots=True)
class LoadBalancer:
    """``stream_timeout_seconds``: the longest silence within a request. While no replica is ready at most
    ``max_queue`` requests wait, each for ``wait_seconds``. ``drain_seconds``: how long requests in progress
    may take when a replica leaves. ``sticky_header``: what ``sticky`` goes by, None for a cookie."""

    stream_timeout_seconds: float = 120
    wait_seconds: int = 300
    max_queue: int = 1000
    drain_seconds: float = 120
    sticky_header: str | None = None


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A service as it is wanted."""

    readiness_probe: ReadinessProbe
    replica_policy: ReplicaPolicy = ReplicaPolicy(1)
    load_balancing_policy: str = "least_load"
    load_balancer: LoadBalancer = LoadBalancer()
    ports: int | None = None
    tls: Tls | None = None

    def to_config(self) -> dict[str, Any]:
        config = given_fields(self)
        if self.replica_policy == ReplicaPolicy(self.replica_policy.min_replicas):
            config.pop("replica_policy", None)
            config["replicas"] = self.replica_policy.min_replicas
        return config


@dataclass(frozen=True, slots=True)
class Pool:
    """Workers that wait for jobs: ``workers`` of them, or between ``min_workers`` and ``max_workers`` as the
    queue asks for."""

    workers: int | None = None
    min_workers: int | None = None
    max_workers: int | None = None
    queue_length_threshold: int | None = None
    upscale_delay_seconds: float | None = None
    downscale_delay_seconds: float | None = None

    def to_config(self) -> dict[str, Any]:
        return given_fields(self)


_seconds = number(0, unit="seconds")
_qps = number(above=True)


def _qps_by_accelerator(value: Any) -> Any:
    if isinstance(value, Mapping):
        return named(_qps, "accelerator: number", key=_accelerator_key, least=1)(value)
    return _qps(value)


def _accelerator_key(value: str) -> str:
    one = parse_accelerator(value)
    return str(one) if ":" in value else one.label


_SCHEDULED = mapping(
    "a schedule's entry",
    {
        "cron": parse_cron,
        "min_replicas": whole(0),
        "max_replicas": whole(0),
        "timezone": parse_timezone,
    },
    required=("cron", "min_replicas"),
)
_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*", re.ASCII)


def _metric_name(value: Any) -> str:
    if not isinstance(value, str) or not _METRIC_NAME.fullmatch(value) or len(value) > 200:
        hint = "Write a name as Prometheus has them: letters, digits, _ and :, no digit first."
        raise refuse(f"{shown(value)} is not the name of a metric.", hint, value=value)
    return value


_CUSTOM_METRIC = mapping(
    "custom_metric",
    {"name": _metric_name, "target": number(above=True), "path": parse_path},
    required=("name", "target"),
)
_POLICY = mapping(
    "replica_policy",
    {
        "min_replicas": whole(0),
        "max_replicas": whole(0),
        "num_overprovision": whole(0),
        "target_qps_per_replica": _qps_by_accelerator,
        "target_queue_length": number(above=True),
        "target_latency_p95": number(above=True, unit="seconds"),
        "custom_metric": lambda value: CustomMetric(**_CUSTOM_METRIC(value)),
        "schedule": each(lambda value: ScheduledReplicas(**_SCHEDULED(value)), "entries", least=1, most=100),
        "upscale_delay_seconds": _seconds,
        "downscale_delay_seconds": _seconds,
        "base_ondemand_fallback_replicas": whole(0),
        "dynamic_ondemand_fallback": flag,
        "spot_placer": choice("a spot placer", ("dynamic_fallback",)),
    },
    required=("min_replicas",),
)


def _policy(value: Any) -> ReplicaPolicy:
    policy = ReplicaPolicy(**_POLICY(value))
    problems = _bounds((), policy, policy.targets)
    for index, entry in enumerate(policy.schedule):
        problems += _bounds(("schedule", index), entry, policy.targets)
    if policy.targets and policy.max_replicas is None:
        text = "without max_replicas, nothing bounds the number of replicas."
        problems.append(Problem((policy.targets[0],), text, "Add max_replicas:."))
    if problems:
        raise refuse_all(problems)
    return policy


def _bounds(
    path: FieldPath, given: ReplicaPolicy | ScheduledReplicas, targets: tuple[str, ...]
) -> list[Problem]:
    least, most = given.min_replicas, given.max_replicas
    if most is not None and most < least:
        text = f"{most} is below min_replicas, {least}."
        return [Problem((*path, "max_replicas"), text, f"Write {least} or more.", shown(most))]
    if most is not None and most > least and not targets:
        text = "between min_replicas and max_replicas, nothing says how many there are to be."
        hint = "Add target_qps_per_replica: or another target, or leave out max_replicas."
        return [Problem(path, text, hint)]
    return []


_TLS_FILE: Parser = text("the path of a file")
_tls = mapping("tls", {"keyfile": _TLS_FILE, "certfile": _TLS_FILE}, required=("keyfile", "certfile"))
_BALANCERS = ("round_robin", "least_load", "instance_aware_least_load", "weighted", "sticky")
_BY_ACCELERATOR = ("instance_aware_least_load", "weighted")
_LOAD_BALANCER = mapping(
    "load_balancer",
    {
        "stream_timeout_seconds": seconds_above_zero,
        "wait_seconds": whole(0, DAY_SECONDS),
        "max_queue": whole(0, 10**6),
        "drain_seconds": seconds_of_a_day,
        "sticky_header": lambda value: parse_header_name(text("a header's name")(value)),
    },
)
_SERVICE = mapping(
    "the service",
    {
        "readiness_probe": parse_probe,
        "replicas": whole(0),
        "replica_policy": _policy,
        "load_balancing_policy": choice("a policy of load balancing", _BALANCERS),
        "load_balancer": lambda value: LoadBalancer(**_LOAD_BALANCER(value)),
        "ports": whole(1, 65535),
        "tls": lambda value: Tls(**_tls(value)),
    },
    required=("readiness_probe",),
)


def parse_service(value: Any) -> ServiceSpec | None:
    """The ``service`` of a task."""
    if value is None or isinstance(value, ServiceSpec):
        return value
    fields = _SERVICE(value)
    replicas = fields.pop("replicas", None)
    if replicas is not None and "replica_policy" in fields:
        text = '"replicas" and "replica_policy" cannot both be given.'
        raise refuse_all([Problem(("replicas",), text, "Keep replica_policy, with min_replicas.")])
    if replicas is not None:
        fields["replica_policy"] = ReplicaPolicy(replicas)
    service = ServiceSpec(**fields)
    by_accelerator = isinstance(service.replica_policy.target_qps_per_replica, Mapping)
    if by_accelerator != (service.load_balancing_policy in _BY_ACCELERATOR):
        text = "target_qps_per_replica by accelerator and instance_aware_least_load or weighted go together."
        hint = "Write target_qps_per_replica as {A100: 5, ...}, or load_balancing_policy: least_load."
        if by_accelerator:
            hint = (
                "Write load_balancing_policy: instance_aware_least_load or weighted, or one number for all."
            )
        raise refuse_all([Problem(("load_balancing_policy",), text, hint)])
    if service.load_balancer.sticky_header and service.load_balancing_policy != "sticky":
        text = f"{service.load_balancing_policy} does not look at a header."
        hint = "Write load_balancing_policy: sticky, or leave it out."
        raise refuse_all([Problem(("load_balancer", "sticky_header"), text, hint)])
    return service


_POOL = mapping(
    "the pool",
    {
        "workers": whole(0),
        "min_workers": whole(0),
        "max_workers": whole(0),
        "queue_length_threshold": whole(1),
        "upscale_delay_seconds": _seconds,
        "downscale_delay_seconds": _seconds,
    },
)


def parse_pool(value: Any) -> Pool | None:
    """The ``pool`` of a task: ``{workers}``, or ``{min_workers, max_workers, ...}``."""
    if value is None or isinstance(value, Pool):
        return value
    pool = Pool(**_POOL(value))
    problems = []
    scaled = sorted(set(given_fields(pool)) - {"workers"})
    if pool.workers is not None and scaled:
        text = f"{scaled[0]} is for a pool that grows, and workers: fixes its size."
        problems.append(Problem((scaled[0],), text, "Write min_workers and max_workers, or workers alone."))
    elif pool.workers is None and pool.max_workers is None:
        problems.append(
            Problem((), "its size is not given.", "Add workers:, or min_workers: and max_workers:.")
        )
    elif pool.max_workers is not None and pool.max_workers < (pool.min_workers or 0):
        text = f"{pool.max_workers} is below min_workers, {pool.min_workers}."
        problems.append(Problem(("max_workers",), text, f"Write {pool.min_workers} or more."))
    if problems:
        raise refuse_all(problems)
    return pool
