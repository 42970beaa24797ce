"""The workers of a pool: launched as clusters, looked at, and taken down."""

from __future__ import annotations

from stix.application.budgets import check_budget
from stix.application.job_offers import judged_candidates, launch_order
from stix.application.kept_requests import read_kept
from stix.application.observe_run import Finding, Seen, observe
from stix.application.owned_clusters import OwnedRun, launch_owned
from stix.application.planning import plan
from stix.application.pool_draft import PoolDraft
from stix.application.records import child_records, cluster_key, load, put
from stix.application.submit import read_task
from stix.application.want import begin
from stix.lifecycle.pool import trouble_pause
from stix.model.cluster import Cluster, Node
from stix.model.errors import ForbiddenError, NoOfferError
from stix.model.job import Job
from stix.model.pool import JobPool, PoolWorker
from stix.model.status import ClusterStatus, ReplicaStatus, Wanted
from stix.pools.situation import Room, Worker
from stix.ports.state_store import Write
from stix.recovery.decide import decide
from stix.recovery.situation import Observations, Policy, Terms, Verb

__all__ = ["STARTING_SECONDS", "alive", "launch_worker", "look_at_workers", "take_down"]

STARTING_SECONDS = 600.0
"""How long a worker that starts is left alone where nothing is heard of it."""
_BUDGET_SECONDS = 900.0
_NOTICE_SECONDS, _LONGEST_NOTICE = 120.0, 180.0
_BATCH = 100
_PLACES_KEPT = 50

_ALIVE = (ReplicaStatus.PROVISIONING, ReplicaStatus.STARTING, ReplicaStatus.READY)


def alive(pool: JobPool) -> list[Worker]:
    """The workers that live or are on their way, as the policy sees them."""
    return [
        Worker(
            worker.number,
            worker.version,
            Room(worker.vcpus, worker.memory_gib, worker.gpus, worker.gpu_name, worker.num_nodes),
            ready=worker.status is ReplicaStatus.READY,
        )
        for worker in pool.workers
        if worker.status in _ALIVE
    ]


def take_down(draft: PoolDraft) -> None:
    """End the clusters of workers whose time has come; they leave the pool once the table says so."""
    workers = [worker for worker in draft.pool.workers if worker.until is not None]
    due = [worker for worker in workers if worker.until is not None and worker.until <= draft.now]
    for worker, cluster in zip(due, _clusters(draft, due), strict=True):
        if cluster is not None and not cluster.ended and cluster.wanted is not Wanted.ABSENT:
            begin(draft.world, cluster, "down", Wanted.ABSENT, worker.reason)
        draft.drop_worker(worker)
    for worker in draft.pool.workers:
        if worker.until is not None:
            draft.look_at(worker.until)


def look_at_workers(draft: PoolDraft) -> None:
    """What became of those that live. Raises the provider's errors where it has to be asked."""
    workers = [worker for worker in draft.pool.workers if worker.status in _ALIVE]
    suspects = frozenset(draft.pool.suspects)
    for worker, cluster in zip(workers, _clusters(draft, workers), strict=True):
        if worker.status is ReplicaStatus.READY:
            _look_at_ready(draft, worker, cluster, noticed=worker.number in suspects)
        else:
            _look_at_starting(draft, worker, cluster)
    draft.change(suspects=())


def _clusters(draft: PoolDraft, workers: list[PoolWorker]) -> list[Cluster | None]:
    found: list[Cluster | None] = []
    for start in range(0, len(workers), _BATCH):
        some = workers[start : start + _BATCH]
        keys = [cluster_key(draft.pool.workspace, worker.cluster_id) for worker in some]
        items = draft.world.store.get_many(keys)
        found += [None if item is None else load(Cluster, item) for item in items]
    return found


def _look_at_ready(draft: PoolDraft, worker: PoolWorker, cluster: Cluster | None, *, noticed: bool) -> None:
    if cluster is None or cluster.status is not ClusterStatus.UP or cluster.wanted is not Wanted.UP:
        reason = "its cluster is gone" if cluster is None else cluster.reason or "it is not up any more"
        _lost(draft, worker, Seen(Finding.LOST, reason, worker.place))
        return
    if not noticed:
        return
    nodes = child_records(draft.world, Node, cluster.workspace, cluster.id)
    told = [node for node in nodes if node.notice == "preemption"]
    if told:
        moments = [node.notice_at for node in told if node.notice_at is not None]
        goes_at = min(min(moments, default=draft.now + _NOTICE_SECONDS), draft.now + _LONGEST_NOTICE)
        reason = f"the cloud takes {told[0].machine_id}"
        _lost(draft, worker, Seen(Finding.LOST, reason, worker.place, goes_at=goes_at))


def _look_at_starting(draft: PoolDraft, worker: PoolWorker, cluster: Cluster | None) -> None:
    seen = observe(draft.world, draft.pool.workspace, worker)
    match seen.finding:
        case Finding.STARTS | Finding.RUNS:
            up = cluster is not None and cluster.status is ClusterStatus.UP
            status = ReplicaStatus.STARTING if up else ReplicaStatus.PROVISIONING
            reason = "" if cluster is None else cluster.reason
            draft.change_worker(worker.number, status=status, reason=reason, **_place(seen))
            draft.look_at(draft.now + STARTING_SECONDS)
        case Finding.SUCCEEDED if cluster is not None and cluster.status is ClusterStatus.UP:
            _ready(draft, worker, cluster, seen)
        case Finding.LOST | Finding.SUCCEEDED:
            _lost(draft, worker, seen)
        case Finding.REFUSED:
            _not_ready(draft, worker, ReplicaStatus.FAILED_PROVISION, seen, counts=False)
        case Finding.HOPELESS:
            _not_ready(draft, worker, ReplicaStatus.FAILED_PROVISION, seen, counts=True)
        case Finding.FAILED | Finding.TROUBLE:
            _not_ready(draft, worker, ReplicaStatus.FAILED, seen, counts=True)


def _place(seen: Seen) -> dict[str, object]:
    return {"place": seen.place, "spot": seen.spot}


def _ready(draft: PoolDraft, worker: PoolWorker, cluster: Cluster, seen: Seen) -> None:
    offer = cluster.offer
    assert offer is not None
    draft.change_worker(
        worker.number,
        status=ReplicaStatus.READY,
        reason="",
        ready_at=draft.now,
        price=offer.price * cluster.num_nodes,
        vcpus=offer.vcpus,
        memory_gib=offer.memory_gib,
        gpus=float(offer.accelerator_count),
        gpu_name=offer.accelerator,
        **_place(seen),
    )
    newest = worker.version == draft.pool.template.version
    if newest:
        draft.change(troubles=0, refusals=0, not_before=0.0, last_lost="")
    draft.say("PoolWorkerReady", f"worker {worker.number} is ready in {seen.place}", worker=worker.number)


def _lost(draft: PoolDraft, worker: PoolWorker, seen: Seen) -> None:
    """Its machines are gone, or go soon: another takes its place, and its jobs move."""
    place = seen.place or worker.place
    lost_at = {**draft.pool.lost_at, place: draft.now}
    newest = dict(sorted(lost_at.items(), key=lambda entry: -entry[1])[:_PLACES_KEPT])
    until = draft.now if seen.goes_at is None else max(seen.goes_at, draft.now)
    draft.change_worker(worker.number, status=ReplicaStatus.PREEMPTED, reason=seen.reason, until=until)
    draft.change(lost_at=newest, last_lost=place)
    draft.look_at(until)
    draft.say("PoolWorkerLost", f"worker {worker.number} is lost: {seen.reason}", worker=worker.number)


def _not_ready(
    draft: PoolDraft, worker: PoolWorker, status: ReplicaStatus, seen: Seen, *, counts: bool
) -> None:
    """It did not become ready: the next one is launched after a pause, and none after so many in a row that
    the template must be wrong."""
    pool = draft.pool
    draft.change_worker(worker.number, status=status, reason=seen.reason, until=draft.now)
    draft.look_at(draft.now)
    draft.say("PoolWorkerFailed", f"worker {worker.number} is {status}: {seen.reason}", worker=worker.number)
    if worker.version != pool.template.version:
        return
    pause = trouble_pause(pool.troubles + pool.refusals)
    draft.change(
        troubles=pool.troubles + counts,
        refusals=pool.refusals + (not counts),
        not_before=draft.now + pause,
    )


def launch_worker(draft: PoolDraft, why: str) -> bool:
    """Launch one more of the newest template, and write the pool with it; False where none can be now. Raises
    ``VersionConflictError`` where somebody else decided."""
    pool = draft.pool
    request = read_kept(draft.world, pool.template.request_key, pool.template.secrets_key, secrets=True)
    task = read_task(request, uploaded=False)
    try:
        check_budget(draft.world, pool.workspace)
        offers = [entry.offer for entry in plan(draft.world, task)]
    except (ForbiddenError, NoOfferError) as error:
        draft.change(reason=error.message)
        draft.look_at(draft.now + _BUDGET_SECONDS)
        return False
    candidates = judged_candidates(draft.world, list(dict.fromkeys(offers)), pool.lost_at)
    terms = Terms(Policy(pool.template.strategy), started_at=draft.now)
    seen = Observations(last_place=pool.last_lost, lost=bool(pool.last_lost))
    decision = decide(terms, seen, candidates, draft.now)
    if decision.action is not Verb.LAUNCH:
        draft.change(reason=decision.reason)
        draft.look_at(max(decision.look_again_at or 0.0, draft.now + 5.0))
        return False
    number = pool.launched + 1
    draft.say("PoolWorkerLaunching", f"worker {number}: {why}; {decision.reason}", worker=number)
    draft.change(launched=number)
    draft.look_at(draft.now + STARTING_SECONDS)
    before = draft.pool

    def write(current: JobPool) -> None:
        def writes(cluster: Cluster, _setup: Job) -> list[Write]:
            worker = PoolWorker(
                number=number,
                version=pool.template.version,
                cluster_id=cluster.id,
                cluster_name=cluster.name,
                reason=decision.reason,
                since=draft.now,
                launched_at=draft.now,
                num_nodes=cluster.num_nodes,
            )
            draft.change(workers=(*before.workers, worker))
            return [put(current.changed(workers=draft.pool.workers))]

        run = OwnedRun(
            owner=pool.owner(number),
            user=pool.user,
            name=f"{pool.name[:40]}-{number}",
            task_id=f"stix-pool-{pool.name}-{number}",
            managed={},
            reason=decision.reason,
            writes=writes,
            ranked=launch_order(terms, seen, candidates, decision, draft.now),
            worker=True,
        )
        launch_owned(draft.world, pool.workspace, request, run)

    draft.write(write)
    return True
