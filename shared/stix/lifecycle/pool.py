"""What follows for a pool from how its workers stand. No I/O, no clock."""

from __future__ import annotations

from stix.model.pool import JobPool
from stix.model.status import PoolStatus, ReplicaStatus

__all__ = ["MOST_TROUBLES", "pool_status", "trouble_pause"]

MOST_TROUBLES = 3
"""Workers in a row that did not become ready; then none is launched before another template is applied."""

_SHORTEST_PAUSE, _LONGEST_PAUSE = 5.0, 300.0


def trouble_pause(troubles: int) -> float:
    """Seconds before the next worker is launched after one that did not become ready."""
    return float(min(_LONGEST_PAUSE, _SHORTEST_PAUSE * 2 ** min(troubles, 10)))


def pool_status(pool: JobPool) -> PoolStatus:
    """The status of the whole. What its newest template cannot do is said where no worker is ready."""
    if pool.leaving:
        return PoolStatus.SHUTTING_DOWN
    statuses = {worker.status for worker in pool.workers}
    if ReplicaStatus.READY in statuses:
        return PoolStatus.READY
    if pool.troubles >= MOST_TROUBLES:
        return PoolStatus.FAILED
    starting = statuses & {ReplicaStatus.PROVISIONING, ReplicaStatus.STARTING}
    return PoolStatus.REPLICA_INIT if starting or pool.target else PoolStatus.NO_REPLICA
