"""A managed job's gang that lost some of its machines: the others stay, and the lost ranks get new ones.

First the run is ended on all of them, so that what is done is stored; once it is over the launch of the lost
ranks' machines begins, in the same place. Where that cannot be, the gang moves whole.
"""

from __future__ import annotations

from dataclasses import dataclass

from stix.application.budgets import check_budget
from stix.application.job_draft import Draft
from stix.application.job_offers import candidates, observations, terms_of, work_done
from stix.application.job_plan import with_history
from stix.application.jobs import end_job
from stix.application.observe_run import cluster_and_job, gone_machines, log_is_whole
from stix.application.records import child_records
from stix.application.run_task import read_request, replace_run
from stix.application.submit import read_task
from stix.application.world import World
from stix.model.cluster import Cluster, Node
from stix.model.errors import ForbiddenError
from stix.model.job import Job
from stix.model.offer import Offer
from stix.model.status import ClusterStatus, JobStatus, Wanted
from stix.recovery.replacement import Gang, Replacement, decide_replacement

__all__ = ["Standing", "judge", "replace", "standing"]


@dataclass(frozen=True, slots=True)
class Standing:
    """A gang of which machines may be left: its cluster, what those are, and its run."""

    cluster: Cluster
    offer: Offer
    run: Job


def standing(draft: Draft, index: int) -> Standing | None:
    """None for a task that has its machines replaced all together, or whose cluster is gone or going."""
    task = draft.task(index)
    if not task.replaces_failed or task.num_nodes < 2 or draft.job.pool:
        return None
    cluster, run = cluster_and_job(draft.world, draft.job.workspace, task.cluster_id, task.cluster_job)
    if cluster is None or run is None or cluster.offer is None or cluster.wanted is not Wanted.UP:
        return None
    return Standing(cluster, cluster.offer, run)


def judge(draft: Draft, index: int, gang: Standing) -> Replacement:
    """Whether only the lost ranks are replaced. Asks the provider which those are."""
    task, world, job = draft.task(index), draft.world, draft.job
    if gang.cluster.status is not ClusterStatus.UP and gang.run.started_at is None:
        return Replacement("a machine was lost before it ran")
    facts = world.clouds.get(gang.offer.cloud)
    if facts is None or not facts.connects_clusters:
        cloud = gang.offer.cloud
        return Replacement(f"machines of {cloud} that were not made together do not reach each other")
    try:
        check_budget(world, job.workspace)
    except ForbiddenError as error:
        return Replacement(error.message.rstrip("."))
    asked = read_task(read_request(world, job, task), managed=True, uploaded=False)
    offers = candidates(world, asked, task)
    terms = terms_of(task)
    done = 0.0 if task.deadline_at is None else work_done(world, job.workspace, job.id, task)
    without = observations(task.model_copy(update={"cluster_id": ""}), done)
    seen = with_history(draft, index, terms, offers, without)
    lost = tuple(sorted({*_lost_ranks(world, gang.cluster), *task.replacing}))
    return decide_replacement(terms, seen, Gang(gang.offer, task.num_nodes, lost), offers, draft.now)


def replace(draft: Draft, index: int) -> bool | str:
    """Go on with what was decided. True where the replacement was begun, which wrote the step; False where
    the run has not ended everywhere; a reason where the gang moves whole after all."""
    task, gang = draft.task(index), standing(draft, index)
    if gang is None:
        return "its cluster was taken down"
    if draft.now < task.replace_by and not _over(draft.world, gang):
        draft.look_at(task.replace_by)
        return False
    verdict = judge(draft, index, gang)
    if verdict.offer is None:
        return verdict.reason
    if not gang.run.status.terminal:
        end_job(draft.world, gang.run, JobStatus.FAILED_DRIVER, "its machines were lost")
    return replace_run(draft, index, gang.cluster, verdict.offer, verdict.ranks)


def _over(world: World, gang: Standing) -> bool:
    """Whether the run has ended, and the machines that go have told all of it. The others tell it later."""
    if not gang.run.status.terminal:
        return False
    return log_is_whole(world, gang.run) or all(_lost_ranks(world, gang.cluster).values())


def _lost_ranks(world: World, cluster: Cluster) -> dict[int, bool]:
    """The ranks whose machines are gone (True), or about to be taken (False). Asks the provider."""
    gone = gone_machines(world, cluster)
    nodes = child_records(world, Node, cluster.workspace, cluster.id)
    return {
        node.rank: node.machine_id in gone
        for node in nodes
        if node.machine_id in gone or node.notice == "preemption"
    }
