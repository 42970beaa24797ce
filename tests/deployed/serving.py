"""The example service on a deployed stack: how it stands, and clients that stay connected to it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx
import yaml

from stix.sdk.client import Client
from stix.sdk.endpoint import Endpoint
from tests.deployed.account import Account
from tests.deployed.under_chaos import Transport

__all__ = ["Served", "Streams", "write_task"]

_EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "generate.yaml"
_PATIENCE = 60.0


def write_task(file: Path, place: str, **policy: Any) -> str:
    """The example's YAML with spot machines in ``place``, that policy and streams of a token a second."""
    task = yaml.safe_load(_EXAMPLE.read_text())
    task["resources"] = {**task["resources"], "infra": place, "cpus": "2", "use_spot": True}
    task["service"]["readiness_probe"]["endpoint_probe_interval_seconds"] = 1
    task["service"]["replica_policy"] = policy
    task["run"] = task["run"].replace("--port 8000", "--port 8000 --tokens-per-second 1")
    file.write_text(yaml.safe_dump(task))
    return str(file)


class Served:
    """The service of that name, asked after through the stack's own API."""

    def __init__(self, account: Account, token: str, name: str) -> None:
        self._client = Client(Endpoint("https://stix.test", token), Transport(account))
        self._name = name

    def status(self) -> dict[str, Any]:
        return dict(self._client.service(self._name))

    def ready(self) -> list[int]:
        """The replicas that are ready, where none is on its way or going."""
        standing = [one for one in self.status()["replicas"] if one["ended_at"] is None]
        ready = [int(one["id"]) for one in standing if one["status"] == "READY"]
        return ready if len(ready) == len(standing) else []

    def endpoints(self, number: int) -> list[str]:
        """One of each gateway; none before so many are up."""
        found = list(self.status()["endpoints"])
        return found if len(found) == number else []

    def replica(self, number: int) -> dict[str, Any]:
        (found,) = (one for one in self.status()["replicas"] if one["id"] == number)
        return dict(found)

    def machine(self, replica: int) -> str:
        (node,) = self._client.cluster(self.replica(replica)["cluster"])["nodes"]
        return str(node["machine_id"])

    def targets(self) -> list[int]:
        """How many replicas its policy wanted, one after the other."""
        decisions = self._client.explain_service(self._name)["decisions"]
        return [target for target, _ in groupby(sorted(decisions, key=_moment), lambda one: one["target"])]

    def knows(self, load: float, plan: str) -> Callable[[], bool]:
        """Whether its policy knows of so many requests in progress, and has that in mind."""

        def knows() -> bool:
            status = self.status()
            return status["queue_length"] == load and plan in status["reason"]

        return knows

    def rests(self) -> bool:
        """Whether its gateways say that for a while no request has begun or ended: nothing is news then."""
        status = self.status()
        return status["request_rate"] == 0 and status["latency_p95"] is None


def _moment(decision: Mapping[str, Any]) -> float:
    return float(decision["at"])


class Streams:
    """So many streams of the example until ``close``; one that breaks is opened anew."""

    def __init__(self, endpoint: str, number: int) -> None:
        self._url = f"{endpoint}/generate?tokens=10000&stream=true"
        self._closing = False
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(number)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._closing = True
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._closing:
            with suppress(httpx.TransportError), httpx.stream("GET", self._url, timeout=_PATIENCE) as answer:
                for _ in answer.iter_lines():
                    if self._closing:
                        return
