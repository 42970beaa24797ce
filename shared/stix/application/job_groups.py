"""Job groups: tasks that run side by side in one region, know each other by name, and end together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stix.application.job_draft import Draft
from stix.application.job_offers import candidates
from stix.application.observe_run import cluster_and_job
from stix.application.planning import plan
from stix.application.records import child_records, cluster_key, update
from stix.application.run_task import read_request
from stix.application.submit import read_task
from stix.application.wakes import wake_nodes
from stix.application.world import World
from stix.lifecycle.managed_job import primaries_done
from stix.model.cluster import Cluster, Node
from stix.model.dag import Dag
from stix.model.errors import NoOfferError
from stix.model.managed_job import JobTask
from stix.model.offer import Offer
from stix.model.status import ClusterStatus, Wanted
from stix.model.task import Task
from stix.recovery.situation import Candidate

__all__ = ["check_regions", "in_one_region", "tell_hosts", "to_end_now"]

_INFRA_HINT = "Ask for less, or for other places; inter_connection: false lets them be anywhere."


def check_regions(world: World, dag: Dag, tasks: Sequence[Task]) -> None:
    """Raises ``NoOfferError`` where no region has a place for every task of a group that is connected."""
    found = [{_region(one.offer) for one in plan(world, task)} for task in tasks]
    common = set.intersection(*found)
    if not common:
        lines = [f"{dag.label(at)} fits in {', '.join(sorted(some)[:3])}" for at, some in enumerate(found)]
        raise NoOfferError(
            f"No region has a place for every task of the group: {'; '.join(lines)}.", hint=_INFRA_HINT
        )
    clouds = sorted({one.partition("/")[0] for one in common})
    if not any(_connects(world, cloud) for cloud in clouds):
        raise NoOfferError(
            f"The tasks of a group must reach each other, and clusters of {', '.join(clouds)} do not.",
            hint="Name another infra, or write inter_connection: false.",
        )


def _region(offer: Offer) -> str:
    return f"{offer.cloud}/{offer.region}"


def _connects(world: World, cloud: str) -> bool:
    facts = world.clouds.get(cloud)
    return facts is not None and facts.connects_clusters


def in_one_region(
    draft: Draft, index: int, offers: Sequence[Candidate]
) -> tuple[list[Candidate], list[JobTask]]:
    """Of a task's offers those in the region of its group, and the tasks that must leave theirs for it.

    The first to be placed chooses the region in which all are cheapest. As long as none has run, the group
    leaves a region that refuses one of them for another that has room for all.
    """
    job, now = draft.job, draft.now
    offers = [one for one in offers if _connects(draft.world, one.offer.cloud)]
    others = [task for task in job.tasks if task.index != index and not task.status.terminal]
    held = [task for task in others if task.cluster_id]
    here = [one for one in offers if held and _is_in(held[0].place, _region(one.offer))]
    has_run = any(task.started_at is not None for task in job.tasks)
    if held and (has_run or any(one.blocked_until <= now for one in here)):
        return here, []
    cheapest = [_cheapest(offers, draft.task(index), now)]
    for task in others:
        asked = read_task(read_request(draft.world, job, task), managed=True, uploaded=False)
        cheapest.append(_cheapest(candidates(draft.world, asked, task), task, now))
    common = sorted(
        set.intersection(*(set(one) for one in cheapest)) & {_region(one.offer) for one in offers}
    )
    if not common:
        return here, []
    blocked, _, region = min(
        (any(one[name][0] for one in cheapest), sum(one[name][1] for one in cheapest), name)
        for name in common
    )
    if held and (blocked or _is_in(held[0].place, region)):
        return here, []
    return [one for one in offers if _region(one.offer) == region], held


def _is_in(place: str, region: str) -> bool:
    return place == region or place.startswith(f"{region}/")


def _cheapest(offers: Sequence[Candidate], task: JobTask, now: float) -> Mapping[str, tuple[bool, float]]:
    """By region: whether no place there may be asked now, and USD an hour."""
    found: dict[str, tuple[bool, float]] = {}
    for one in offers:
        entry = (one.blocked_until > now, one.offer.price * task.num_nodes)
        region = _region(one.offer)
        found[region] = min(entry, found.get(region, entry))
    return found


def to_end_now(draft: Draft) -> list[int]:
    """Tasks that only served the others, and whose time is over: those have succeeded."""
    tasks = draft.job.tasks
    left = [task for task in tasks if not task.primary and not task.status.terminal]
    if not left or not primaries_done(tasks):
        return []
    over = []
    for task in left:
        ends_at = draft.now + task.delay if task.ends_at is None else task.ends_at
        if task.ends_at is None:
            draft.change_task(task.index, ends_at=ends_at)
        if draft.now >= ends_at or not task.cluster_id:
            over.append(task.index)
        else:
            draft.look_at(ends_at)
    return over


def tell_hosts(draft: Draft) -> None:
    """Tell the nodes of a group how they reach each other: each cluster that is up hears the names of all.

    Before any of its tasks has run, a group begins together: nobody hears anything before all are up. What
    is told once more changes nothing.
    """
    world, job = draft.world, draft.job
    up: dict[str, Cluster] = {}
    hosts: list[tuple[str, str]] = []
    for task in job.tasks:
        if task.status.terminal:
            continue
        cluster = None
        if task.cluster_id:
            cluster, _ = cluster_and_job(world, job.workspace, task.cluster_id, task.cluster_job)
        if cluster is None or cluster.status is not ClusterStatus.UP or cluster.wanted is not Wanted.UP:
            if task.started_at is None:
                return
            continue
        up[cluster.id] = cluster
        nodes = child_records(world, Node, job.workspace, cluster.id)
        hosts += [(f"{task.name}-{node.rank}.{job.group}", node.address) for node in nodes]
    told = tuple(hosts)
    for cluster in up.values():
        if cluster.hosts == told and not cluster.awaits_hosts:
            continue

        def change(current: Cluster) -> Cluster | None:
            if current.hosts == told and not current.awaits_hosts:
                return None
            version = current.settings_version + 1
            return current.changed(hosts=told, settings_version=version, awaits_hosts=False)

        update(world, Cluster, cluster_key(cluster.workspace, cluster.id), change)
        wake_nodes(world, cluster, all_ranks=True)
