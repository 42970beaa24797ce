"""A managed job's side of a pool: its task asks for a worker, runs there, and gives it back."""

from __future__ import annotations

from stix.application.job_draft import Draft
from stix.application.nudge_pool import find_pool
from stix.application.observe_run import cluster_and_job
from stix.application.records import find_record, pool_seat_key, put
from stix.application.run_task import STARTING_SECONDS, repeat_run
from stix.model.pool import PoolSeat
from stix.model.status import ClusterStatus, ManagedJobStatus, Wanted
from stix.ports.state_store import Delete
from stix.recovery.situation import Policy

__all__ = ["close_seats", "take_seat"]


def take_seat(draft: Draft, index: int) -> bool:
    """Of a task that holds no worker: run it on the one that the pool gave it, else ask for one. True where
    it runs: then the whole step is written. Raises ``VersionConflictError``."""
    job, task = draft.job, draft.task(index)
    if task.cluster_id:
        return False
    pool = find_pool(draft.world, job.workspace, job.pool)
    if pool is None or pool.closed:
        draft.end_task(index, ManagedJobStatus.CANCELLED, f"pool {job.pool} was taken down")
        return False
    if task.lost and task.policy == Policy.NONE:
        reason = f"its worker in {task.last_place} was lost, and its strategy is none"
        draft.end_task(index, ManagedJobStatus.FAILED_NO_RESOURCE, reason)
        return False
    seat = _seat(draft, index)
    if seat is not None and seat.worker and not seat.taken:
        cluster, _ = cluster_and_job(draft.world, job.workspace, seat.cluster_id, 1)
        if cluster is not None and cluster.status is ClusterStatus.UP and cluster.wanted is Wanted.UP:
            offer = cluster.offer
            place = "" if offer is None else offer.place
            first = task.started_at is None
            reason = f"worker {seat.worker} of pool {job.pool}"
            draft.write_seat(put(seat.changed(taken=True)))
            draft.change_task(
                index,
                status=ManagedJobStatus.STARTING if first else ManagedJobStatus.RECOVERING,
                reason=reason,
                held_since=draft.now,
                settled=False,
                launches=task.launches + 1,
                place=place,
                spot=offer is not None and offer.spot,
            )
            draft.say("JobLaunching" if first else "JobRecovering", reason, task=index, place=place)
            draft.look_at(draft.now + STARTING_SECONDS)
            return repeat_run(draft, index, cluster)
    if seat is None or seat.worker:
        draft.write_seat(put(_waiting(draft, index, seat)))
    status = ManagedJobStatus.PENDING if task.started_at is None else ManagedJobStatus.RECOVERING
    reason = f"it waits for a worker of pool {job.pool}"
    draft.change_task(index, status=status, reason=reason)
    return False


def _waiting(draft: Draft, index: int, seat: PoolSeat | None) -> PoolSeat:
    """The seat with which it asks, once more for one that had a worker: it keeps its place in the queue."""
    job, task = draft.job, draft.task(index)
    if seat is not None:
        return seat.changed(worker=0, cluster_id="", taken=False, avoid=seat.worker)
    assert task.needs is not None
    return PoolSeat(
        workspace=job.workspace,
        pool=job.pool,
        job_id=job.id,
        task=index,
        needs=task.needs,
        priority=task.priority,
        asked_at=draft.now,
        seconds=task.work or None,
    )


def close_seats(draft: Draft) -> None:
    """Tasks that have ended give their workers back: their room at once, the workers themselves once the last
    log is whole."""
    for task in draft.job.tasks:
        if not task.status.terminal:
            continue
        seat = _seat(draft, task.index)
        if seat is None:
            continue
        if not draft.job.leaving:
            draft.write_seat(
                Delete(pool_seat_key(seat.workspace, seat.pool, seat.job_id, seat.task), seat.version)
            )
        elif not seat.ending:
            draft.write_seat(put(seat.changed(ending=True)))


def _seat(draft: Draft, index: int) -> PoolSeat | None:
    key = pool_seat_key(draft.job.workspace, draft.job.pool, draft.job.id, index)
    return find_record(draft.world, PoolSeat, key)
