"""How many replicas the load asks for, by each target."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stix.autoscaling.situation import Metrics, Replica
from stix.model.offer import Offer
from stix.model.quantities import number_text
from stix.model.service import ReplicaPolicy
from stix.recovery.situation import Candidate

__all__ = ["STALE_SECONDS", "Wish", "capacity", "wish"]

STALE_SECONDS = 120.0
"""Of metrics older than this nobody knows whether they still hold: the number of replicas stays."""
_SPARE = 0.7
"""A replica is given up for latency only where the others would stay below this share of the target, if
latency grew as their number shrinks: what is given up is not wanted back at once."""
_STEP = 2.0
"""Latency asks for at most so many times the ready replicas: it says that there are too few, not how many."""


@dataclass(frozen=True, slots=True)
class Wish:
    """``number`` is not yet held to any bounds; None: leave it as it is."""

    number: int | None
    reason: str


def wish(
    policy: ReplicaPolicy,
    metrics: Metrics | None,
    replicas: Sequence[Replica],
    offers: Sequence[Candidate],
    target: int,
    now: float,
) -> Wish:
    """What the target that asks for most replicas asks for.

    ``replicas``: those that are alive, of the wanted version and of older ones that still serve.
    """
    if metrics is None:
        return Wish(None, "no metrics yet")
    if now - metrics.as_of > STALE_SECONDS:
        return Wish(None, f"its metrics are {now - metrics.as_of:.0f} s old")
    wishes = [_by_name(name, policy, metrics, replicas, offers, target) for name in policy.targets]
    known = [one for one in wishes if one.number is not None]
    if not known:
        return wishes[0]
    most = max(known, key=lambda one: one.number or 0)
    if most.number == 0 and (metrics.queue_length > 0 or metrics.request_rate > 0):
        return Wish(1, "there are requests")
    return most


def capacity(policy: ReplicaPolicy, offer: Offer) -> float:
    """Requests a second that a replica there is to take, where that is given by accelerator; else 1.

    An accelerator that is not named counts as the weakest that is.
    """
    targets = policy.target_qps_per_replica
    if not isinstance(targets, Mapping):
        return 1.0
    with_count = f"{offer.accelerator}:{number_text(offer.accelerator_count)}"
    return targets.get(with_count) or targets.get(offer.accelerator) or min(targets.values())


def _by_name(
    name: str,
    policy: ReplicaPolicy,
    metrics: Metrics,
    replicas: Sequence[Replica],
    offers: Sequence[Candidate],
    target: int,
) -> Wish:
    match name:
        case "target_qps_per_replica" if isinstance(policy.target_qps_per_replica, Mapping):
            return _by_accelerator(policy, metrics.request_rate, replicas, offers)
        case "target_qps_per_replica":
            qps = policy.target_qps_per_replica
            assert isinstance(qps, float)
            return Wish(
                _parts(metrics.request_rate, qps), f"{metrics.request_rate:.3g} requests/s at {qps:g} each"
            )
        case "target_queue_length":
            most, queue = policy.target_queue_length or 1.0, metrics.queue_length
            noun = "request" if queue == 1 else "requests"
            return Wish(_parts(queue, most), f"{queue:g} {noun} waiting or in progress at {most:g} each")
        case "custom_metric":
            assert policy.custom_metric is not None
            metric, value = policy.custom_metric, metrics.custom
            if value is None:
                return Wish(None, f"nobody could be asked for {metric.name}")
            return Wish(
                _parts(value, metric.target), f"{metric.name} is {value:.4g} at {metric.target:g} each"
            )
    return _by_latency(policy, metrics, sum(one.ready for one in replicas), target)


def _parts(amount: float, each: float) -> int:
    return math.ceil(amount / each - 1e-9)


def _by_accelerator(
    policy: ReplicaPolicy, rate: float, replicas: Sequence[Replica], offers: Sequence[Candidate]
) -> Wish:
    """The strongest of the replicas that are there, and what else it needs of the machines that come next."""
    have = sorted((capacity(policy, one.offer) for one in replicas), reverse=True)
    number, covered = 0, 0.0
    while number < len(have) and covered < rate - 1e-9:
        covered += have[number]
        number += 1
    if covered < rate:
        free = [one.offer for one in offers] or [one.offer for one in replicas]
        each = min(
            ((one.price / capacity(policy, one), capacity(policy, one)) for one in free),
            default=(0.0, capacity(policy, _NO_OFFER)),
        )[1]
        number += _parts(rate - covered, each)
    return Wish(number, f"{rate:.3g} requests/s over accelerators of different targets")


_NO_OFFER = Offer(cloud="", region="", instance_type="", vcpus=0, memory_gib=0, price=0)


def _by_latency(policy: ReplicaPolicy, metrics: Metrics, ready: int, target: int) -> Wish:
    most, seen = policy.target_latency_p95 or 1.0, metrics.latency_p95
    if metrics.request_rate <= 0 and metrics.queue_length <= 0:
        return Wish(0, "no requests")
    if seen is None or ready == 0:
        return Wish(max(target, 1), "no answers to measure yet")
    reason = f"95 of 100 answers within {seen:.3g} s, wanted {most:g} s"
    if ready < target:
        return Wish(target, f"{reason}; more replicas are on their way")
    if seen > most:
        return Wish(target + math.ceil(ready * min(seen / most, _STEP) - 1e-9) - ready, reason)
    if ready > 1 and seen * ready / (ready - 1) < _SPARE * most:
        return Wish(target - 1, reason)
    return Wish(target, reason)
