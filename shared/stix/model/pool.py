"""A pool: workers that are kept warm for managed jobs, and the jobs that wait for one or have one."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from stix.model.record import Record
from stix.model.status import PoolStatus, ReplicaStatus

__all__ = ["MOST_WORKERS", "Decided", "JobPool", "Needs", "PoolSeat", "PoolTemplate", "PoolWorker"]

MOST_WORKERS = 500
"""Workers of one pool: they are parts of its item, which has an end."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Needs(_Part):
    """What a run takes of a worker, on each of ``num_nodes`` nodes; with ``whole`` the worker is its own."""

    num_nodes: int = 1
    whole: bool = True
    cpus: float = 0.0
    memory_gib: float = 0.0
    gpus: float = 0.0
    gpu_name: str = ""


class PoolTemplate(_Part):
    """What workers of one version are made from. ``request_key`` names the document with the task and its
    files, ``digest`` tells whether another one is the same, secrets included."""

    version: int
    digest: str
    request_key: str
    secrets_key: str = ""
    num_nodes: int = 1
    resources: str = ""
    strategy: str
    applied_at: float


class PoolWorker(_Part):
    """A cluster of the pool. ``until``: when it is taken down, where that is settled. ``vcpus``,
    ``memory_gib`` and ``gpus`` are those of one node, 0 before its machines are known."""

    number: int
    version: int
    cluster_id: str
    cluster_name: str
    status: ReplicaStatus = ReplicaStatus.PROVISIONING
    reason: str = ""
    since: float
    launched_at: float
    ready_at: float | None = None
    until: float | None = None
    num_nodes: int = 1
    place: str = ""
    spot: bool = False
    price: float = 0.0
    vcpus: float = 0.0
    memory_gib: float = 0.0
    gpus: float = 0.0
    gpu_name: str = ""

    @property
    def cluster_job(self) -> int:
        """The number of its setup."""
        return 1


class Decided(_Part):
    """Something the pool did, for people."""

    at: float
    message: str


class JobPool(Record):
    """``name`` is its identity; ``uid`` tells it from an earlier one of that name.

    Wanted: between ``least`` and ``most`` workers, one for each ``threshold`` jobs that wait; ``mode`` is how
    workers of older templates give way. ``leaving``: it is to end, with ``drain`` after its jobs have.

    ``stale_secrets`` are those of earlier templates, to be deleted.

    Memory: ``target``, ``above_since`` and ``wanted`` are those of ``stix.autoscaling``; ``launched`` counts
    workers; ``troubles`` are workers in a row that did not become ready, ``refusals`` those for which no
    place was found, ``not_before`` is when the next one may be launched; ``lost_at`` is when machines were
    last lost in each place, ``last_lost`` the newest. ``past``: the last workers that are gone. ``waiting``
    and ``running`` are the jobs that the last step saw.

    Steps: ``asked``: a run is on its way that has not looked yet; ``suspects`` are workers that something
    happened to; ``steps`` tells whether somebody else decided; ``failures`` are steps in a row that went
    wrong.
    """

    kind: ClassVar[str] = "pool"

    name: str
    uid: str
    user: str = ""
    status: PoolStatus = PoolStatus.REPLICA_INIT
    reason: str = ""
    since: float
    created_at: float
    ended_at: float | None = None
    least: int
    most: int
    threshold: int = 1
    upscale_delay: float = 300.0
    downscale_delay: float = 1200.0
    mode: str = "rolling"
    leaving: bool = False
    drain: bool = False
    template: PoolTemplate
    stale_secrets: tuple[str, ...] = ()

    workers: tuple[PoolWorker, ...] = ()
    past: tuple[PoolWorker, ...] = ()
    launched: int = 0
    target: int | None = None
    above_since: float | None = None
    wanted: tuple[tuple[float, int], ...] = ()
    troubles: int = 0
    refusals: int = 0
    not_before: float = 0.0
    last_lost: str = ""
    lost_at: dict[str, float] = {}
    waiting: int = 0
    running: int = 0
    decisions: tuple[Decided, ...] = ()
    asked: bool = False
    suspects: tuple[int, ...] = ()
    steps: int = 0
    failures: int = 0

    @property
    def ended(self) -> bool:
        return self.status is PoolStatus.TERMINATED

    @property
    def closed(self) -> bool:
        """Whether it takes no jobs any more, not even those that it has."""
        return self.ended or (self.leaving and not self.drain)

    def owner(self, worker: int) -> str:
        """How a worker's cluster and its setup name what they belong to."""
        return f"pool/{self.name}/{worker}"


class PoolSeat(Record):
    """A task of a managed job that waits for a worker of the pool, or has one. An item beside the job's, so
    that what a pool has to do is one query.

    ``worker`` is the number of the worker it was given, 0 for none; ``taken``: its run began there.
    ``ending``: its run is over, its log is not whole yet. ``avoid``: a worker that did not carry it out.
    ``seconds``: its run's estimated length, None where nobody said; ``asked_at`` is when it first asked.
    """

    kind: ClassVar[str] = "pool_seat"

    pool: str
    job_id: int
    task: int
    needs: Needs
    priority: int = 0
    asked_at: float
    seconds: float | None = None
    worker: int = 0
    cluster_id: str = ""
    assigned_at: float = 0.0
    taken: bool = False
    ending: bool = False
    avoid: int = 0
