"""What a service and a pool of workers are to be: probe, number of replicas, balancing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stix.model.accelerators import parse_accelerator
from stix.model.cron import Cron, parse_cron, parse_timezone
from stix.model.plain import given_fields
from stix.model.problems import FieldPath, Problem, refuse, refuse_all, shown
from stix.model.shapes import Parser, choice, each, flag, free_mapping, mapping, named, number, text, whole

__all__ = [
    "CustomMetric",
    "Pool",
    "ReadinessProbe",
    "ReplicaPolicy",
    "ScheduledReplicas",
    "Service",
    "Tls",
    "parse_pool",
    "parse_service",
]


@dataclass(frozen=True, slots=True)
class ReadinessProbe:
    """An HTTP request (GET, or POST with ``post_data``) that a ready replica answers; times in seconds."""

    path: str
    initial_delay_seconds: float = 1200
    timeout_seconds: float = 15
    endpoint_probe_interval_seconds: float = 10
    consecutive_failure_threshold_timeout: float = 180
    post_data: str | Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def to_config(self) -> dict[str, Any] | str:
        config = given_fields(self)
        return config if len(config) > 1 else self.path


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
class Service:
    """A service as it is wanted."""

    readiness_probe: ReadinessProbe
    replica_policy: ReplicaPolicy = ReplicaPolicy(1)
    load_balancing_policy: str = "least_load"
    stream_timeout_seconds: float = 120
    ports: int | None = None
    tls: Tls | None = None

    def to_config(self) -> dict[str, Any]:
        config = given_fields(self)
        if self.replica_policy == ReplicaPolicy(self.replica_policy.min_replicas):
            config.pop("replica_policy", None)
            config["replicas"] = self.replica_policy.min_replicas
        if "stream_timeout_seconds" in config:
            config["load_balancer"] = {"stream_timeout_seconds": config.pop("stream_timeout_seconds")}
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


def _path(value: Any) -> str:
    hint = "Write a path of the service, such as /health."
    path = str(text("a path", hint)(value))
    if not path.startswith("/"):
        raise refuse(f"{shown(path)} does not begin with a slash.", hint, value=path)
    return path


def _post_data(value: Any) -> Any:
    if isinstance(value, Mapping):
        return free_mapping("post_data")(value)
    return text("data to post", "Write JSON as text, or a mapping.")(value)


_seconds = number(0, unit="seconds")
_PROBE = mapping(
    "readiness_probe",
    {
        "path": _path,
        "initial_delay_seconds": _seconds,
        "timeout_seconds": number(above=True, unit="seconds"),
        "endpoint_probe_interval_seconds": number(above=True, unit="seconds"),
        "consecutive_failure_threshold_timeout": _seconds,
        "post_data": _post_data,
        "headers": named(text("a header's text"), "name: text"),
    },
    required=("path",),
)


def _probe(value: Any) -> ReadinessProbe:
    if isinstance(value, str):
        return ReadinessProbe(_path(value))
    return ReadinessProbe(**_PROBE(value))


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
    {"name": _metric_name, "target": number(above=True), "path": _path},
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
_SERVICE = mapping(
    "the service",
    {
        "readiness_probe": _probe,
        "replicas": whole(0),
        "replica_policy": _policy,
        "load_balancing_policy": choice("a policy of load balancing", _BALANCERS),
        "load_balancer": mapping(
            "load_balancer", {"stream_timeout_seconds": number(above=True, unit="seconds")}
        ),
        "ports": whole(1, 65535),
        "tls": lambda value: Tls(**_tls(value)),
    },
    required=("readiness_probe",),
)


def parse_service(value: Any) -> Service | None:
    """The ``service`` of a task."""
    if value is None or isinstance(value, Service):
        return value
    fields = _SERVICE(value)
    replicas = fields.pop("replicas", None)
    if replicas is not None and "replica_policy" in fields:
        text = '"replicas" and "replica_policy" cannot both be given.'
        raise refuse_all([Problem(("replicas",), text, "Keep replica_policy, with min_replicas.")])
    if replicas is not None:
        fields["replica_policy"] = ReplicaPolicy(replicas)
    if "load_balancer" in fields:
        fields |= fields.pop("load_balancer")
    service = Service(**fields)
    by_accelerator = isinstance(service.replica_policy.target_qps_per_replica, Mapping)
    if by_accelerator != (service.load_balancing_policy in _BY_ACCELERATOR):
        text = "target_qps_per_replica by accelerator and instance_aware_least_load or weighted go together."
        hint = "Write target_qps_per_replica as {A100: 5, ...}, or load_balancing_policy: least_load."
        if by_accelerator:
            hint = (
                "Write load_balancing_policy: instance_aware_least_load or weighted, or one number for all."
            )
        raise refuse_all([Problem(("load_balancing_policy",), text, hint)])
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
