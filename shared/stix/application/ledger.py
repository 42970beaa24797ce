"""The ledger: what machines cost, written as it happens and never changed afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from stix.application.records import child_records, get_cluster, load, put, save
from stix.application.world import World
from stix.model.cluster import Cluster, Intent
from stix.model.errors import NotFoundError
from stix.model.ledger import LedgerEntry
from stix.ports.compute import Machine, MachineState
from stix.ports.state_store import VersionConflictError

__all__ = [
    "CHECK_SECONDS",
    "cluster_cost",
    "entries_since",
    "open_entry",
    "reopen_entry",
    "running_rate",
    "settle_entry",
    "settle_seen",
]

CHECK_SECONDS = 86400.0
"""How often the sweep looks whether an open entry's machines still run."""
_KEEP_SECONDS = 400 * 86400.0
_TOGETHER_SECONDS = 60.0
"""Machines that ended within it ended together: an entry for each second would help nobody."""
_RUNS = (MachineState.PENDING, MachineState.RUNNING)


def open_entry(world: World, cluster: Cluster, intent: Intent) -> None:
    """The machines of ``intent`` were accepted. Idempotent; an entry that was settled stays so."""
    if _last(world, intent) is None:
        started_at = intent.accepted_at or world.clock.now()
        _write(world, _entry(world, cluster, intent, 1, started_at, intent.count))


def reopen_entry(world: World, cluster: Cluster, intent: Intent, machines: Sequence[Machine]) -> None:
    """Stopped ones of its ``machines`` are about to be started: entered before, so that none runs unseen.

    Idempotent. What an earlier try entered but did not start counts from now on, where the provider says
    since when it is stopped; else it may have run, and counts from that try on.
    """
    left = [one for one in machines if one.state not in (MachineState.TERMINATING, MachineState.TERMINATED)]
    last = _last(world, intent)
    if last is not None and last.ended_at is None:
        known = any(one.ended_at for one in left if one.state is MachineState.STOPPED)
        if last.count == len(left) and not known:
            return
        settle_seen(world, intent, machines, "stopped")
        last = _last(world, intent)
    now = world.clock.now()
    entry = _entry(world, cluster, intent, 1 if last is None else last.period + 1, now, len(left))
    ended = []
    if last is not None and last.ended_at is None:
        ended = [last.changed(ended_at=now, reason="more of them run", due_at=None)]
    elif last is not None and last.ended_at == last.started_at:
        # None of its machines ran.
        entry = entry.changed(version=last.version, period=last.period)
    _save(world, [*ended, entry])


def settle_seen(world: World, intent: Intent, machines: Sequence[Machine], reason: str) -> None:
    """What of its ``machines`` does not run any more, on the provider's word, costs nothing from here on: an
    entry of the others goes on where that of all of them ends. Idempotent."""
    running = sum(one.state in _RUNS for one in machines)
    if machines and not running:
        settle_entry(world, intent, reason, machines=machines)
        return
    last = _last(world, intent)
    if last is not None and last.ended_at is None and running < last.count:
        _end(world, last, machines, reason, running)


def settle_entry(
    world: World,
    intent: Intent,
    reason: str,
    *,
    machines: Iterable[Machine] = (),
    never_ran: bool = False,
) -> None:
    """Its machines do not run any more, on the provider's word; or they never did.

    ``machines``: as the provider sees them, which may say since when. Idempotent. Machines whose creation was
    never recorded are entered first, since the intent was written.
    """
    last = _last(world, intent)
    if last is None:
        try:
            cluster = get_cluster(world, intent.workspace, intent.cluster_id)
        except NotFoundError:
            return
        last = _write(world, _entry(world, cluster, intent, 1, intent.created_at, intent.count))
    if last.ended_at is not None:
        return
    if never_ran:
        _save(world, [last.changed(ended_at=last.started_at, reason=reason[:200], due_at=None)])
    else:
        _end(world, last, machines, reason, 0)


def cluster_cost(world: World, cluster: Cluster) -> float:
    """USD that the cluster's machines have cost up to now."""
    now = world.clock.now()
    entries = child_records(world, LedgerEntry, cluster.workspace, cluster.id)
    return sum(entry.cost(now) for entry in entries)


def running_rate(cluster: Cluster) -> float:
    """USD per hour of the cluster's machines while they run."""
    return 0.0 if cluster.offer is None else cluster.offer.price * cluster.num_nodes


def entries_since(world: World, workspace: str, since: float) -> Iterator[LedgerEntry]:
    """Entries that ran after ``since``: open ones first, then settled ones, those that ended last first.

    One index query a page of a hundred.
    """
    after: str | None = None
    while True:
        page = world.store.list(workspace, LedgerEntry.kind, after=after, limit=100)
        for item in page.items:
            entry = load(LedgerEntry, item)
            if entry.ended_at is not None and entry.ended_at < since:
                return
            yield entry
        after = page.next
        if after is None:
            return


def _last(world: World, intent: Intent) -> LedgerEntry | None:
    """The entry of the intent that began last."""
    entries = child_records(world, LedgerEntry, intent.workspace, intent.cluster_id)
    own = (one for one in entries if one.token == intent.token)
    return max(own, key=lambda one: one.period, default=None)


def _end(world: World, entry: LedgerEntry, machines: Iterable[Machine], reason: str, running: int) -> None:
    """End the entry of machines that ended one after the other, at the moments that their provider names,
    else now: a period for as long as equally many ran. The last one stays open where some are ``running``."""
    now = world.clock.now()
    told = sorted(min(now, one.ended_at or now) for one in machines if one.state not in _RUNS)
    # Those that ended first may have been left out of this entry already.
    ends = [max(entry.started_at, moment) for moment in told[running - entry.count :]] or [now]
    written, period = [], entry
    for number, moment in enumerate(ends, 1):
        last = number == len(ends)
        if not last and ends[number] - moment < _TOGETHER_SECONDS:
            continue
        if moment > period.started_at or (last and not running):
            written.append(period.changed(ended_at=moment, reason=reason[:200], due_at=None))
            period = period.changed(version=0, period=period.period + 1, started_at=moment)
        period = period.changed(count=entry.count - number)
    _save(world, [*written, period] if running else written)


def _save(world: World, entries: Sequence[LedgerEntry]) -> None:
    try:
        world.store.transact([put(entry) for entry in entries])
    except VersionConflictError:
        return  # another run wrote it just now


def _entry(
    world: World, cluster: Cluster, intent: Intent, period: int, started_at: float, count: int
) -> LedgerEntry:
    return LedgerEntry(
        workspace=cluster.workspace,
        cluster_id=cluster.id,
        cluster_name=cluster.name,
        user=cluster.user,
        labels=cluster.labels,
        token=intent.token,
        period=period,
        offer=intent.offer,
        count=count,
        price=intent.offer.price,
        price_as_of=intent.offer.price_as_of,
        source="catalog" if intent.offer.price else "free",
        started_at=started_at,
        due_at=world.clock.now() + CHECK_SECONDS,
        expires_at=started_at + _KEEP_SECONDS,
    )


def _write(world: World, entry: LedgerEntry) -> LedgerEntry:
    try:
        return save(world, entry)
    except VersionConflictError:
        return entry  # a repeated run of this step wrote the same
