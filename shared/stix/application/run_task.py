"""A run of a managed job's task begins: on a new cluster, or once more on the one it has."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from stix.api.v1 import LaunchRequest
from stix.application.end_machines import end_replaced
from stix.application.job_costs import count_cluster
from stix.application.job_draft import EVENTS_KEPT_SECONDS, Draft
from stix.application.kept_requests import read_kept
from stix.application.owned_clusters import OwnedRun, launch_owned, replace_owned, rerun_owned
from stix.application.records import put
from stix.application.world import World
from stix.model.cluster import Cluster
from stix.model.job import Job
from stix.model.managed_job import JobRun, JobTask, ManagedJob
from stix.model.offer import Offer
from stix.model.status import ManagedJobStatus
from stix.optimizer.rank import RankedOffer
from stix.ports.state_store import Write

__all__ = ["STARTING_SECONDS", "launch_run", "read_request", "repeat_run", "replace_run"]

STARTING_SECONDS = 600.0
"""How long a run that starts is left alone where nothing is heard of it."""
_LONGEST_NAME = 36


def read_request(world: World, job: ManagedJob, task: JobTask, *, secrets: bool = False) -> LaunchRequest:
    """The task and its files as they were submitted; its secrets only where they are needed."""
    return read_kept(world, task.request_key, task.secrets_key, secrets=secrets)


def launch_run(draft: Draft, index: int, ranked: Sequence[RankedOffer]) -> bool:
    """Launch a cluster over the offers, in their order, and write the step with it. True: it did."""
    task = draft.task(index)
    first = ranked[0]
    status = ManagedJobStatus.STARTING if task.started_at is None else ManagedJobStatus.RECOVERING
    draft.change_task(
        index,
        status=status,
        reason=first.reason,
        place=first.offer.place,
        spot=first.offer.spot,
        held_since=draft.now,
        settled=False,
        launches=task.launches + 1,
    )
    name = "JobLaunching" if task.started_at is None else "JobRecovering"
    draft.say(name, first.reason, task=index, place=first.offer.place)
    draft.look_at(draft.now + STARTING_SECONDS)
    run = _run(draft, index, first.reason, ranked)
    request = read_request(draft.world, draft.job, task, secrets=True)
    launch_owned(draft.world, draft.job.workspace, request, run)
    draft.announce()
    return True


def repeat_run(draft: Draft, index: int, cluster: Cluster) -> bool:
    """Run the task once more on the cluster it has, which is up, and write the step with it. True: it did."""
    task = draft.task(index)
    run = _run(draft, index, task.reason, ())
    rerun_owned(draft.world, cluster, read_request(draft.world, draft.job, task, secrets=True), run)
    draft.announce()
    return True


def replace_run(draft: Draft, index: int, cluster: Cluster, offer: Offer, ranks: tuple[int, ...]) -> bool:
    """Run the task again on the cluster it has, once machines of ``offer`` have joined it for ``ranks``, and
    write the step with it. True: it did. The machines they replace end."""
    task = draft.task(index)
    draft.change_task(index, replacing=ranks, replace_by=0.0, held_since=draft.now, settled=False)
    draft.look_at(draft.now + STARTING_SECONDS)
    run = _run(draft, index, task.reason, ())
    request = read_request(draft.world, draft.job, task, secrets=True)
    replace_owned(draft.world, cluster, request, run, offer, ranks)
    draft.announce()
    end_replaced(draft.world, cluster)
    return True


def _run(draft: Draft, index: int, reason: str, ranked: Sequence[RankedOffer]) -> OwnedRun:
    job, task = draft.job, draft.task(index)
    number = job.runs + 1

    def writes(cluster: Cluster, queued: Job) -> list[Write]:
        draft.change(runs=number)
        count_cluster(draft, index, cluster.id, ranked)
        draft.change_task(
            index,
            cluster_id=cluster.id,
            cluster_name=cluster.name,
            cluster_job=queued.id,
            runs=task.runs + 1,
        )
        draft.settle()
        record = JobRun(
            workspace=job.workspace,
            job_id=job.id,
            task=index,
            number=number,
            cluster_id=cluster.id,
            cluster_name=cluster.name,
            cluster_job=queued.id,
            begun_at=draft.now,
            reason=reason,
            expires_at=draft.now + EVENTS_KEPT_SECONDS,
        )
        return [*draft.writes(), put(record)]

    return OwnedRun(
        owner=job.owner,
        user=job.user,
        name=_cluster_name(job, task),
        task_id=task.task_id,
        managed=_told(job, task, number),
        reason=reason,
        writes=writes,
        ranked=ranked,
        own_cpus=bool(job.pool),
        awaits_hosts=job.connected,
    )


def _told(job: ManagedJob, task: JobTask, number: int) -> dict[str, Any]:
    """What the agent hears of the managed job."""
    return {
        "job": job.id,
        "name": job.name,
        "task": task.index,
        "task_ids": [one.task_id for one in job.tasks],
        "run": number,
        "recoveries": task.recoveries,
        "checkpoint_seconds": task.checkpoint_seconds,
        "grace_seconds": job.cancel_grace,
        **({"rank": job.rank, "num_jobs": job.num_jobs} if job.pool else {}),
        **({"group": job.group} if job.group else {}),
    }


def _cluster_name(job: ManagedJob, task: JobTask) -> str:
    name = re.sub(r"[^A-Za-z0-9-]+", "-", task.name or job.name).strip("-")[:_LONGEST_NAME].rstrip("-")
    if not name[:1].isalpha():
        name = f"job-{name}".rstrip("-")
    return f"{name}-{job.id}"
