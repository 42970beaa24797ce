"""Cancelling jobs: the head node is told; a job that no agent will ever hear of ends here."""

from __future__ import annotations

from collections.abc import Sequence

from stix.application.jobs import command_put, counter_key, end_job, numbered
from stix.application.records import child_records, job_key, load, put, unfinished
from stix.application.wakes import wake_nodes
from stix.application.world import World
from stix.model.cluster import Cluster
from stix.model.errors import ConflictError, InvalidInputError, NotFoundError
from stix.model.job import Job
from stix.model.status import JobStatus
from stix.ports.state_store import Put, VersionConflictError

__all__ = ["cancel"]

_BATCH = 30
_TRIES = 20


def cancel(
    world: World, cluster: Cluster, job_ids: Sequence[int], *, every: bool, grace: float | None = None
) -> list[Job]:
    """Ask for the end of jobs, by id or all unfinished ones; the jobs that are being cancelled. ``grace``:
    seconds from TERM to KILL, None for the agents' own.

    One that has ended already is left out. Raises ``NotFoundError`` for an unknown id.
    """
    if every == bool(job_ids):
        raise InvalidInputError("Give either job ids or `all`.", hint="`stix cancel CLUSTER 1 2`, or `-a`.")
    if every:
        jobs = unfinished(child_records(world, Job, cluster.workspace, cluster.id))
    else:
        jobs = [
            job for job in (_get(world, cluster, i) for i in sorted(set(job_ids))) if not job.status.terminal
        ]
    for start in range(0, len(jobs), _BATCH):
        _ask(world, cluster, [job.id for job in jobs[start : start + _BATCH]], grace)
    wake_nodes(world, cluster)
    return [_get(world, cluster, job.id) for job in jobs]


def _get(world: World, cluster: Cluster, job_id: int) -> Job:
    item = world.store.get(job_key(cluster.workspace, cluster.id, job_id))
    if item is None:
        raise NotFoundError(
            f"Cluster {cluster.name!r} has no job {job_id}.",
            hint=f"`stix queue {cluster.name}` lists its jobs.",
            code="job_not_found",
        )
    return load(Job, item)


def _ask(world: World, cluster: Cluster, job_ids: Sequence[int], grace: float | None) -> None:
    """Mark the jobs and put one command each into the head's queue, in one transaction."""
    for _ in range(_TRIES):
        now = world.clock.now()
        jobs = [job for job in (_get(world, cluster, i) for i in job_ids) if not job.status.terminal]
        waiting = [job for job in jobs if job.status is JobStatus.INIT]
        for job in waiting:
            end_job(world, job, JobStatus.CANCELLED, "cancelled before its cluster was up")
        told = [job for job in jobs if job.status is not JobStatus.INIT]
        if not told:
            return
        counter = world.store.get(counter_key(cluster.workspace, cluster.id))
        write, _first, seq = numbered(counter, cluster.workspace, cluster.id, jobs=0, commands=len(told))
        writes: list[Put] = [write]
        for offset, job in enumerate(told):
            writes.append(put(job.changed(cancel_requested=True)))
            command = {"type": "cancel", "job_id": job.id, **({} if grace is None else {"grace": grace})}
            writes.append(command_put(cluster.workspace, cluster.id, seq + offset, command, now))
        try:
            world.store.transact(writes)
        except VersionConflictError:
            continue
        return
    raise ConflictError("The jobs are being changed by others too often.", hint="Try again.", code="busy")
