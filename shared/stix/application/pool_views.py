"""What people see of pools: records of the table as the bodies of the API's answers."""

from __future__ import annotations

from typing import Any

from stix.application.advance_pool import policy_seats
from stix.application.nudge_pool import find_pool
from stix.application.observe_run import cluster_and_job
from stix.application.pool_workers import alive
from stix.application.records import child_records, cursor_of_request, load
from stix.application.world import World
from stix.model.cluster import Cluster
from stix.model.errors import NotFoundError
from stix.model.job import Job
from stix.model.managed_job import ManagedJob
from stix.model.pool import JobPool, PoolSeat, PoolWorker
from stix.model.status import ReplicaStatus
from stix.pools.assign import assign

__all__ = ["list_pools", "pool_of_path", "pool_view", "setup_of_worker", "waits_in_pool"]

_PAGE = 100


def pool_of_path(world: World, workspace: str, name: str) -> JobPool:
    """Raises ``NotFoundError``."""
    pool = find_pool(world, workspace, name) if len(name) <= 63 else None
    if pool is None or pool.ended:
        raise NotFoundError(
            f"There is no pool {name!r:.80}.",
            hint="`stix jobs pool status` lists them.",
            code="pool_not_found",
            details={"pool": name[:80]},
        )
    return pool


def list_pools(world: World, workspace: str, *, after: str | None) -> dict[str, Any]:
    """The body of ``PoolList``: one query of the index."""
    with cursor_of_request(after):
        page = world.store.list(workspace, JobPool.kind, live=True, after=after, limit=_PAGE)
    return {"pools": [_body(load(JobPool, item)) for item in page.items], "next": page.next}


def pool_view(world: World, pool: JobPool) -> dict[str, Any]:
    """The body of ``Pool`` with all that is in it."""
    jobs: dict[int, list[int]] = {}
    seats = child_records(world, PoolSeat, pool.workspace, pool.name)
    for seat in seats:
        if seat.worker and not seat.ending:
            jobs.setdefault(seat.worker, []).append(seat.job_id)
    return {
        **_body(pool),
        "waiting": sum(not seat.worker for seat in seats),
        "running": sum(map(len, jobs.values())),
        "workers": [_worker(worker, jobs.get(worker.number, [])) for worker in pool.workers],
        "past": [_worker(worker, []) for worker in pool.past],
        "decisions": [decided.model_dump() for decided in pool.decisions],
    }


def _body(pool: JobPool) -> dict[str, Any]:
    return {
        "name": pool.name,
        "user": pool.user,
        "status": str(pool.status),
        "reason": pool.reason,
        "since": pool.since,
        "created_at": pool.created_at,
        "version": pool.template.version,
        "mode": pool.mode,
        "resources": pool.template.resources,
        "num_nodes": pool.template.num_nodes,
        "min_workers": pool.least,
        "max_workers": pool.most,
        "queue_length_threshold": pool.threshold,
        "upscale_delay_seconds": pool.upscale_delay,
        "downscale_delay_seconds": pool.downscale_delay,
        "target": pool.least if pool.target is None else pool.target,
        "ready": sum(worker.status is ReplicaStatus.READY for worker in pool.workers),
        "waiting": pool.waiting,
        "running": pool.running,
    }


def _worker(worker: PoolWorker, jobs: list[int]) -> dict[str, Any]:
    return {
        "number": worker.number,
        "version": worker.version,
        "status": str(worker.status),
        "reason": worker.reason,
        "since": worker.since,
        "cluster": worker.cluster_name,
        "launched_at": worker.launched_at,
        "ready_at": worker.ready_at,
        "place": worker.place,
        "spot": worker.spot,
        "price": worker.price,
        "jobs": jobs,
    }


def waits_in_pool(world: World, job: ManagedJob) -> list[str]:
    """Why each of its tasks that waits for a worker does so now, in words."""
    pool = find_pool(world, job.workspace, job.pool) if job.pool and not job.status.terminal else None
    if pool is None:
        return []
    seats = policy_seats(child_records(world, PoolSeat, job.workspace, pool.name))
    waits = assign(alive(pool), seats, pool.template.version, world.clock.now()).waits
    return [why for seat, why in waits.items() if seat.startswith(f"{job.id:010d}.")]


def setup_of_worker(world: World, pool: JobPool, text: str) -> tuple[Cluster, Job]:
    """Where the log of a worker's setup is, also of one that is gone lately. Raises ``NotFoundError``."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else 0
    for worker in (*pool.workers, *pool.past):
        if worker.number == number:
            cluster, job = cluster_and_job(world, pool.workspace, worker.cluster_id, worker.cluster_job)
            if cluster is not None and job is not None:
                return cluster, job
    raise NotFoundError(
        f"Pool {pool.name!r} has no worker {text!r:.40} whose log is kept.",
        hint=f"`stix jobs pool status -v {pool.name}` lists its workers.",
        code="worker_not_found",
    )
