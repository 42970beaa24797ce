"""Something happened that a pool should look at: it is due now, and a run of the job machine begins."""

from __future__ import annotations

import re

from stix.application.records import find_record, pool_key, update
from stix.application.runs import RUN_BEGINS_SECONDS
from stix.application.world import World
from stix.model.pool import JobPool

__all__ = ["find_pool", "nudge_pool", "pool_topic", "start_pool_run", "worker_of"]

_OWNER = re.compile(r"pool/([^/]{1,63})/([0-9]{1,9})", re.ASCII)


def worker_of(owner: str) -> tuple[str, int] | None:
    """The pool and the number of the worker that an ``owner`` names; None for no worker."""
    found = _OWNER.fullmatch(owner)
    return (found[1], int(found[2])) if found else None


def pool_topic(workspace: str, name: str) -> str:
    """What a reader of a pool waits on."""
    return f"pool/{workspace}/{name}"


def find_pool(world: World, workspace: str, name: str) -> JobPool | None:
    """Also one that has ended."""
    return find_record(world, JobPool, pool_key(workspace, name))


def nudge_pool(world: World, workspace: str, name: str, *, worker: int = 0) -> bool:
    """Let the pool look at its workers and its jobs; ``worker``: something happened to that one. False where
    there is no such pool, or it has ended.

    Where a run is on its way that has not looked yet nothing is written: whatever happens before it looks, it
    sees. The write comes first: a process that dies before the run begins leaves a pool that is due soon.
    """
    now = world.clock.now()
    written: list[JobPool] = []

    def change(pool: JobPool) -> JobPool | None:
        written.clear()
        known = not worker or worker in pool.suspects
        comes = pool.asked and pool.due_at is not None and pool.due_at > now
        if pool.ended or (comes and known):
            return None
        suspects = pool.suspects if known else (*pool.suspects, worker)
        changed = pool.changed(asked=True, suspects=suspects, due_at=now + RUN_BEGINS_SECONDS)
        written.append(changed)
        return changed

    pool = update(world, JobPool, pool_key(workspace, name), change)
    if pool is None or pool.ended:
        return False
    if written:
        start_pool_run(world, pool)
    return True


def start_pool_run(world: World, pool: JobPool) -> bool:
    """Start ``job`` for the version of the pool that was just written; one version runs once."""
    where = {"workspace": pool.workspace, "pool": pool.name}
    return world.workflows.start("job", f"{pool.uid}-{pool.version}", {"job": where})
