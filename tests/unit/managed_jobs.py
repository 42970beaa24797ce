"""Managed jobs over the application's fakes, in the scenarios' language."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stix.api.v1 import TaskRequest
from stix.api.v1_jobs import JobsCancelRequest, JobsLaunchRequest
from stix.application import advance_job, logs, sweep, undo_attempt
from stix.application.job_draft import get_job
from stix.application.records import child_records, get_cluster
from stix.application.submit_managed_job import cancel_jobs, submit
from stix.application.world import Limits
from stix.model.cluster import Cluster
from stix.model.managed_job import JobEvent, JobRun, JobTask, ManagedJob
from stix.model.offer import Offer
from tests.unit.world import ANN, WORKSPACE, ControlPlane, offer

THREE_ZONES = (
    offer("a", 1.0, spot=True),
    offer("b", 1.1, spot=True),
    offer("c", 1.2, spot=True),
    offer("a", 3.0),
    offer("b", 3.1),
)


def request(*tasks: dict[str, Any], header: dict[str, Any] | None = None, **fields: Any) -> JobsLaunchRequest:
    """Of tasks over a small spot task."""
    small = {"name": "train", "run": "python train.py", "resources": {"use_spot": True}}
    bodies = [TaskRequest(task=small | task, secrets=fields.pop("secrets", {})) for task in tasks or ({},)]
    return JobsLaunchRequest(tasks=bodies, header=header or {}, **fields)


class JobsPlane(ControlPlane):
    """A control plane with spot machines in three zones; ``settle`` runs what was nudged."""

    def __init__(self, folder: Path, offers: tuple[Offer, ...] = THREE_ZONES, limits: Limits | None = None):
        super().__init__(folder, offers, limits)
        self._run = 0

    def submit(self, *tasks: dict[str, Any], key: str | None = None, **fields: Any) -> ManagedJob:
        answer = submit(self.world, ANN, request(*tasks, **fields), key)
        self.settle()
        return self.managed(answer["job_id"])

    def cancel(self, *numbers: int, **fields: Any) -> list[ManagedJob]:
        found = cancel_jobs(self.world, ANN, JobsCancelRequest(job_ids=list(numbers), **fields))
        self.settle()
        return found

    def settle(self) -> None:
        """Carry out every run of the job machine that was started since the last time."""
        while self._run < len(self.workflows.runs):
            machine, _, payload = self.workflows.runs[self._run]
            self._run += 1
            if machine == "job":
                advance_job.advance(self.world, payload["job"]["workspace"], payload["job"]["id"])

    def sweep(self) -> None:
        sweep.sweep(self.world)
        self.settle()

    def managed(self, number: int = 1) -> ManagedJob:
        return get_job(self.world, WORKSPACE, number)

    def task(self, index: int = 0, number: int = 1) -> JobTask:
        return self.managed(number).tasks[index]

    def kept_events(self, number: int = 1) -> list[str]:
        kept = child_records(self.world, JobEvent, WORKSPACE, f"{number:010d}")
        return [event.name for event in kept]

    def runs(self, number: int = 1) -> list[JobRun]:
        return child_records(self.world, JobRun, WORKSPACE, f"{number:010d}")

    def held(self, index: int = 0, number: int = 1) -> Cluster:
        """The cluster that a task has now."""
        return get_cluster(self.world, WORKSPACE, self.task(index, number).cluster_id)

    def start_cluster(self, index: int = 0, number: int = 1) -> Cluster:
        """Its machines are made, join, and the run begins."""
        cluster = self.boot_cluster(index, number)
        self.tell(cluster, "RUNNING", index=index, number=number)
        return self.by_id(cluster)

    def boot_cluster(self, index: int = 0, number: int = 1) -> Cluster:
        """Its machines are made and join."""
        cluster = self.held(index, number)
        assert self.rank(cluster) == "RANKED"
        assert self.create(cluster) == "CREATED"
        cluster = self.by_id(cluster)
        self.await_join(cluster, f"token-{cluster.id}")
        for rank in range(cluster.num_nodes):
            self.join(cluster, rank, address=f"10.{self.task(index, number).launches}.{index}.{rank}")
        assert self.hand_over(cluster) == "UP"
        self.settle()
        return self.by_id(cluster)

    def find_no_place(self, index: int = 0, number: int = 1) -> None:
        """Every offer of a task's launch is tried and refuses."""
        cluster = self.held(index, number)
        self.rank(cluster)
        while self.create(self.by_id(cluster)) == "REFUSED":
            pass
        undo_attempt.give_up(self.world, cluster.workspace, cluster.id)
        self.settle()

    def tell(self, cluster: Cluster, status: str, *, index: int = 0, number: int = 1, **about: Any) -> None:
        """The agent reports its job; a log is whole once the job has ended."""
        job_id = self.runs(number)[-1].cluster_job if "job" not in about else about.pop("job")
        entry = {"id": job_id, "status": status, "started_at": self.clock.now(), **about}
        if status not in ("RUNNING", "SETTING_UP"):
            entry["ended_at"] = self.clock.now()
        self.report(cluster, jobs=[entry])
        if "ended_at" in entry:
            end = {"job": job_id, "rank": 0, "chunks": 0, "bytes": {}, "sha256": {}}
            logs.ship(self.world, self.node_principal(cluster), {"finished": [end]})
        self.settle()

    def run_job(self, *tasks: dict[str, Any], **fields: Any) -> Cluster:
        """Submit a job and bring its first run to RUNNING."""
        self.submit(*tasks, **fields)
        return self.start_cluster()

    def place(self, index: int = 0, number: int = 1) -> str:
        return self.task(index, number).place.rpartition("/")[2]
