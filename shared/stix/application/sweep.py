"""The sweep: every item whose moment has come is looked at once, and armed again."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from stix.application.attempts import is_launching
from stix.application.end_machines import end_intent, end_replaced
from stix.application.gateway_nodes import keep_gateways
from stix.application.jobs import JOB_CHECK_SECONDS, end_job
from stix.application.join_nodes import hand_over
from stix.application.ledger import CHECK_SECONDS
from stix.application.lifetimes import cluster_ending
from stix.application.lost_machines import look_at_boot
from stix.application.nudge_job import nudge
from stix.application.nudge_pool import nudge_pool
from stix.application.operations import finish, note
from stix.application.places import SYSTEM
from stix.application.race import end_rivals
from stix.application.records import (
    child_records,
    cluster_key,
    load,
    save,
    update,
)
from stix.application.runs import RUN_BEGINS_SECONDS, failure_reason, start_run
from stix.application.sweep_orphans import PLACE_SECONDS
from stix.application.want import autostop_now, end_by_limit
from stix.application.world import World
from stix.lifecycle.cluster import ClusterAction, decide_cluster
from stix.model.cluster import Cluster, Heartbeat, Intent, Node, Tombstone
from stix.model.errors import StixError, UnavailableError
from stix.model.gateway_fleet import GatewayFleet
from stix.model.job import Job
from stix.model.ledger import LedgerEntry
from stix.model.managed_job import ManagedJob
from stix.model.operation import Operation
from stix.model.pool import JobPool
from stix.model.service_state import Service
from stix.model.status import ClusterStatus, IntentStatus, JobStatus, NodeStatus, OperationStatus, Wanted
from stix.ports.state_store import SHARDS, DueItem, Item, Key, VersionConflictError
from stix.ports.surroundings import Event

__all__ = [
    "BUSY_SECONDS",
    "KINDS",
    "ORPHANS_EVERY_SECONDS",
    "ORPHANS_QUIET_SECONDS",
    "RARE_KINDS",
    "record_failure",
    "sweep",
]

logger = logging.getLogger(__name__)

_PER_SHARD = 50
_MORE_SECONDS = 30.0
"""So long a sweep goes on where there is more than a page of a shard."""
ORPHANS_EVERY_SECONDS = 600.0
ORPHANS_QUIET_SECONDS = 3600.0
BUSY_SECONDS = 2 * 86400.0
_MAX_FAILURES = 5
_NODE_CHECK_SECONDS = 3600.0
_POSTPONE_SECONDS = 300.0
_LONGEST_WATCH = 3600.0
_LONGEST_NUDGE = 600.0
_RARELY, _RARE_WINDOW = 600, 60


def sweep(world: World) -> dict[str, Any]:
    """Look at what is due: counts by kind, how many were skipped, age of the oldest in seconds."""
    now = world.clock.now()
    kinds = KINDS | RARE_KINDS if int(now) % _RARELY < _RARE_WINDOW else KINDS
    tally = _Tally(now)
    for kind, look in kinds.items():
        shards: Iterable[int] = range(SHARDS)
        while shards:
            full = [shard for shard in shards if _sweep_shard(world, kind, shard, look, now, tally)]
            shards = full if world.clock.now() - now < _MORE_SECONDS else ()
    started = _start_orphan_sweep(world, now)
    return {
        "looked_at": {kind: tally.counts[kind] for kind in kinds},
        "skipped": tally.skipped,
        "oldest_due_seconds": now - tally.oldest,
        "orphan_sweep": started,
    }


@dataclass
class _Tally:
    """What a sweep did so far; ``oldest`` is the earliest moment that was due."""

    oldest: float
    counts: Counter[str] = field(default_factory=Counter)
    skipped: int = 0


def _sweep_shard(
    world: World, kind: str, shard: int, look: Callable[[World, Item, float], None], now: float, tally: _Tally
) -> bool:
    """Look at one page of what is due; True where there is more. An index that lags shows entries again that
    were handled: then the next sweep goes on."""
    due, handled = world.store.due(kind, shard, now, limit=_PER_SHARD), 0
    for entry in due:
        tally.oldest = min(tally.oldest, entry.due_at)
        try:
            handled += _look(world, entry, look, now)
        except VersionConflictError:
            tally.skipped += 1  # somebody moved it
        except Exception:
            # One item that cannot be handled must not keep the others waiting, now or next time.
            logger.exception("item could not be swept", extra={"key": str(entry.key)})
            tally.skipped += 1
            _postpone(world, entry.key, now)
    tally.counts[kind] += handled
    return len(due) == _PER_SHARD and handled > 0


def _look(world: World, entry: DueItem, look: Callable[[World, Item, float], None], now: float) -> int:
    item = world.store.get(entry.key)
    if item is None or not item.live or item.due_at is None or item.due_at > now:
        return 0  # the index lags behind
    look(world, item, now)
    return 1


def _postpone(world: World, key: Key, now: float) -> None:
    item = world.store.get(key)
    if item is not None and item.live:
        with suppress(VersionConflictError):
            world.store.put(item.changed(due_at=now + _POSTPONE_SECONDS))


def _cluster(world: World, item: Item, now: float) -> None:
    cluster = load(Cluster, item)
    beats = child_records(world, Heartbeat, cluster.workspace, cluster.id)
    limits = world.limits
    decision = decide_cluster(
        cluster,
        beats,
        now,
        lease=limits.launch_lease_seconds,
        lost_seconds=limits.lost_seconds,
        ending=cluster_ending(world, cluster),
    )
    # The claim: whoever writes this owns the next step, and its version names the run.
    healthy = decision.action is ClusterAction.LEAVE and cluster.status is ClusterStatus.UP
    reason = "" if healthy else cluster.reason
    claimed = save(world, cluster.changed(due_at=decision.look_again_at, reason=reason))
    match decision.action:
        case ClusterAction.LAUNCH:
            start_run(world, "launch", claimed)
        case ClusterAction.SETTLE:
            start_run(world, "terminate", claimed)
        case ClusterAction.AUTOSTOP:
            autostop_now(world, claimed)
        case ClusterAction.STOP_SILENT:
            autostop_now(world, claimed, silent=decision.reason)
        case ClusterAction.END:
            end_by_limit(world, claimed, decision.reason)
        case ClusterAction.LOOK:
            look_at_boot(world, claimed)
            return
        case ClusterAction.END_RIVALS:
            end_rivals(world, claimed)
        case ClusterAction.END_REPLACED:
            end_replaced(world, claimed)
        case ClusterAction.LEAVE:
            return
    detail = {"action": str(decision.action), "reason": decision.reason}
    world.events.publish(Event("SweepActed", cluster.workspace, cluster.id, now, detail))


def _node(world: World, item: Item, now: float) -> None:
    """A node's moment is armed lazily: its heartbeats never touch it, its cluster decides about it."""
    node = load(Node, item)
    owner = world.store.get(cluster_key(node.workspace, node.cluster_id))
    if owner is None or load(Cluster, owner).ended:
        save(world, node.changed(status=NodeStatus.TERMINATED, since=now, due_at=None, token_hash=""))
        return
    save(world, node.changed(due_at=now + _NODE_CHECK_SECONDS))


def _job(world: World, item: Item, now: float) -> None:
    job = load(Job, item)
    owner = world.store.get(cluster_key(job.workspace, job.cluster_id))
    if owner is None or load(Cluster, owner).ended:
        end_job(world, job, JobStatus.FAILED_DRIVER, "its cluster is gone")
        return
    save(world, job.changed(due_at=now + JOB_CHECK_SECONDS))


def _operation(world: World, item: Item, now: float) -> None:
    operation = load(Operation, item)
    owner = world.store.get(cluster_key(operation.workspace, operation.cluster_id))
    cluster = None if owner is None else load(Cluster, owner)
    if cluster is not None and not cluster.ended and cluster.operation_id == operation.id:
        if _settled(world, cluster):
            return
        save(world, operation.changed(due_at=now + world.limits.launch_lease_seconds))
        return
    error = UnavailableError("What this operation worked on was settled otherwise.", code="superseded")
    finish(world, operation.workspace, operation.id, OperationStatus.CANCELLED, error)


def _settled(world: World, cluster: Cluster) -> bool:
    """Whether the cluster is what its operation asked for; then what a run that died left undone is done."""
    match cluster.wanted, cluster.status:
        case Wanted.UP, ClusterStatus.UP:
            hand_over(world, cluster.workspace, cluster.id)
        case Wanted.STOPPED, ClusterStatus.STOPPED:
            finish(world, cluster.workspace, cluster.operation_id, OperationStatus.SUCCEEDED)
        case _:
            return False
    return True


def _intent(world: World, item: Item, now: float) -> None:
    """An intent without an outcome belongs to a cluster that is being launched or taken down again; what one
    of an ended cluster may have made is found by its tags."""
    intent = load(Intent, item)
    owner = world.store.get(cluster_key(intent.workspace, intent.cluster_id))
    if owner is None or load(Cluster, owner).ended:
        save(world, intent.changed(status=IntentStatus.ENDED, reason="its cluster ended", due_at=None))
        return
    save(world, intent.changed(due_at=now + world.limits.launch_lease_seconds))


def _ledger(world: World, item: Item, now: float) -> None:
    """An entry that stayed open though its creation ended is settled, at the moment of the last look."""
    entry = load(LedgerEntry, item)
    intents = child_records(world, Intent, entry.workspace, entry.cluster_id)
    creation = next((one for one in intents if one.token == entry.token), None)
    if creation is None or creation.status is IntentStatus.ENDED:
        save(world, entry.changed(ended_at=now, reason="its end was not seen", due_at=None))
        return
    save(world, entry.changed(due_at=now + CHECK_SECONDS))


def _tombstone(world: World, item: Item, now: float) -> None:
    """What a forgotten cluster may have left at its provider ends, however long the provider is away."""
    tombstone = load(Tombstone, item)
    try:
        end_intent(world, tombstone.intent, "forgotten")
    except StixError as error:
        wait = min(_LONGEST_WATCH, 60.0 * 2**tombstone.failures)
        save(world, tombstone.changed(failures=min(tombstone.failures + 1, 10), due_at=now + wait))
        logger.warning("a forgotten cluster may still have machines", extra={"detail": error.message})
        return
    world.store.delete(item.key)
    detail = {"name": tombstone.cluster_name}
    world.events.publish(Event("TombstoneClosed", tombstone.workspace, tombstone.cluster_id, now, detail))


def _service(world: World, item: Item, now: float) -> None:
    nudge(world, item.key.workspace, load(Service, item).owner)


def _managed_job(world: World, item: Item, now: float) -> None:
    """The write of a nudge is the claim: its version names the run. The longer a job has been as it is, the
    longer until the next one: runs that wait for their turn do not come sooner by being more."""
    job = load(ManagedJob, item)
    again = min(max(now - job.since, RUN_BEGINS_SECONDS), _LONGEST_NUDGE)
    nudge(world, job.workspace, job.owner, again=again)


def _pool(world: World, item: Item, now: float) -> None:
    nudge_pool(world, item.key.workspace, load(JobPool, item).name)


def _gateways(world: World, item: Item, now: float) -> None:
    keep_gateways(world, item.key.workspace)


KINDS: dict[str, Callable[[World, Item, float], None]] = {
    Cluster.kind: _cluster,
    Node.kind: _node,
    Job.kind: _job,
    Operation.kind: _operation,
    ManagedJob.kind: _managed_job,
    JobPool.kind: _pool,
    Service.kind: _service,
    GatewayFleet.kind: _gateways,
}
"""What every sweep looks at, and how it looks at one item of it."""

RARE_KINDS: dict[str, Callable[[World, Item, float], None]] = {
    LedgerEntry.kind: _ledger,
    Tombstone.kind: _tombstone,
    Intent.kind: _intent,
}
"""What may wait for some minutes: looked at in the first minute of every ten, since each look costs reads."""


def _start_orphan_sweep(world: World, now: float) -> bool:
    """Compare places with the table: every ten minutes while places are in use, hourly where nothing was
    created for two days, never where nothing was for 30 days."""
    newest = world.store.list(SYSTEM, "place", limit=1).items
    quiet = now - float(newest[0].body["used_at"]) if newest else PLACE_SECONDS
    if quiet >= PLACE_SECONDS:
        return False
    every = ORPHANS_EVERY_SECONDS if quiet < BUSY_SECONDS else ORPHANS_QUIET_SECONDS
    key = Key.top(SYSTEM, "clock", "orphan-sweep")
    item = world.store.get(key)
    if item is not None and now - float(item.body["started_at"]) < every:
        return False
    version = 0 if item is None else item.version
    try:
        world.store.put(Item(key, {"started_at": now}, version=version))
    except VersionConflictError:
        return False
    return world.workflows.start("sweep", f"sweep-{int(now)}", {"mode": "sweep"})


def record_failure(world: World, workspace: str, cluster_id: str, failure: dict[str, Any]) -> dict[str, Any]:
    """A run ended badly: say so, look again with back-off, and after five in a row stop trying to launch."""
    now = world.clock.now()
    reason = failure_reason(failure)

    def change(cluster: Cluster) -> Cluster | None:
        if cluster.ended:
            return None
        failures = cluster.failures + 1
        wait = min(3600.0, 30.0 * 2**failures)
        wanted = cluster.wanted
        if _hopeless(cluster):
            # First the verdict, then the teardown: a step that dies in between is made again from here.
            error = UnavailableError(f"Gave up after {failures} failed runs. {reason}", code="launch_failed")
            finish(world, workspace, cluster.operation_id, OperationStatus.FAILED, error)
            wanted, wait = Wanted.ABSENT, 1.0
        return cluster.changed(failures=failures, reason=reason, due_at=now + wait, wanted=wanted)

    cluster = update(world, Cluster, cluster_key(workspace, cluster_id), change)
    if cluster is None or cluster.ended:
        return {"outcome": "MOVED"}
    note(world, workspace, cluster.operation_id, f"A step failed and will be tried again: {reason}")
    return {"outcome": "RECORDED"}


def _hopeless(cluster: Cluster) -> bool:
    return is_launching(cluster) and cluster.failures + 1 >= _MAX_FAILURES
