"""Logs: agents ship numbered chunks, readers get a manifest with signed URLs. Nobody touches a machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stix.application.agents import follow_key
from stix.application.jobs import job_topic
from stix.application.nudge_job import nudge
from stix.application.records import child_records, job_key, load, log_key, put, update
from stix.application.tokens import NodePrincipal
from stix.application.uploads import upload_key
from stix.application.wakes import wake_nodes
from stix.application.world import World
from stix.model.cluster import Cluster
from stix.model.errors import ForbiddenError, InvalidInputError, NotFoundError
from stix.model.job import Job, JobLog
from stix.ports.state_store import Item, VersionConflictError

__all__ = ["download_urls", "log_page", "node_secrets", "parse_cursor", "ship"]

MAX_CHUNK = 2 * 1024 * 1024
PAGE_CHUNKS = 32
_URL_SECONDS = 900
_FOLLOW_SECONDS = 60.0


def ship(world: World, who: NodePrincipal, request: Mapping[str, Any]) -> dict[str, Any]:
    """Record chunks that arrived, give URLs for the next ones, close the logs that are complete."""
    merged: dict[tuple[int, int], dict[str, Any]] = {}
    for chunk in request.get("uploaded") or ():
        entry = merged.setdefault((int(chunk["job"]), int(chunk["rank"])), {"count": 0, "size": 0})
        entry["count"] = max(entry["count"], int(chunk["n"]) + 1)
        entry["size"] += int(chunk["size"])
    for end in request.get("finished") or ():
        entry = merged.setdefault((int(end["job"]), int(end["rank"])), {"count": 0, "size": 0})
        entry["count"] = max(entry["count"], int(end["chunks"]))
        entry["end"] = end
    for (job_id, rank), entry in merged.items():
        _extend_manifest(world, who, job_id, rank, entry)
    for job_id in sorted({job_id for (job_id, _), entry in merged.items() if "end" in entry}):
        # A managed job keeps its machines until the log is whole.
        item = world.store.get(job_key(who.workspace, who.cluster_id, job_id))
        if item is not None:
            nudge(world, who.workspace, load(Job, item).owner)
    urls = []
    for want in request.get("wanted") or ():
        size = int(want["size"])
        if not 0 < size <= MAX_CHUNK:
            raise InvalidInputError(f"wanted.size: a chunk of {size} bytes is not between 1 and {MAX_CHUNK}.")
        log = JobLog(
            workspace=who.workspace,
            cluster_id=who.cluster_id,
            job_id=int(want["job"]),
            rank=int(want["rank"]),
        )
        signed = world.objects.sign_put(
            log.object_key(int(want["n"])), size=size, expires_seconds=_URL_SECONDS
        )
        urls.append({**want, "method": signed.method, "url": signed.url, "headers": dict(signed.headers)})
    return {"urls": urls}


def _extend_manifest(
    world: World, who: NodePrincipal, job_id: int, rank: int, entry: Mapping[str, Any]
) -> None:
    key = log_key(who.workspace, who.cluster_id, job_id, rank)
    end = entry.get("end")

    def grown(log: JobLog) -> JobLog:
        changes: dict[str, Any] = {"chunks": max(log.chunks, entry["count"])}
        if changes["chunks"] > log.chunks:
            changes["size"] = log.size + entry["size"]
        if end is not None:
            changes |= {"complete": True, "bytes": dict(end["bytes"]), "sha256": dict(end["sha256"])}
        return log.changed(**changes)

    if update(world, JobLog, key, grown) is None:
        keep = world.clock.now() + world.limits.retention_seconds * 3
        fresh = JobLog(
            workspace=who.workspace, cluster_id=who.cluster_id, job_id=job_id, rank=rank, expires_at=keep
        )
        try:
            world.store.transact([put(grown(fresh))])
        except VersionConflictError:
            update(world, JobLog, key, grown)
    world.wake.wake(job_topic(who.cluster_id, job_id))


def download_urls(world: World, who: NodePrincipal, keys: Sequence[str]) -> dict[str, Any]:
    """Signed URLs of uploads of the node's own workspace. Raises ``ForbiddenError`` for anything else."""
    prefix = upload_key(who.workspace, "")
    urls = []
    for key in keys:
        if not key.startswith(prefix):
            raise ForbiddenError(f"{key!r} is not an upload of this workspace.")
        signed = world.objects.sign_get(key, expires_seconds=_URL_SECONDS)
        urls.append({"key": key, "url": signed.url, "headers": dict(signed.headers)})
    return {"urls": urls}


def node_secrets(world: World, who: NodePrincipal, job_id: int) -> dict[str, Any]:
    """The secrets of a job of the node's own cluster, while it has not ended. Raises ``NotFoundError``."""
    item = world.store.get(job_key(who.workspace, who.cluster_id, job_id))
    job = None if item is None else load(Job, item)
    if job is None or job.status.terminal or not job.secrets_key:
        raise NotFoundError(f"Job {job_id} has no secrets.")
    try:
        return {"secrets": world.secrets.get(job.secrets_key)}
    except KeyError:
        raise NotFoundError(f"The secrets of job {job_id} are gone.") from None


def parse_cursor(cursor: str) -> dict[int, int]:
    """``0:5,1:3``: rank to next chunk. Raises ``InvalidInputError``."""
    try:
        position = {int(rank): int(n) for rank, n in (part.split(":") for part in cursor.split(",") if part)}
        if any(n < 0 for n in position.values()):
            raise ValueError(cursor)
        return position
    except ValueError:
        raise InvalidInputError(
            f"cursor: {cursor!r} is not a cursor.", hint="Send back what the last page gave."
        ) from None


def log_page(
    world: World, cluster: Cluster, job: Job, *, cursor: str, follow: bool, rank: int | None = None
) -> tuple[dict[str, Any], bool]:
    """One page of a job's log: (body of ``LogPage`` without its job, whether it holds anything new)."""
    if follow and not job.status.terminal:
        _keep_following(world, cluster, job)
    counts_only = cursor == "end"
    position = {} if counts_only else parse_cursor(cursor)
    logs = {log.rank: log for log in child_records(world, JobLog, job.workspace, f"{cluster.id}.{job.id}")}
    ranks = range(job.num_nodes) if rank is None else [rank]
    nodes = []
    room = PAGE_CHUNKS
    everything = True
    for each in ranks:
        log = logs.get(each)
        count = 0 if log is None else log.chunks
        start = count if counts_only else min(position.get(each, 0), count)
        stop = min(count, start + room)
        room -= stop - start
        chunks = []
        for n in range(start, stop):
            signed = world.objects.sign_get(logs[each].object_key(n), expires_seconds=_URL_SECONDS)
            chunks.append({"n": n, "url": signed.url, "headers": dict(signed.headers)})
        position[each] = stop
        complete = log is not None and log.complete
        everything &= stop == count and (complete or (job.status.terminal and _lost(world, cluster, job)))
        nodes.append({"rank": each, "count": count, "complete": complete, "chunks": chunks})
    body = {
        "nodes": nodes,
        "cursor": ",".join(f"{each}:{n}" for each, n in sorted(position.items())),
        "done": job.status.terminal and everything,
    }
    return body, any(node["chunks"] for node in nodes) or bool(body["done"]) or counts_only


def _lost(world: World, cluster: Cluster, job: Job) -> bool:
    """Nothing more can come: the machines are gone, the job never started, or its node had time enough."""
    if cluster.ended or cluster.status in ("STOPPED",) or job.started_at is None:
        return True
    ended = job.ended_at or 0.0
    return world.clock.now() - ended > _FOLLOW_SECONDS


def _keep_following(world: World, cluster: Cluster, job: Job) -> None:
    """Ask the agents for quick chunks, renewed at half time so that a reader costs few writes."""
    now = world.clock.now()
    key = follow_key(cluster.workspace, cluster.id)
    item = world.store.get(key)
    body = {} if item is None else {k: v for k, v in item.body.items() if v > now}
    if body.get(str(job.id), job.follow_until or 0.0) > now + _FOLLOW_SECONDS / 2:
        return
    body[str(job.id)] = now + _FOLLOW_SECONDS
    version = 0 if item is None else item.version
    try:
        world.store.put(Item(key, body, version=version, created_at=now, expires_at=now + 3600))
    except VersionConflictError:
        return  # another reader renewed it
    wake_nodes(world, cluster, all_ranks=True)
