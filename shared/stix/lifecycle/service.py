"""What follows for a service from how its replicas stand. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Sequence

from stix.model.service_state import Replica, Service
from stix.model.status import ReplicaStatus, ServiceStatus

__all__ = ["launch_pause", "service_status"]

_ON_THE_WAY = frozenset(
    {ReplicaStatus.PENDING, ReplicaStatus.PROVISIONING, ReplicaStatus.STARTING, ReplicaStatus.NOT_READY}
)
_SHORTEST_PAUSE, _LONGEST_PAUSE = 5.0, 300.0


def service_status(service: Service, replicas: Sequence[Replica]) -> ServiceStatus:
    """READY with any replica that is, FAILED where one failed and none is on its way."""
    statuses = {one.status for one in replicas if one.ended_at is None}
    if service.down:
        stuck = any(one.status is ReplicaStatus.FAILED_CLEANUP for one in replicas)
        return ServiceStatus.FAILED_CLEANUP if stuck else ServiceStatus.SHUTTING_DOWN
    if ReplicaStatus.READY in statuses:
        return ServiceStatus.READY
    if statuses & _ON_THE_WAY:
        return ServiceStatus.REPLICA_INIT
    failed = any(one.status.failed and one.service_version == service.active for one in replicas)
    if failed and service.memory.target != 0:
        return ServiceStatus.FAILED
    return ServiceStatus.NO_REPLICA


def launch_pause(refusals: int) -> float:
    """Seconds before the next launch after ``refusals`` in a row that no place took. Places that refused are
    left alone by what is remembered of them; this is for refusals that say nothing of a place."""
    return float(min(_LONGEST_PAUSE, _SHORTEST_PAUSE * 2 ** min(max(refusals - 1, 0), 10)))
