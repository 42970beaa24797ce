"""What people and nodes do, each action's usage counted: a launch, an hour, a request, an end."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.usage import Usage
from stix.application.world import Limits
from tests.costs.deployment import Deployment, counted_deployment
from tests.costs.serving import idle_service

_HALF_HOUR = 1800
"""Holds each of the periods at which nodes report and ask and sweeps look at them."""
_MORE = 10
"""Nodes by which the second cluster is larger: what each of them adds is a tenth of the difference."""
_REQUESTS = 20


@dataclass(frozen=True)
class Counted:
    """``_more``: what each further node of the same cluster adds. ``hour``: idle, and without its ``place``,
    which is one look at all machines of a place. ``sweep``: one that finds nothing.
    ``managed_day``: of a managed job on one node, from its submission to its cluster's end. ``gateways``: an
    hour of both, beside what they ask as nodes. ``service_look``: the hourly one at a service."""

    launch: Usage
    launch_more: Usage
    place: Usage
    hour: Usage
    hour_more: Usage
    job: Usage
    managed_day: Usage
    down: Usage
    down_more: Usage
    sweep: Usage
    request: Usage
    gateways: Usage
    service_look: Usage


def count(memory_mib: Mapping[str, int]) -> Counted:
    """``memory_mib``: of the functions by name, as the template has them."""
    one, many = _Life(1, memory_mib), _Life(1 + _MORE, memory_mib)

    def more(name: str) -> Usage:
        return (getattr(many, name) - getattr(one, name)).times(1 / _MORE)

    gateways, service_look = idle_service(memory_mib, one.sweep)
    return Counted(
        launch=one.launch,
        launch_more=more("launch"),
        place=one.place,
        hour=one.hour,
        hour_more=more("hour"),
        job=one.job,
        managed_day=_managed_day(memory_mib, one.sweep, one.place),
        down=one.down,
        down_more=more("down"),
        sweep=one.sweep,
        request=one.request,
        gateways=gateways,
        service_look=service_look,
    )


class _Life:
    """A cluster of ``nodes`` from its launch to its end, in a deployment of its own."""

    def __init__(self, nodes: int, memory_mib: Mapping[str, int]):
        with (
            tempfile.TemporaryDirectory() as folder,
            counted_deployment(Path(folder), memory_mib) as deployment,
        ):
            self._deployment, self._nodes = deployment, nodes
            self._tokens: list[str] = []
            self.place = Usage()
            self.sweep = self._measure(self._ten_minutes).times(1 / 10)
            self.launch = self._measure(self._launch)
            self.job = self._measure(self._job)
            half, looks = self._measure(self._idle_half_hour), self._looks
            self.hour = (half - self.sweep.times(_HALF_HOUR / 60) - self.place).times(2)
            self.place = self.place.times(1 / looks)
            self.request = self._measure(self._look).times(1 / _REQUESTS)
            self.down = self._measure(self._down)

    def _measure(self, action: Callable[[], object]) -> Usage:
        before = self._deployment.meter.reading()
        action()
        return self._deployment.meter.reading() - before

    def _launch(self) -> None:
        deployment, compute = self._deployment, self._deployment.plane.compute
        task = {"num_nodes": self._nodes, "run": "true"}
        deployment.request("POST", "/v1/clusters", {"task": task, "cluster": "train"})
        deployment.run()
        gang = compute.requests[-1]
        for rank, machine_id in enumerate(compute.gangs[gang.token]):
            facts = {"cpus": 8, "memory_gib": 32.0, "gpus": [{"name": "A100"}]}
            join = {"machine_id": machine_id, "address": f"10.0.0.{rank}", "peer_port": 7000, "facts": facts}
            joined = deployment.request("POST", "/agent/v1/join", join, token=gang.join_token)
            self._tokens.append(joined["node_token"])
        deployment.run()
        for token in self._tokens:
            deployment.request("POST", "/agent/v1/report", {"jobs": []}, token=token)
            deployment.request("POST", "/agent/v1/commands", {"after": 0}, token=token)
        [cluster] = deployment.request("GET", "/v1/clusters")["clusters"]
        if cluster["status"] != "UP":
            raise RuntimeError(f"the cluster is {cluster['status']}")

    def _job(self) -> None:
        """One that the head reports started and ended, with a chunk of its log."""
        deployment, head = self._deployment, self._tokens[0]
        deployment.request("POST", "/v1/clusters/train/jobs", {"task": {"run": "true"}})
        deployment.request("POST", "/agent/v1/commands", {"after": 1}, token=head)
        for status in ("RUNNING", "SUCCEEDED"):
            jobs = [{"id": 1, "status": status}, {"id": 2, "status": status}]
            deployment.request("POST", "/agent/v1/report", {"jobs": jobs}, token=head)
        chunk = {"job": 2, "rank": 0, "n": 0, "size": 1000}
        deployment.request("POST", "/agent/v1/logs", {"wanted": [chunk]}, token=head)
        deployment.meter.count("object_puts")
        end = {"job": 2, "rank": 0, "chunks": 1, "bytes": {"stdout": 1000}, "sha256": {"stdout": "0" * 64}}
        deployment.request("POST", "/agent/v1/logs", {"uploaded": [chunk], "finished": [end]}, token=head)

    def _ten_minutes(self) -> None:
        """Of a deployment without clusters: rare kinds are looked for once."""
        for _ in range(10):
            self._deployment.pass_time(60)
            self._deployment.invoke("monitor", {"action": "sweep"})

    def _idle_half_hour(self) -> None:
        """Every node reports and asks as often as it is told to; the sweep comes every minute."""
        deployment, limits = self._deployment, Limits()
        self._looks = 0
        for minute in range(1, _HALF_HOUR // 60 + 1):
            deployment.pass_time(60)
            for token in self._tokens:
                if minute * 60 % limits.report_seconds == 0:
                    idle = {"idle_since": deployment.plane.clock.now() - 600, "jobs": []}
                    deployment.request("POST", "/agent/v1/report", idle, token=token)
                if minute * 60 % limits.woken_poll_seconds == 0:
                    deployment.request("POST", "/agent/v1/commands", {"after": 2}, token=token)
            # A sweep of a place is all that it starts here; its first state is entered by the start.
            begun = self._measure(lambda: deployment.invoke("monitor", {"action": "sweep"})).transitions
            self.place += Usage(transitions=begun) + self._measure(deployment.run)
            self._looks += begun > 0

    def _look(self) -> None:
        for _ in range(_REQUESTS // 4):
            self._deployment.request("GET", "/v1/clusters")
            self._deployment.request("GET", "/v1/clusters/train")
            self._deployment.request("GET", "/v1/clusters/train/jobs")
            self._deployment.request("GET", "/v1/clusters/train/jobs/1")

    def _down(self) -> None:
        deployment = self._deployment
        deployment.request("POST", "/v1/clusters/train/down", {})
        for _ in range(20):
            deployment.run()
            if not deployment.request("GET", "/v1/clusters")["clusters"]:
                return
            deployment.pass_time(30)
        raise RuntimeError("the cluster does not end")


def _managed_day(memory_mib: Mapping[str, int], sweep: Usage, place: Usage) -> Usage:
    """An hour of it is counted, with a sweep every ten minutes, which is how often anything of it is due."""
    with tempfile.TemporaryDirectory() as folder, counted_deployment(Path(folder), memory_mib) as deployment:
        deployment.request("POST", "/v1/jobs", {"tasks": [{"task": {"name": "train", "run": "true"}}]})
        _go_on(deployment)
        gang = deployment.plane.compute.requests[-1]
        [machine_id] = deployment.plane.compute.gangs[gang.token]
        join = {"machine_id": machine_id, "address": "10.0.0.1", "peer_port": 7000, "facts": {"cpus": 8}}
        head = deployment.request("POST", "/agent/v1/join", join, token=gang.join_token)["node_token"]
        _go_on(deployment)

        def report(*jobs: dict[str, object]) -> None:
            deployment.request("POST", "/agent/v1/report", {"jobs": jobs}, token=head)
            deployment.run()

        deployment.request("POST", "/agent/v1/commands", {"after": 0}, token=head)
        report({"id": 1, "status": "RUNNING"})
        begun = deployment.meter.reading()
        for minute in range(1, 61):
            deployment.pass_time(60)
            if minute * 60 % Limits().report_seconds == 0:
                report()
            if minute * 60 % Limits().woken_poll_seconds == 0:
                deployment.request("POST", "/agent/v1/commands", {"after": 1}, token=head)
                deployment.invoke("monitor", {"action": "sweep"})
                deployment.run()
        hour = deployment.meter.reading() - begun - (sweep + place).times(6)
        ended = deployment.meter.reading()
        report({"id": 1, "status": "SUCCEEDED"})
        _go_on(deployment)
        [job] = deployment.request("GET", "/v1/jobs")["jobs"]
        if job["status"] != "SUCCEEDED":
            raise RuntimeError(f"the managed job is {job['status']}: {job}")
        return begun + hour.times(24) + deployment.meter.reading() - ended


def _go_on(deployment: Deployment) -> None:
    """State machines, and what falls due within two minutes."""
    for _ in range(4):
        deployment.run()
        deployment.pass_time(30)
    deployment.invoke("monitor", {"action": "sweep"})
    deployment.run()
