"""An hour of a service that nobody asks, at zero replicas, with the workspace's two gateways: counted."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

from infra.usage import Usage
from stix.application.world import Gateways
from stix.runtime.bootstrap import install
from tests.costs.deployment import Deployment, counted_deployment

__all__ = ["idle_service"]

_MINUTES = 6
_TASK = {"run": "python serve.py", "resources": {"ports": 8000}}
_SPEC = {
    "readiness_probe": "/health",
    "replica_policy": {"min_replicas": 0, "max_replicas": 4, "target_qps_per_replica": 2},
}


def idle_service(memory_mib: Mapping[str, int], sweep: Usage) -> tuple[Usage, Usage]:
    """Of a service at zero replicas: what both gateways ask of the control plane in an hour beside what any
    node asks, and what the service's own look adds, which comes once in it. ``sweep`` is one that finds
    nothing. Raises ``RuntimeError`` where it is not such an hour."""
    with tempfile.TemporaryDirectory() as folder, counted_deployment(Path(folder), memory_mib) as deployment:
        deployment.world = replace(deployment.world, gateways=Gateways(nodes=2))
        install(deployment.world)
        deployment.request("POST", "/v1/services", {"name": "chat", "task": {**_TASK, "service": _SPEC}})
        tokens = _gateways(deployment)
        _minute(deployment, tokens)
        _sweep(deployment)
        look_at = deployment.request("GET", "/v1/services/chat/explain")["next_look_at"]
        while deployment.plane.clock.now() < look_at - (_MINUTES - 1) * 60:
            _minute(deployment, tokens)
            for token in tokens:
                deployment.request("POST", "/agent/v1/report", {"jobs": []}, token=token)
        with redirect_stdout(StringIO()):  # The sweep is late, and says so.
            _sweep(deployment)
        begun, last, looks = deployment.meter.reading(), Usage(), []
        for _ in range(_MINUTES):
            _minute(deployment, tokens)
            swept = _sweep(deployment)
            if swept.invocations.get("autoscale"):
                looks.append(swept - last)
            last = swept
        counted = deployment.meter.reading() - begun
        [service] = deployment.request("GET", "/v1/services")["services"]
        if len(looks) != 1 or service["status"] != "NO_REPLICA" or len(service["endpoints"]) != 2:
            raise RuntimeError(f"{len(looks)} looks, {service['status']} at {service['endpoints']}")
        return (counted - looks[0] - sweep.times(_MINUTES)).times(60 / _MINUTES), looks[0]


def _gateways(deployment: Deployment) -> list[str]:
    """The tokens of both, once they are up."""
    compute = deployment.plane.compute
    for _ in range(4):
        deployment.run()
        deployment.pass_time(30)
        deployment.invoke("monitor", {"action": "sweep"})
    deployment.run()
    tokens = []
    for number, gang in enumerate(compute.requests):
        [machine_id] = compute.gangs[gang.token]
        join = {
            "machine_id": machine_id,
            "address": f"10.0.0.{number}",
            "peer_port": 7000,
            "facts": {"cpus": 2},
        }
        joined = deployment.request("POST", "/agent/v1/join", join, token=gang.join_token)
        tokens.append(joined["node_token"])
    deployment.run()
    for token in tokens:
        deployment.request("POST", "/agent/v1/report", {"jobs": []}, token=token)
        deployment.request("POST", "/agent/v1/commands", {"after": 0}, token=token)
        deployment.request(
            "POST", "/agent/v1/report", {"jobs": [{"id": 1, "status": "SUCCEEDED"}]}, token=token
        )
    return tokens


def _minute(deployment: Deployment, tokens: list[str]) -> None:
    """Both gateways say that nobody asks."""
    deployment.pass_time(60)
    status = {"services": {"chat": {"rate_60s": 0.0, "replicas": {}}}}
    for token in tokens:
        deployment.request("POST", "/agent/v1/gateway", {"status": status}, token=token)


def _sweep(deployment: Deployment) -> Usage:
    before = deployment.meter.reading()
    deployment.invoke("monitor", {"action": "sweep"})
    deployment.run()
    return deployment.meter.reading() - before
