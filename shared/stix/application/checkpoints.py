"""Checkpoints of managed jobs: agents store chunks and manifests, the table says which manifest counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stix.application.records import checkpoint_parent, child_records, job_key, load, put
from stix.application.tokens import NodePrincipal
from stix.application.world import World
from stix.model.errors import ConflictError, InvalidInputError, NotFoundError
from stix.model.job import Job
from stix.model.managed_job import Checkpoint, ManagedJob
from stix.ports.object_store import SignedUrl
from stix.ports.state_store import Key, VersionConflictError

__all__ = ["exchange", "forget"]

_MOST_CHUNK = 64 * 1024 * 1024
_AT_ONCE = 100
_DROPPED_AT_ONCE = 1000
_URL_SECONDS = 900
_TRIES = 12
_FORGOTTEN_AT_ONCE = 300


def exchange(world: World, who: NodePrincipal, request: Mapping[str, Any]) -> dict[str, Any]:
    """One exchange with the agent of a rank: restore, get or put chunks, put a manifest, commit it.

    Raises ``NotFoundError`` for what is no run of a managed job, ``ConflictError`` (``superseded``) where a
    newer run of the task has begun from a checkpoint: then nothing of this one is kept any more.
    """
    job = _job(world, who, int(request["job"]))
    rank = int(request["rank"])
    if not 0 <= rank < job.num_nodes:
        raise InvalidInputError(f"rank: {rank} is not one of the job's {job.num_nodes} ranks.")
    answer: dict[str, Any] = {}
    if request.get("restore"):
        answer |= _restore(world, job, rank)
    if request.get("get"):
        prefix = _prefix(job, rank)
        answer["gets"] = [
            {"sha256": sha256, **_url(world.objects.sign_get(prefix + sha256, expires_seconds=_URL_SECONDS))}
            for sha256 in _few(request["get"])
        ]
    if request.get("put"):
        chunks = [(str(one["sha256"]), int(one["size"])) for one in _few(request["put"])]
        answer["puts"] = [
            {"sha256": sha256, **_url(signed)}
            for sha256, size in chunks
            if (signed := _target(world, _prefix(job, rank) + sha256, sha256, size)) is not None
        ]
    if request.get("manifest"):
        sha256, size = str(request["manifest"]["sha256"]), int(request["manifest"]["size"])
        signed = _target(world, _manifest_key(job, rank, sha256), sha256, size)
        answer["manifest_put"] = None if signed is None else _url(signed)
    if request.get("commit"):
        _commit(world, job, rank, request["commit"])
        answer["committed"] = True
    return answer


def _job(world: World, who: NodePrincipal, number: int) -> Job:
    item = world.store.get(job_key(who.workspace, who.cluster_id, number))
    job = None if item is None else load(Job, item)
    if job is None or not job.managed:
        raise NotFoundError(f"Job {number} is no run of a managed job.")
    return job


def _prefix(job: Job, rank: int) -> str:
    return f"{_folder(job.workspace, int(job.managed['job']))}{int(job.managed['task'])}/{rank}/chunks/"


def _folder(workspace: str, number: int) -> str:
    return f"checkpoints/{workspace}/{number}/"


def _manifest_key(job: Job, rank: int, sha256: str) -> str:
    folder = _folder(job.workspace, int(job.managed["job"]))
    return f"{folder}{int(job.managed['task'])}/{rank}/manifests/{sha256}.json"


def _few(entries: Sequence[Any]) -> Sequence[Any]:
    if len(entries) > _AT_ONCE:
        raise InvalidInputError(f"{len(entries)} chunks are asked for; at most {_AT_ONCE} at once.")
    return entries


def _target(world: World, key: str, sha256: str, size: int) -> SignedUrl | None:
    """Where to send that content; None where it is stored already."""
    if not 0 <= size <= _MOST_CHUNK:
        raise InvalidInputError(f"size: {size} is not between 0 and {_MOST_CHUNK} bytes.")
    if world.objects.size(key) == size:
        return None
    return world.objects.sign_put(key, size=size, sha256=sha256, expires_seconds=_URL_SECONDS)


def _url(signed: SignedUrl) -> dict[str, Any]:
    return {"url": signed.url, "method": signed.method, "headers": dict(signed.headers)}


def _key(job: Job, rank: int) -> Key:
    parent = checkpoint_parent(int(job.managed["job"]), int(job.managed["task"]))
    return Key(job.workspace, Checkpoint.kind, parent, f"{rank:06d}")


def _read(world: World, job: Job, rank: int) -> Checkpoint:
    item = world.store.get(_key(job, rank))
    if item is not None:
        return load(Checkpoint, item)
    return Checkpoint(
        workspace=job.workspace,
        job_id=int(job.managed["job"]),
        task=int(job.managed["task"]),
        rank=rank,
        run=0,
    )


def _write(world: World, job: Job, rank: int, **changes: Any) -> Checkpoint:
    """Take the checkpoint over for this run, unless a newer one has. What it was before is returned."""
    run = int(job.managed["run"])
    for _ in range(_TRIES):
        before = _read(world, job, rank)
        if before.run > run:
            raise ConflictError("A newer run of this task has begun.", code="superseded")
        try:
            world.store.transact([put(before.changed(run=run, **changes))])
        except VersionConflictError:
            continue
        return before
    raise ConflictError("The checkpoint is being changed by others too often.", code="busy")


def _restore(world: World, job: Job, rank: int) -> dict[str, Any]:
    """From here on no older run changes the checkpoint, nor deletes anything that it needs."""
    found = _write(world, job, rank)
    if not found.manifest:
        return {"manifest": None, "done": 0.0}
    signed = world.objects.sign_get(_manifest_key(job, rank, found.manifest), expires_seconds=_URL_SECONDS)
    return {"manifest": {"sha256": found.manifest, **_url(signed)}, "done": found.done}


def _commit(world: World, job: Job, rank: int, commit: Mapping[str, Any]) -> None:
    """The manifest counts from now on; what only the one before it named is deleted."""
    sha256 = str(commit["sha256"])
    size = world.objects.size(_manifest_key(job, rank, sha256))
    if size is None:
        raise InvalidInputError(f"commit: the manifest {sha256[:12]} is not in the store.")
    before = _write(
        world,
        job,
        rank,
        manifest=sha256,
        size=size,
        done=max(float(commit.get("done") or 0.0), 0.0),
        stored_at=world.clock.now(),
        files=int(commit.get("files") or 0),
        bytes=int(commit.get("bytes") or 0),
    )
    for chunk in list(commit.get("dropped") or ())[:_DROPPED_AT_ONCE]:
        world.objects.delete(_prefix(job, rank) + str(chunk))
    if before.manifest and before.manifest != sha256:
        world.objects.delete(_manifest_key(job, rank, before.manifest))


def forget(world: World, job: ManagedJob) -> bool:
    """Delete a job's checkpoints, some hundred objects at a time; True once all are gone."""
    left = _FORGOTTEN_AT_ONCE
    for task in job.tasks:
        parent = checkpoint_parent(job.id, task.index)
        kept = child_records(world, Checkpoint, job.workspace, parent)
        if not kept:
            continue
        for key in world.objects.keys(f"{_folder(job.workspace, job.id)}{task.index}/"):
            if left == 0:
                return False
            world.objects.delete(key)
            left -= 1
        for one in kept:
            world.store.delete(Key(job.workspace, Checkpoint.kind, parent, f"{one.rank:06d}"))
    return True
