"""Pools over the application's fakes, in the scenarios' language."""

from __future__ import annotations

from typing import Any

from stix.api.v1 import TaskRequest
from stix.api.v1_pools import PoolApplyRequest
from stix.application import advance_job, advance_pool, settle_cluster, undo_attempt
from stix.application.apply_pool import apply_pool, take_pool_down
from stix.application.nudge_pool import find_pool
from stix.application.records import child_records, get_cluster
from stix.model.cluster import Cluster
from stix.model.managed_job import ManagedJob
from stix.model.pool import JobPool, PoolSeat, PoolWorker
from stix.model.status import ReplicaStatus
from tests.unit.managed_jobs import JobsPlane
from tests.unit.world import ANN, WORKSPACE

__all__ = ["PoolsPlane", "pool_request"]


def pool_request(
    pool: dict[str, Any] | None = None, *, secrets: dict[str, str] | None = None, **fields: Any
) -> PoolApplyRequest:
    """Two workers with a setup; ``task`` fields are merged into that, all others are the request's."""
    task = {
        "setup": "pip install torch",
        "resources": {"use_spot": True},
        "pool": pool or {"workers": 2},
        **fields.pop("task", {}),
    }
    return PoolApplyRequest(task=TaskRequest(task=task, secrets=secrets or {}), **fields)


class PoolsPlane(JobsPlane):
    """A control plane with a pool; ``settle`` runs what was nudged, of jobs and of pools."""

    def settle(self) -> None:
        while self._run < len(self.workflows.runs):
            machine, _, payload = self.workflows.runs[self._run]
            self._run += 1
            if machine != "job":
                continue
            where = payload["job"]
            if "pool" in where:
                advance_pool.advance_pool(self.world, where["workspace"], where["pool"])
            else:
                advance_job.advance(self.world, where["workspace"], where["id"])

    def apply(
        self, pool: dict[str, Any] | None = None, *, name: str = "warm", key: str | None = None, **fields: Any
    ) -> dict[str, Any]:
        answer = apply_pool(self.world, ANN, name, pool_request(pool, **fields), key)
        self.settle()
        return answer

    def resize(self, workers: int, *, name: str = "warm") -> None:
        apply_pool(self.world, ANN, name, PoolApplyRequest(workers=workers), None)
        self.settle()

    def end_machines(self, cluster: Cluster) -> None:
        """What the teardown's machine does once its provider says that all are gone."""
        settle_cluster.settle(self.world, WORKSPACE, cluster.id)
        settle_cluster.confirm(self.world, WORKSPACE, cluster.id)
        self.settle()

    def refuse(self, number: int) -> None:
        """No place has room for the worker."""
        cluster = self.cluster_of(number)
        assert self.rank(cluster) == "RANKED"
        while self.create(cluster) == "REFUSED":
            cluster = self.by_id(cluster)
        undo_attempt.give_up(self.world, WORKSPACE, cluster.id)
        self.settle()

    def down(self, *, name: str = "warm", drain: bool = False) -> None:
        take_pool_down(self.world, ANN, name, drain=drain, key=None)
        self.settle()

    def pool(self, name: str = "warm") -> JobPool:
        found = find_pool(self.reading, WORKSPACE, name)
        assert found is not None
        return found

    def worker(self, number: int, name: str = "warm") -> PoolWorker:
        return next(one for one in self.pool(name).workers if one.number == number)

    def statuses(self, name: str = "warm") -> dict[int, str]:
        return {one.number: str(one.status) for one in self.pool(name).workers}

    def seats(self, name: str = "warm") -> list[PoolSeat]:
        return child_records(self.reading, PoolSeat, WORKSPACE, name)

    def cluster_of(self, number: int, name: str = "warm") -> Cluster:
        return get_cluster(self.reading, WORKSPACE, self.worker(number, name).cluster_id)

    def boot_worker(self, number: int, name: str = "warm") -> Cluster:
        """Its machines are made and join; its setup has not run."""
        cluster = self.cluster_of(number, name)
        assert self.rank(cluster) == "RANKED"
        assert self.create(cluster) == "CREATED"
        cluster = self.by_id(cluster)
        self.await_join(cluster, f"token-{cluster.id}")
        for rank in range(cluster.num_nodes):
            self.join(cluster, rank)
        assert self.hand_over(cluster) == "UP"
        self.settle()
        return self.by_id(cluster)

    def ready(self, *numbers: int, name: str = "warm") -> None:
        for number in numbers:
            self.run_of(self.boot_worker(number, name), 1, "SUCCEEDED", exit_codes=[0])
            assert self.worker(number, name).status is ReplicaStatus.READY

    def run_of(self, cluster: Cluster, job: int, status: str, **about: Any) -> None:
        """The agent says what became of a run of the cluster."""
        self.tell(cluster, status, job=job, **about)

    def send(self, *tasks: dict[str, Any], pool: str = "warm", **fields: Any) -> ManagedJob:
        """Submit jobs to the pool; the first."""
        return self.submit(*[{"resources": {}} | task for task in tasks or ({},)], pool=pool, **fields)

    def on(self, number: int) -> int:
        """The worker that a managed job's only task runs on, 0 for none."""
        cluster_id = self.task(0, number).cluster_id
        found = [one.number for one in self.pool().workers if one.cluster_id == cluster_id]
        return found[0] if cluster_id and found else 0

    def begin(self, number: int) -> Cluster:
        """The run of a managed job that has a worker begins there."""
        cluster = self.held(0, number)
        self.run_of(cluster, self.task(0, number).cluster_job, "RUNNING")
        return cluster

    def finish(self, number: int, status: str = "SUCCEEDED", **about: Any) -> None:
        """The run of a managed job ends."""
        task = self.task(0, number)
        cluster = get_cluster(self.reading, WORKSPACE, task.cluster_id)
        codes = {"exit_codes": [0]} if status == "SUCCEEDED" else {}
        self.run_of(cluster, task.cluster_job, status, **codes, **about)
