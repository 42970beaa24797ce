"""A managed job: tasks that outlive the clusters they run on."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from stix.model.pool import Needs
from stix.model.record import Record
from stix.model.status import ManagedJobStatus

__all__ = ["Checkpoint", "Costing", "JobEvent", "JobRun", "JobTask", "Leaving", "ManagedJob"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Leaving(_Part):
    """A cluster that the job has moved on from. It is taken down once its job has ended and its log is whole,
    and at ``until`` in any case; ``kept``: not at all, it is a worker of a pool. ``task``: whose run it has,
    None where an older release wrote it."""

    cluster_id: str
    cluster_job: int
    until: float
    reason: str
    kept: bool = False
    task: int | None = None


class Costing(_Part):
    """A cluster whose cost is not settled yet; ``rate``: USD an hour that it may cost at most."""

    cluster_id: str
    task: int
    rate: float


class JobTask(_Part):
    """One task of a managed job: what was settled at its submission, where it is, and what it remembers.

    Of the submission: ``request_key`` names the document with the task and its files; ``parents`` are places
    in the job's tasks; ``policy``, ``work``, ``deadline_at`` and ``changeover`` are the terms of
    ``stix.recovery``; ``checkpoint_seconds`` is how often its checkpoints are stored. A task that is not
    ``primary`` ends ``delay`` seconds after those that are, ``ends_at`` once that is settled. ``max_cost`` is
    in USD, ``spent`` what its clusters that are gone have cost, where that is counted.

    Where it is: ``cluster_id`` is the cluster it holds, empty for none; ``cluster_job`` its number there, 0
    while it waits to be run again. ``launches`` counts clusters, ``runs`` runs. ``settled``: it runs.
    ``replaces_failed``: of its machines only those that are lost are replaced; ``replacing`` are the ranks
    whose machines are, and ``replace_by`` the moment at which that begins though its run has not ended, 0
    once it has begun.

    Memory: ``last_place`` is where its last machines were, ``lost`` that they were taken or died, ``lost_at``
    when machines were last lost in each place; ``line_at`` and ``line_done`` the line of uniform progress.
    ``recoveries`` are losses survived, ``restarts`` repetitions after errors of its own, ``errors`` those of
    them that count; ``troubles`` are runs in a row that healthy machines did not carry out, ``refusals``
    launches in a row that found no place; ``not_before`` is when it may be tried again;
    ``plan_key`` names the document of its plan from history.
    """

    index: int
    name: str = ""
    parents: tuple[int, ...] = ()
    status: ManagedJobStatus = ManagedJobStatus.PENDING
    reason: str = ""
    since: float
    request_key: str
    secrets_key: str = ""
    task_id: str
    num_nodes: int = 1
    resources: str = ""
    policy: str
    work: float = 0.0
    deadline_at: float | None = None
    changeover: float = 0.0
    checkpoint_seconds: float = 300.0
    max_restarts: int = 0
    restart_codes: tuple[int, ...] = ()
    needs: Needs | None = None
    priority: int = 0
    primary: bool = True
    delay: float = 0.0
    max_cost: float | None = None
    spent: float = 0.0
    replaces_failed: bool = False

    ends_at: float | None = None
    began_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    cluster_id: str = ""
    cluster_name: str = ""
    cluster_job: int = 0
    place: str = ""
    spot: bool = False
    held_since: float = 0.0
    settled: bool = False
    replacing: tuple[int, ...] = ()
    replace_by: float = 0.0
    launches: int = 0
    runs: int = 0

    last_place: str = ""
    lost: bool = False
    lost_at: dict[str, float] = {}
    line_at: float | None = None
    line_done: float = 0.0
    recoveries: int = 0
    restarts: int = 0
    errors: int = 0
    troubles: int = 0
    refusals: int = 0
    not_before: float = 0.0
    decision: str = ""
    decided_at: float = 0.0
    plan_key: str = ""


class ManagedJob(Record):
    """``id`` is the number that people use, ``uid`` is unique beyond its workspace. ``cancel_requested``: it
    is wanted to end. ``nudges`` counts the reasons to look at it, ``events`` those that were kept, ``runs``
    those of all tasks, ``failures`` steps in a row that went wrong. ``group``: the name that its tasks know
    each other by, empty where they do not run side by side; ``connected``: they are in one region and reach
    each other. ``max_cost``: USD for all tasks together, with ``costing`` what is not settled of it;
    ``stopped``: why the job is ended though nobody cancelled it."""

    # Of a job in a pool: ``pool`` names it, ``rank`` is its place among the ``num_jobs`` that were submitted
    # at once, of which the first has ``made`` so many.
    kind: ClassVar[str] = "managed_job"

    id: int
    uid: str
    name: str
    user: str = ""
    status: ManagedJobStatus = ManagedJobStatus.PENDING
    reason: str = ""
    since: float
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    deadline_at: float | None = None
    cancel_requested: bool = False
    cancel_grace: float = 30.0
    pool: str = ""
    rank: int = 0
    num_jobs: int = 1
    made: int = 1
    group: str = ""
    connected: bool = False
    max_cost: float | None = None
    costing: tuple[Costing, ...] = ()
    stopped: str = ""
    tasks: tuple[JobTask, ...]
    leaving: tuple[Leaving, ...] = ()
    nudges: int = 0
    events: int = 0
    runs: int = 0
    failures: int = 0

    @property
    def owner(self) -> str:
        """How a cluster or a run names the job it belongs to."""
        return f"job/{self.id}"


class JobEvent(Record):
    """Something that happened to a managed job, for people; ``place`` where it has one."""

    kind: ClassVar[str] = "job_event"

    job_id: int
    number: int
    at: float
    name: str
    task: int | None = None
    place: str = ""
    reason: str = ""


class JobRun(Record):
    """One run of a task on one cluster: where its log is. ``number`` counts over all tasks of the job."""

    kind: ClassVar[str] = "job_run"

    job_id: int
    task: int
    number: int
    cluster_id: str
    cluster_name: str
    cluster_job: int
    begun_at: float
    reason: str = ""


class Checkpoint(Record):
    """The newest whole checkpoint of one rank of a task: ``manifest`` names its document.

    ``run`` is the newest run that began from it or made it: an older one, on a machine that was slow to end,
    changes nothing any more. ``done`` is the work behind it, in seconds; ``stored_at`` is the server's time.
    """

    kind: ClassVar[str] = "checkpoint"

    job_id: int
    task: int
    rank: int
    run: int
    manifest: str = ""
    size: int = 0
    done: float = 0.0
    stored_at: float = 0.0
    files: int = 0
    bytes: int = 0
