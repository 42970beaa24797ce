"""Replicas that failed by themselves, not for want of machines."""

from __future__ import annotations

from collections.abc import Sequence

from stix.autoscaling.situation import Replica, Terms
from stix.model.status import ReplicaStatus

__all__ = ["version_failed", "wait_until"]

_BY_ITSELF = frozenset(
    {ReplicaStatus.FAILED, ReplicaStatus.FAILED_INITIAL_DELAY, ReplicaStatus.FAILED_PROBING}
)
_FIRST_WAIT, _LONGEST_WAIT, _REMEMBERED = 30.0, 900.0, 3600.0


def version_failed(service: Terms, replicas: Sequence[Replica]) -> bool:
    """A replica of the wanted version failed, and none has ever been ready: more of them would fail too."""
    if service.memory.ready_version >= service.version:
        return False
    return any(one.version == service.version and one.status in _BY_ITSELF for one in replicas)


def wait_until(service: Terms, replicas: Sequence[Replica], now: float) -> float | None:
    """Replicas that keep failing are replaced at ever longer intervals: 30 s, doubled to 15 minutes, counted
    over an hour. None where nothing need be waited for."""
    failed = [
        one.since
        for one in replicas
        if one.version == service.version and one.status in _BY_ITSELF and now - one.since < _REMEMBERED
    ]
    if not failed:
        return None
    until = max(failed) + min(_FIRST_WAIT * 2.0 ** min(len(failed) - 1, 9), _LONGEST_WAIT)
    return until if until > now else None
