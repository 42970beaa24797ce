"""What a managed job may cost: counted from the ledger, and stopped before it is more."""

from __future__ import annotations

from collections.abc import Sequence

from stix.application.job_draft import Draft
from stix.application.ledger import running_rate
from stix.application.planning import plan
from stix.application.records import child_records, cluster_key, load
from stix.application.world import World
from stix.model.cluster import Cluster
from stix.model.dag import Dag
from stix.model.errors import InvalidInputError
from stix.model.ledger import LedgerEntry
from stix.model.managed_job import Costing
from stix.model.task import Task
from stix.optimizer.rank import RankedOffer

__all__ = ["STORE_SECONDS", "affordable", "check_limits", "count_cluster", "stop_at_limit"]

STORE_SECONDS = 30.0
"""After its grace a task that is cancelled has so long for its checkpoint and its log."""
_END_SECONDS = 180.0
"""Until somebody looks at it (the sweep comes every minute) and its provider has ended its machines."""
_LEAST_SECONDS = 60.0
"""A launch is worth its money if it may run for so long."""
_USUAL_GRACE = 30.0


def check_limits(world: World, dag: Dag, tasks: Sequence[Task]) -> None:
    """Raises ``InvalidInputError`` for a ``max_cost`` that does not pay for machines to start and end."""
    limits = [(dag.label(index), task.max_cost, [task]) for index, task in enumerate(tasks)]
    limits.append(("the job", dag.max_cost, list(tasks) if dag.execution == "parallel" else list(tasks[:1])))
    lead = _lead(_USUAL_GRACE)
    seconds = lead + _LEAST_SECONDS
    for name, limit, together in limits:
        if limit is None:
            continue
        rate = sum(min(one.offer.price for one in plan(world, task)) * task.num_nodes for task in together)
        if limit * 3600.0 < rate * seconds:
            least = rate * seconds / 3600.0
            raise InvalidInputError(
                f"{name}: max_cost: {limit:g} USD pays for less than {seconds / 60:.0f} minutes of the "
                f"cheapest machines ({rate:.4g} USD an hour), and ending them takes {lead / 60:.0f}.",
                hint=f"Write {least:.2g} or more.",
                details={"field": "max_cost", "value": limit},
            )


def _lead(grace: float) -> float:
    return grace + STORE_SECONDS + _END_SECONDS


def stop_at_limit(draft: Draft) -> None:
    """Count what the job has cost, and stop it where going on would make it more than it may.

    A job without a limit is left alone. Its machines are taken to cost until ``_lead`` from now in any case.
    """
    job = draft.job
    if not _limits(draft) or job.stopped or all(task.status.terminal for task in job.tasks):
        return
    for limit, tasks, name in _count(draft):
        spent = sum(draft.task(index).spent + running for index, (running, _) in tasks.items())
        rate = sum(per_hour for _, per_hour in tasks.values()) / 3600.0
        stop_at = draft.now + (limit - spent) / rate - _lead(job.cancel_grace) if rate else None
        if spent < limit and (stop_at is None or stop_at > draft.now):
            if stop_at is not None:
                draft.look_at(stop_at)
            continue
        _stop(draft, f"{name} would cost more than {limit:g} USD (max_cost); {spent:.4g} are spent")
        return


def _stop(draft: Draft, reason: str) -> None:
    """It ends like one that is cancelled."""
    draft.change(stopped=reason)
    draft.say("JobCostReached", reason)


def _limits(draft: Draft) -> list[tuple[float, list[int], str]]:
    """Each limit in USD, with the tasks it is for."""
    job = draft.job
    every = list(range(len(job.tasks)))
    found = [] if job.max_cost is None else [(job.max_cost, every, "the job")]
    named = [(task.max_cost, [task.index], task.name) for task in job.tasks]
    return found + [(limit, which, name or "the task") for limit, which, name in named if limit is not None]


def _count(draft: Draft) -> list[tuple[float, dict[int, tuple[float, float]], str]]:
    """Each limit with its tasks, and for each task USD of what still runs, and USD an hour of it. What is
    over is added to what its task has spent."""
    running: dict[int, tuple[float, float]] = {}
    kept = []
    keys = [cluster_key(draft.job.workspace, one.cluster_id) for one in draft.job.costing]
    items = [
        item for at in range(0, len(keys), 100) for item in draft.world.store.get_many(keys[at : at + 100])
    ]
    for one, item in zip(draft.job.costing, items, strict=True):
        entries = child_records(draft.world, LedgerEntry, draft.job.workspace, one.cluster_id)
        cost = sum(entry.cost(draft.now) for entry in entries)
        cluster = None if item is None else load(Cluster, item)
        if cluster is None or (cluster.ended and all(entry.ended_at is not None for entry in entries)):
            draft.change_task(one.task, spent=draft.task(one.task).spent + cost)
            continue
        kept.append(one)
        # Of machines that are not made yet the price is not settled.
        rate = one.rate if cluster.offer is None else running_rate(cluster)
        before = running.get(one.task, (0.0, 0.0))
        running[one.task] = (before[0] + cost, before[1] + rate)
    draft.change(costing=tuple(kept))
    return [
        (limit, {index: running.get(index, (0.0, 0.0)) for index in which}, name)
        for limit, which, name in _limits(draft)
    ]


def affordable(draft: Draft, index: int, ranked: Sequence[RankedOffer]) -> list[RankedOffer]:
    """Of a launch's offers those that may run for a while within what is left; none stops the job."""
    mine = [one for one in _count(draft) if index in one[1]] if _limits(draft) else []
    seconds = _lead(draft.job.cancel_grace) + _LEAST_SECONDS
    rest = float("inf")
    for limit, tasks, _ in mine:
        spent = sum(draft.task(at).spent + running for at, (running, _) in tasks.items())
        others = sum(per_hour for _, per_hour in tasks.values())
        rest = min(rest, (limit - spent) * 3600.0 / seconds - others)
    nodes = draft.task(index).num_nodes
    fitting = [one for one in ranked if one.offer.price * nodes <= rest]
    if ranked and not fitting:
        cheapest = min(one.offer.price for one in ranked) * nodes
        _stop(draft, f"what is left of max_cost does not pay for machines of {cheapest:.4g} USD an hour")
    return fitting


def count_cluster(draft: Draft, index: int, cluster_id: str, ranked: Sequence[RankedOffer]) -> None:
    """A cluster was made for a task: it counts, at the highest price it may have until that is settled."""
    if ranked and _limits(draft):
        rate = max(one.offer.price for one in ranked) * draft.task(index).num_nodes
        draft.change(costing=(*draft.job.costing, Costing(cluster_id=cluster_id, task=index, rate=rate)))
