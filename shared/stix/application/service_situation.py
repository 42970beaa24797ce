"""A service as its policy sees it: the terms, the replicas and the figures of a decision."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from stix.application.records import GATEWAYS, child_records
from stix.application.world import World
from stix.autoscaling import situation
from stix.autoscaling.demand import STALE_SECONDS
from stix.autoscaling.situation import Memory, Metrics, Terms
from stix.model.service_state import (
    GatewayFigures,
    GatewaySeen,
    Replica,
    ReplicaFigures,
    Service,
    ServiceMemory,
)

__all__ = [
    "figures_words",
    "kept_memory",
    "metrics_of",
    "read_figures",
    "replica_terms",
    "terms_of",
    "verdict",
]

_HEARD_SECONDS = 60.0
"""A gateway that was not heard for so long has no say where another one was."""


def terms_of(service: Service) -> Terms:
    version = service.version_of(service.active)
    spec, memory = version.parsed(), service.memory
    return Terms(
        policy=spec.replica_policy,
        spot=version.spot,
        version=version.number,
        blue_green=version.blue_green,
        drain=spec.load_balancer.drain_seconds,
        memory=Memory(
            target=memory.target,
            above_since=memory.above_since,
            wanted=memory.wanted,
            forgiven_at=memory.forgiven_at,
            ready_version=memory.ready_version,
        ),
    )


def kept_memory(memory: Memory, lost_at: dict[str, float]) -> ServiceMemory:
    return ServiceMemory(
        target=memory.target,
        above_since=memory.above_since,
        wanted=memory.wanted,
        forgiven_at=memory.forgiven_at,
        ready_version=memory.ready_version,
        lost_at=lost_at,
    )


def replica_terms(replica: Replica) -> situation.Replica:
    return situation.Replica(
        id=replica.id,
        offer=replica.offer,
        status=replica.status,
        since=replica.since,
        launched_at=replica.launched_at,
        version=replica.service_version,
        gone_at=replica.gone_at,
        draining_since=replica.draining_since,
        in_flight=replica.in_flight,
        gone=replica.ended_at is not None,
    )


def read_figures(world: World, workspace: str, name: str) -> tuple[list[GatewayFigures], dict[str, float]]:
    """What each gateway last said of the service, and until when it was heard: only gateways that have a say,
    those heard within the last minute, or the one heard last."""
    figures = child_records(world, GatewayFigures, workspace, name)
    if not figures:
        return [], {}
    heard = {one.gateway_id: one.at for one in child_records(world, GatewaySeen, workspace, GATEWAYS)}
    return in_charge(figures, heard, world.clock.now())


def in_charge(
    figures: Sequence[GatewayFigures], heard: dict[str, float], now: float
) -> tuple[list[GatewayFigures], dict[str, float]]:
    """Of these those that have a say, each with the moment until which its figures held."""
    until = {one.gateway_id: max(one.at, heard.get(one.gateway_id, 0.0)) for one in figures}
    latest = max(until.values(), default=0.0)
    told = {key: at for key, at in until.items() if now - at <= _HEARD_SECONDS or at == latest}
    return [one for one in figures if one.gateway_id in told], told


def metrics_of(figures: Sequence[GatewayFigures], until: dict[str, float]) -> Metrics | None:
    """The sums over gateways; of latencies the worst. None where no gateway has said anything."""
    if not figures:
        return None
    latencies = [one.latency_p95 for one in figures if one.latency_p95 is not None]
    metrics = [one.metric for one in figures if one.metric is not None]
    return Metrics(
        as_of=min(until.values()),
        request_rate=sum(one.request_rate for one in figures),
        queue_length=float(sum(one.in_flight + one.waiting for one in figures)),
        latency_p95=max(latencies, default=None),
        custom=max(metrics, default=None),
    )


def verdict(figures: Iterable[GatewayFigures], replica_id: int) -> ReplicaFigures | None:
    """What the gateways together say of a replica; None where none knows it.

    It is ready where one of them reaches it, has failed or drained where it has for all of them.
    """
    told = [found for one in figures if (found := one.replicas.get(str(replica_id))) is not None]
    if not told:
        return None
    in_flight = [one.in_flight for one in told if one.in_flight is not None]
    by_state = {one.state: one for one in told}
    for state in ("ready", "draining", "not_ready", "starting", "failed", "drained"):
        if state in by_state:
            chosen = by_state[state]
            return chosen.model_copy(update={"in_flight": sum(in_flight) if in_flight else None})
    return None


def figures_words(metrics: Metrics | None, now: float) -> str:
    """The figures of a decision, for people."""
    if metrics is None:
        return "no gateway has reported yet"
    words = [f"{metrics.request_rate:.3g} requests/s", f"{metrics.queue_length:g} waiting or in progress"]
    if metrics.latency_p95 is not None:
        words.append(f"p95 {metrics.latency_p95:.3g} s")
    if metrics.custom is not None:
        words.append(f"metric {metrics.custom:.4g}")
    age = now - metrics.as_of
    return ", ".join(words) + (f", {age:.0f} s old" if age > STALE_SECONDS else "")
