"""Reading and writing records: the one place that knows how a model becomes an item of the table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from stix.application.world import World
from stix.model.cluster import Cluster, Heartbeat, Intent, Node, Tombstone
from stix.model.errors import ConflictError, InvalidInputError, NotFoundError, UnavailableError
from stix.model.gateway_fleet import GatewayFleet
from stix.model.job import Job, JobLog
from stix.model.ledger import LedgerEntry
from stix.model.managed_job import Checkpoint, JobEvent, JobRun, ManagedJob
from stix.model.names import CLUSTER_NAME, MAX_NAME
from stix.model.operation import Operation
from stix.model.pool import JobPool, PoolSeat
from stix.model.record import Record
from stix.model.service_state import GatewayFigures, GatewaySeen, Replica, Service
from stix.model.status import JobStatus, NodeStatus
from stix.ports.state_store import Item, Key, Put, VersionConflictError, Write

__all__ = [
    "GATEWAYS",
    "checkpoint_parent",
    "child_records",
    "cluster_by_name",
    "cluster_key",
    "cursor_of_request",
    "find_record",
    "get_cluster",
    "heartbeat_key",
    "intent_key",
    "job_key",
    "latest_wins",
    "load",
    "log_key",
    "managed_job_key",
    "name_held_by",
    "name_key",
    "node_key",
    "operation_key",
    "pool_key",
    "pool_seat_key",
    "put",
    "read_cluster",
    "save",
    "service_key",
    "to_item",
    "unfinished",
    "update",
]

R = TypeVar("R", bound=Record)

_UPDATE_TRIES = 12
GATEWAYS = "gateways"
"""The parent of what is known of a workspace's gateways."""


def cluster_key(workspace: str, cluster_id: str) -> Key:
    return Key.top(workspace, Cluster.kind, cluster_id)


def name_key(workspace: str, name: str) -> Key:
    return Key.top(workspace, "name", name)


def operation_key(workspace: str, operation_id: str) -> Key:
    return Key.top(workspace, Operation.kind, operation_id)


def node_key(workspace: str, cluster_id: str, rank: int) -> Key:
    return Key(workspace, Node.kind, cluster_id, f"{rank:06d}")


def heartbeat_key(workspace: str, cluster_id: str, rank: int) -> Key:
    return Key(workspace, Heartbeat.kind, cluster_id, f"{rank:06d}")


def intent_key(workspace: str, cluster_id: str, attempt: int) -> Key:
    return Key(workspace, Intent.kind, cluster_id, f"{attempt:06d}")


def job_key(workspace: str, cluster_id: str, job_id: int) -> Key:
    return Key(workspace, Job.kind, cluster_id, f"{job_id:010d}")


def log_key(workspace: str, cluster_id: str, job_id: int, rank: int) -> Key:
    return Key(workspace, JobLog.kind, f"{cluster_id}.{job_id}", f"{rank:06d}")


def managed_job_key(workspace: str, number: int) -> Key:
    return Key.top(workspace, ManagedJob.kind, f"{number:010d}")


def service_key(workspace: str, name: str) -> Key:
    return Key.top(workspace, Service.kind, name)


def pool_key(workspace: str, name: str) -> Key:
    return Key.top(workspace, JobPool.kind, name)


def pool_seat_key(workspace: str, pool: str, number: int, task: int) -> Key:
    return Key(workspace, PoolSeat.kind, pool, f"{number:010d}.{task:04d}")


def checkpoint_parent(number: int, task: int) -> str:
    return f"{number:010d}.{task:04d}"


def _key_of(record: Record) -> Key:
    match record:
        case ManagedJob():
            return managed_job_key(record.workspace, record.id)
        case Checkpoint():
            return Key(
                record.workspace,
                record.kind,
                checkpoint_parent(record.job_id, record.task),
                f"{record.rank:06d}",
            )
        case JobEvent() | JobRun():
            return Key(record.workspace, record.kind, f"{record.job_id:010d}", f"{record.number:08d}")
        case GatewayFleet():
            return Key.top(record.workspace, record.kind, GATEWAYS)
        case Service():
            return service_key(record.workspace, record.name)
        case Replica():
            return Key(record.workspace, record.kind, record.service_uid, f"{record.id:08d}")
        case GatewayFigures():
            return Key(record.workspace, record.kind, record.service, record.gateway_id)
        case GatewaySeen():
            return Key(record.workspace, record.kind, GATEWAYS, record.gateway_id)
        case Cluster():
            return cluster_key(record.workspace, record.id)
        case Operation():
            return operation_key(record.workspace, record.id)
        case Node():
            return node_key(record.workspace, record.cluster_id, record.rank)
        case Heartbeat():
            return heartbeat_key(record.workspace, record.cluster_id, record.rank)
        case Intent():
            return intent_key(record.workspace, record.cluster_id, record.attempt)
        case Job():
            return job_key(record.workspace, record.cluster_id, record.id)
        case JobLog():
            return log_key(record.workspace, record.cluster_id, record.job_id, record.rank)
        case LedgerEntry():
            return Key(
                record.workspace, record.kind, record.cluster_id, f"{record.token}.{record.period:04d}"
            )
        case Tombstone():
            return Key(record.workspace, record.kind, record.cluster_id, f"{record.attempt:06d}")
        case JobPool():
            return pool_key(record.workspace, record.name)
        case PoolSeat():
            return pool_seat_key(record.workspace, record.pool, record.job_id, record.task)
        case _:
            raise TypeError(f"{type(record).__name__} has no key")


def _live(record: Record) -> bool:
    match record:
        case Cluster():
            return not record.ended
        case Operation():
            return not record.status.terminal
        case Node():
            return record.status is not NodeStatus.TERMINATED
        case Job() | ManagedJob():
            return not record.status.terminal
        case Intent():
            return record.status == "PENDING"
        case LedgerEntry() | Service():
            return record.ended_at is None
        case GatewayFleet():
            return record.on
        case Tombstone():
            return True
        case JobPool():
            return not record.ended
        case _:
            return False


def to_item(record: Record) -> Item:
    """The item of a record. A live one without ``due_at`` is refused by the item itself."""
    live = _live(record)
    body = record.model_dump(mode="json", exclude={"version", "due_at", "expires_at", "workspace"})
    return Item(
        key=_key_of(record),
        body=body,
        version=record.version,
        status=str(getattr(record, "status", "")),
        live=live,
        due_at=record.due_at if live else None,
        listed=isinstance(record, Cluster | Operation | LedgerEntry | ManagedJob | JobPool | Service),
        created_at=_listed_by(record),
        expires_at=record.expires_at,
        schema_version=record.schema_version,
    )


def _listed_by(record: Record) -> float:
    """The moment that orders lists: of an entry of the ledger its end, once it has one."""
    if isinstance(record, LedgerEntry):
        return record.started_at if record.ended_at is None else record.ended_at
    moment: float = getattr(record, "created_at", 0.0)
    return moment


def load(model: type[R], item: Item) -> R:
    """The record of an item, also of one in an older shape: writing it brings it up to date. Raises
    ``UnavailableError`` for one that a newer release wrote."""
    if item.schema_version > model.schema_version:
        raise UnavailableError(
            f"{item.key} was written by a newer release.", hint="Update this one.", code="newer_schema"
        )
    body = item.body
    if item.schema_version < model.schema_version:
        body = model.read_older(dict(body), item.schema_version)
    return model.model_validate(
        {
            **body,
            "workspace": item.key.workspace,
            "version": item.version,
            "due_at": item.due_at,
            "expires_at": item.expires_at,
        }
    )


def find_record(world: World, model: type[R], key: Key) -> R | None:
    item = world.store.get(key)
    return None if item is None else load(model, item)


def put(record: Record, *, unconditional: bool = False) -> Put:
    """A transaction's write of ``record``, conditional on the version that was read."""
    return Put(to_item(record), unconditional=unconditional)


def save(world: World, record: R) -> R:
    """Write one record, conditional on the version that was read. Raises ``VersionConflictError``."""
    stored = world.store.put(to_item(record))
    return record.changed(version=stored.version)


def update(
    world: World,
    model: type[R],
    key: Key,
    change: Callable[[R], R | None],
    *,
    also: Callable[[], list[Write]] = list,
) -> R | None:
    """Read, change, write, again while others write in between. ``change`` answers None to leave it alone.

    ``also``: what is written in the same transaction. Returns the record as it stands afterwards; None where
    there is no such item.
    """
    for _ in range(_UPDATE_TRIES):
        item = world.store.get(key)
        if item is None:
            return None
        record = load(model, item)
        changed = change(record)
        if changed is None or changed == record:
            return record
        try:
            stored = world.store.transact([put(changed), *also()])[0]
        except VersionConflictError:
            continue
        return changed.changed(version=stored.version)
    raise ConflictError(f"{key} is being changed by others too often.", hint="Try again.", code="busy")


def child_records(
    world: World, model: type[R], workspace: str, parent: str, *, limit: int | None = None
) -> list[R]:
    """All children of one kind in id order, page by page (at most ``limit``)."""
    found: list[R] = []
    after: str | None = None
    while True:
        page = world.store.children(workspace, model.kind, parent, after=after, limit=100)
        found.extend(load(model, item) for item in page.items)
        after = page.next
        if after is None or (limit is not None and len(found) >= limit):
            return found if limit is None else found[:limit]


def get_cluster(world: World, workspace: str, cluster_id: str) -> Cluster:
    """Raises ``NotFoundError``."""
    return read_cluster(world.store.get(cluster_key(workspace, cluster_id)), cluster_id)


def read_cluster(item: Item | None, cluster_id: str) -> Cluster:
    """Of what was read under the cluster's key. Raises ``NotFoundError``."""
    if item is None:
        raise NotFoundError(f"There is no cluster with the id {cluster_id!r}.", code="cluster_not_found")
    return load(Cluster, item)


def cluster_by_name(world: World, workspace: str, name: str) -> Cluster | None:
    """The cluster that holds the name now; none holds what is no name."""
    if len(name) > MAX_NAME or not CLUSTER_NAME.fullmatch(name):
        return None
    pointer = world.store.get(name_key(workspace, name))
    if pointer is None or not pointer.body["cluster_id"]:
        return None
    item = world.store.get(cluster_key(workspace, str(pointer.body["cluster_id"])))
    return None if item is None else load(Cluster, item)


@contextmanager
def cursor_of_request(after: str | None) -> Iterator[None]:
    """Around a read that goes on at a cursor which somebody sent. Raises ``InvalidInputError``."""
    try:
        yield
    except ValueError:
        raise InvalidInputError(
            f"after: {after!r:.80} is not a cursor of this list.", hint="Send back what the last page gave."
        ) from None


def name_held_by(
    world: World, workspace: str, name: str, cluster_id: str, *, expires_at: float | None = None
) -> Put:
    """The write that gives a name to a cluster, or frees it (empty id), conditional on what was read.

    A freed name's item stays for a while, so that its version never starts again while somebody may hold it.
    """
    key = name_key(workspace, name)
    stored = world.store.get(key)
    version = 0 if stored is None else stored.version
    return Put(Item(key, {"cluster_id": cluster_id}, version=version, expires_at=expires_at))


def unfinished(jobs: Iterable[Job]) -> list[Job]:
    """Jobs that have not ended."""
    return [job for job in jobs if not job.status.terminal]


def latest_wins(current: JobStatus, reported: JobStatus) -> JobStatus:
    """Of two statuses of one job, SkyPilot's later one; a terminal status never changes."""
    if current.terminal:
        return current
    return reported if reported.order > current.order else current
