"""How the run of a managed job's task stands, from what the table and its provider say."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from stix.application.end_machines import own_machines
from stix.application.operations import find_operation
from stix.application.records import child_records, cluster_key, job_key, load, log_key
from stix.application.world import World
from stix.model.cluster import Cluster, Node
from stix.model.job import Job, JobLog
from stix.model.status import ClusterStatus, JobStatus, OperationStatus, Wanted
from stix.ports.compute import MachineState

__all__ = [
    "Finding",
    "Seen",
    "cluster_and_job",
    "gone_machine",
    "gone_machines",
    "launch_refusal",
    "log_is_whole",
    "observe",
]

_NOTICE_SECONDS = 120.0
"""Where its cloud does not say when a machine goes: EC2's notice, the longest."""
_LONGEST_NOTICE = 180.0


class Finding(StrEnum):
    STARTS = "starts"
    RUNS = "runs"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """The task's own doing."""
    LOST = "lost"
    """Its machines are gone or going."""
    REFUSED = "refused"
    """No place took it."""
    HOPELESS = "hopeless"
    """A provider found the request itself wrong."""
    TROUBLE = "trouble"
    """Healthy machines did not carry it out."""


@dataclass(frozen=True, slots=True)
class Seen:
    """``place``: where it is, as far as that is settled. ``goes_at``: when machines under notice go."""

    finding: Finding
    reason: str = ""
    place: str = ""
    spot: bool = False
    job: Job | None = None
    goes_at: float | None = None


def cluster_and_job(
    world: World, workspace: str, cluster_id: str, number: int
) -> tuple[Cluster | None, Job | None]:
    """Either is None where it is not there any more."""
    keys = [cluster_key(workspace, cluster_id), job_key(workspace, cluster_id, number)]
    cluster, job = world.store.get_many(keys)
    return None if cluster is None else load(Cluster, cluster), None if job is None else load(Job, job)


def log_is_whole(world: World, job: Job) -> bool:
    """Whether nothing more of its log can come from its nodes."""
    if job.started_at is None:
        return True
    keys = [log_key(job.workspace, job.cluster_id, job.id, rank) for rank in range(min(job.num_nodes, 100))]
    logs = world.store.get_many(keys)
    return all(item is not None and load(JobLog, item).complete for item in logs)


class Placed(Protocol):
    """What has a cluster, and a run of its own there."""

    @property
    def cluster_id(self) -> str: ...
    @property
    def cluster_job(self) -> int: ...
    @property
    def place(self) -> str: ...
    @property
    def spot(self) -> bool: ...


def observe(world: World, workspace: str, task: Placed) -> Seen:
    """How the run that ``task`` holds stands. Raises the provider's errors where it has to be asked."""
    cluster, job = cluster_and_job(world, workspace, task.cluster_id, task.cluster_job)
    if cluster is None or job is None:
        return Seen(Finding.LOST, "its cluster is gone", task.place)
    offer = cluster.offer
    place, spot = (task.place, task.spot) if offer is None else (offer.place, offer.spot)

    def seen(finding: Finding, reason: str = "", goes_at: float | None = None) -> Seen:
        return Seen(finding, reason, place, spot, job, goes_at)

    if job.status is JobStatus.SUCCEEDED:
        return seen(Finding.SUCCEEDED)
    refusal = launch_refusal(world, cluster, job)
    if refusal is not None:
        return seen(*refusal)
    if cluster.ended or cluster.wanted is not Wanted.UP:
        return seen(Finding.LOST, cluster.reason or "its cluster was taken down")
    noticed = [n for n in child_records(world, Node, workspace, cluster.id) if n.notice == "preemption"]
    if noticed:
        now = world.clock.now()
        told = [node.notice_at for node in noticed if node.notice_at is not None]
        goes_at = min(min(told, default=now + _NOTICE_SECONDS), now + _LONGEST_NOTICE)
        return seen(Finding.LOST, f"the cloud takes {noticed[0].machine_id}", goes_at)
    if job.status.terminal:
        gone = gone_machine(world, cluster)
        if gone:
            return seen(Finding.LOST, gone)
        if job.status in (JobStatus.FAILED, JobStatus.FAILED_SETUP):
            return seen(Finding.FAILED, job.reason)
        return seen(Finding.TROUBLE, job.reason or str(job.status))
    if cluster.status is ClusterStatus.UP and job.status is JobStatus.RUNNING:
        return seen(Finding.RUNS)
    waits = cluster.awaits_hosts and cluster.status is ClusterStatus.UP
    return seen(Finding.STARTS, "it waits for the other tasks of its group" if waits else cluster.reason)


def launch_refusal(world: World, cluster: Cluster, job: Job) -> tuple[Finding, str] | None:
    """What a launch that failed says; None for one that did not."""
    if job.started_at is not None or cluster.status is ClusterStatus.UP:
        return None
    operation = find_operation(world, cluster.workspace, cluster.operation_id)
    if operation is None or operation.status is not OperationStatus.FAILED or operation.verb != "launch":
        return None
    code = "" if operation.error is None else str(operation.error["code"])
    reason = cluster.reason if operation.error is None else str(operation.error["message"])
    if code == "node_lost":
        return Finding.LOST, reason
    made = [one for one in cluster.attempts if one.outcome != "skipped"]
    if made and made[-1].outcome == "invalid_request":
        return Finding.HOPELESS, reason
    return Finding.REFUSED, reason


def gone_machine(world: World, cluster: Cluster) -> str:
    """Which machine of the cluster is not running any more, in words; empty where all are."""
    return next(iter(gone_machines(world, cluster).values()), "")


def gone_machines(world: World, cluster: Cluster) -> dict[str, str]:
    """The machines of the cluster that do not run any more by their ids, and why, in words."""
    found: dict[str, str] = {}
    for machine in own_machines(world, cluster):
        if machine.preempted:
            found[machine.id] = f"{machine.id} was taken. {machine.reason}".rstrip(". ")
        elif machine.state not in (MachineState.PENDING, MachineState.RUNNING):
            found[machine.id] = f"{machine.id} is {machine.state}. {machine.reason}".rstrip(". ")
    return found
