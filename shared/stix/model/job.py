"""A job: one run of a task on a cluster."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from stix.model.record import Record
from stix.model.status import JobStatus

__all__ = ["Demand", "Job", "JobLog"]


class Demand(BaseModel):
    """What a job holds on each of its nodes while it runs."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    cpus: float = 0.5
    gpus: float = 0.0
    gpu_name: str = ""


class Job(Record):
    """``spec_key`` names the immutable document with scripts and environment in the object store;
    ``secrets_key`` where its secrets are kept, empty for none. ``owner`` is the managed job that it is a run
    of, and ``managed`` what the agent is told of that."""

    kind: ClassVar[str] = "job"

    cluster_id: str
    cluster_name: str
    id: int
    name: str = ""
    status: JobStatus = JobStatus.INIT
    reason: str = ""
    user: str = ""
    num_nodes: int = 1
    demand: Demand = Demand()
    resources: str = ""
    submitted_at: float
    started_at: float | None = None
    ended_at: float | None = None
    exit_codes: tuple[int | None, ...] = ()
    failed_rank: int | None = None
    task_id: str = ""
    spec_key: str
    secrets_key: str = ""
    run_setup: bool = True
    follow_until: float | None = None
    owner: str = ""
    managed: dict[str, Any] = {}
    cancel_requested: bool = False

    @property
    def exit_code(self) -> int | None:
        """The code of the rank that failed first; 0 on success; None before the end or when unknown.

        The other ranks are cancelled, and most of them then have a code other than 0 as well.
        """
        if self.status is JobStatus.SUCCEEDED:
            return 0
        if not self.status.terminal:
            return None
        if self.failed_rank is not None and self.failed_rank < len(self.exit_codes):
            return self.exit_codes[self.failed_rank]
        return next((code for code in self.exit_codes if code), None)


class JobLog(Record):
    """The manifest of one rank's log: chunks 0 .. ``chunks`` - 1 exist. Streams: ``stdout``, ``stderr``."""

    kind: ClassVar[str] = "log"

    cluster_id: str
    job_id: int
    rank: int
    chunks: int = 0
    size: int = 0
    complete: bool = False
    bytes: dict[str, int] = {}
    sha256: dict[str, str] = {}

    def object_key(self, n: int) -> str:
        return f"logs/{self.workspace}/{self.cluster_id}/{self.job_id}/{self.rank}/{n:08d}"
