"""Services over the application's fakes: replicas boot, a gateway judges them, time passes."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from stix.api.v1_services import ServiceUpdateRequest, ServiceUpRequest
from stix.application import reconcile_service, settle_cluster, submit_service, sweep
from stix.application.end_machines import NotYetTerminatedError
from stix.application.gateway_reports import take_gateway_status
from stix.application.records import child_records, get_cluster
from stix.application.service_draft import find_service
from stix.application.service_view import services_view
from stix.application.undo_attempt import give_up
from stix.application.world import Limits
from stix.model.cluster import Cluster
from stix.model.offer import Offer
from stix.model.service_state import Replica, Service
from stix.model.status import ClusterStatus, ReplicaStatus
from tests.unit.managed_jobs import THREE_ZONES
from tests.unit.world import ANN, WORKSPACE, ControlPlane

TASK = {"name": "chat", "run": "python serve.py", "resources": {"ports": 8000}}
PROBE = {"readiness_probe": "/health"}
SCALED = {"min_replicas": 1, "max_replicas": 4, "target_qps_per_replica": 1, "upscale_delay_seconds": 60}
SPOT = {"ports": 8000, "use_spot": True}


class ServingPlane(ControlPlane):
    """A control plane with three zones. ``states`` are what the gateway says of a replica instead of ready;
    ``rate`` is its load in requests a second."""

    def __init__(self, folder: Path, offers: tuple[Offer, ...] = THREE_ZONES, limits: Limits | None = None):
        super().__init__(folder, offers, limits)
        self._run = 0
        self.states: dict[int, tuple[str, str]] = {}
        self.busy: set[int] = set()
        self.rate = 0.0
        self.waiting = 0

    # What people ask

    def up(self, key: str | None = None, name: str = "chat", **spec: Any) -> Service:
        task, fields = spec.pop("task", {}), spec.pop("request", {})
        request = ServiceUpRequest(name=name, task=TASK | task | {"service": PROBE | spec}, **fields)
        submit_service.up(self.world, ANN, request, key)
        self.settle()
        return self.service(name)

    def update(self, mode: str = "rolling", key: str | None = None, **spec: Any) -> Service:
        task = spec.pop("task", {})
        body = {"mode": mode, "task": TASK | task | {"service": PROBE | spec}}
        submit_service.update(self.world, ANN, "chat", ServiceUpdateRequest(**body), key)
        self.settle()
        return self.service()

    def down(self, *, purge: bool = False) -> None:
        submit_service.down(self.world, ANN, "chat", purge=purge)
        self.settle()

    # What happens

    def settle(self) -> None:
        """Carry out every run of the service's and the teardown's machine that was started."""
        while self._run < len(self.workflows.runs):
            machine, _, payload = self.workflows.runs[self._run]
            self._run += 1
            if machine == "service":
                where = payload["service"]
                reconcile_service.reconcile(self.world, where["workspace"], where["name"])
            elif machine == "terminate":
                where = payload["cluster"]
                with suppress(NotYetTerminatedError):
                    settle_cluster.settle(self.world, where["workspace"], where["id"])
                    settle_cluster.confirm(self.world, where["workspace"], where["id"])

    def sweep(self) -> None:
        sweep.sweep(self.world)
        self.settle()

    def wait(self, seconds: float, *, step: float = 20.0) -> None:
        """Time passes, with reports of the gateway and sweeps in between."""
        until = self.clock.now() + seconds
        while self.clock.now() < until:
            self.pass_time(min(step, until - self.clock.now()))
            self.gateway()
            self.sweep()

    def boot(self, number: int, **about: Any) -> Cluster:  # type: ignore[override]
        """The machines of a replica are made and join, and its server begins."""
        cluster = self.held(number)
        assert self.rank(cluster) == "RANKED"
        assert self.create(cluster) == "CREATED"
        cluster = self.by_id(cluster)
        self.await_join(cluster, f"token-{cluster.id}")
        for rank in range(cluster.num_nodes):
            self.join(cluster, rank, address=f"10.0.{number}.{rank}")
        assert self.hand_over(cluster) == "UP"
        self.tell(number, "RUNNING", **about)
        return self.by_id(cluster)

    def boot_all(self) -> list[int]:
        """Boot every replica that waits for it, and let the gateway look; which they were."""
        waiting = [one.id for one in self.replicas() if self._waits(one)]
        for number in waiting:
            self.boot(number)
        self.gateway()
        return waiting

    def _waits(self, replica: Replica) -> bool:
        on_the_way = replica.status in (ReplicaStatus.PENDING, ReplicaStatus.PROVISIONING)
        return on_the_way and replica.ended_at is None and self.held(replica.id).status is ClusterStatus.INIT

    def find_no_place(self, number: int) -> None:
        """Every offer of a replica's launch is tried and refuses."""
        cluster = self.held(number)
        self.rank(cluster)
        while self.create(self.by_id(cluster)) == "REFUSED":
            pass
        give_up(self.world, cluster.workspace, cluster.id)
        self.settle()

    def tell(self, number: int, status: str, **about: Any) -> None:
        """The agent of a replica reports its run."""
        entry = {"id": 1, "status": status, "started_at": self.clock.now(), **about}
        if status not in ("RUNNING", "SETTING_UP"):
            entry["ended_at"] = self.clock.now()
        self.report(self.held(number), jobs=[entry])
        self.settle()

    def lose(self, number: int) -> None:
        """The cloud takes the machine of a replica, which the gateway notices first."""
        from stix.ports.compute import MachineState

        for machine_id in self._machines(number):
            self.compute.become(machine_id, MachineState.TERMINATED, "taken")
        self.states[number] = ("not_ready", "refused")
        self.gateway()

    def notice(self, number: int, seconds: float) -> None:
        """The cloud says that it will take the machine."""
        self.report(self.held(number), notice={"kind": "preemption", "at": self.clock.now() + seconds})
        self.settle()

    def _machines(self, number: int) -> list[str]:
        return [machine for one in self.intents(self.held(number)) for machine in one.machine_ids]

    def gateway(self, gateway_id: str = "gw") -> None:
        """A gateway looks at its view, and reports."""
        services = {}
        for entry in services_view(self.world, WORKSPACE):
            replicas = {}
            for one in entry["replicas"]:
                number = int(one["id"])
                state, reason = self.states.get(number, ("ready", ""))
                in_flight = 2 if number in self.busy else 0
                if one["state"] == "draining":
                    state, reason = ("draining" if in_flight else "drained"), ""
                replicas[one["id"]] = {"state": state, "reason": reason, "in_flight": in_flight}
            figures = {"rate_60s": self.rate, "waiting": self.waiting}
            services[entry["name"]] = {"replicas": replicas, **figures}
        take_gateway_status(self.world, WORKSPACE, gateway_id, {"services": services})
        self.settle()

    # What there is

    def service(self, name: str = "chat") -> Service:
        found = find_service(self.reading, WORKSPACE, name)
        assert found is not None
        return found

    def replicas(self) -> list[Replica]:
        return child_records(self.reading, Replica, WORKSPACE, self.service().uid)

    def replica(self, number: int) -> Replica:
        return next(one for one in self.replicas() if one.id == number)

    def held(self, number: int) -> Cluster:
        return get_cluster(self.reading, WORKSPACE, self.replica(number).cluster_id)

    def statuses(self) -> dict[int, str]:
        """Of the replicas that have machines, or are to have some."""
        return {one.id: str(one.status) for one in self.replicas() if one.ended_at is None}

    def shown(self) -> dict[str, str]:
        """What the gateway is told of each replica: version and state."""
        return {
            one["id"]: f"{one['version']} {one['state']}"
            for entry in services_view(self.reading, WORKSPACE)
            for one in entry["replicas"]
        }
