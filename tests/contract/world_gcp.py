"""Google Cloud for one test: the real adapter and SDK against Compute Engine on this machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from stix.adapters.system import SystemClock
from stix.clouds.gcp.compute import GcpCompute, connect
from stix.clouds.gcp.errors import REFUSALS
from stix.model.errors import ProviderError
from stix.ports.compute import GangRequest, Place
from tests.contract.cloud_world import CloudWorld
from tests.providers.faults import Kind
from tests.providers.gcp.server import GcpServer

REGION = "us-central1"


@cache
def private_key() -> str:
    """Of a service account: made for this run of the tests."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


class World(CloudWorld):
    place = Place("gcp", REGION)
    shape: ClassVar[Mapping[str, Any]] = {
        "instance_type": "n2-standard-2",
        "price": 0.1,
        "vcpus": 2,
        "memory_gib": 8,
    }
    refusals: ClassVar[Mapping[str, type[ProviderError]]] = REFUSALS

    def __init__(self, folder: Path) -> None:
        self.server = GcpServer()
        self.key_file = self.server.credentials(folder, private_key())
        self._environment = pytest.MonkeyPatch()
        self._environment.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(self.key_file))
        self._environment.delenv("GOOGLE_CLOUD_PROJECT", raising=False)

    def compute(self, *, deployment: str = "dep", **settings: Any) -> GcpCompute:
        config = {"endpoint_url": self.server.url, **settings}
        return connect(config, deployment=deployment, clock=SystemClock())

    def greedy_request(self, token: str) -> GangRequest:
        self.server.state.room = 2
        self.server.instant_refusals = True
        return self.request(token, 3)

    def capacity(self, machines: int) -> None:
        self.server.state.room = machines

    def refuse(self, code: str, words: str = "") -> None:
        more = {"words": words} if words else {}
        # Google's library believes a 401 when two new tokens did not help.
        times = 3 if code in ("authError", "required") else 1
        self.server.faults.add(Kind.REFUSE, "bulkInsert", code=code, times=times, **more)

    def lose_answer(self) -> None:
        self.server.faults.add(Kind.LOSE_ANSWER, "bulkInsert")

    def deliver_twice(self) -> None:
        self.server.faults.add(Kind.TWICE, "bulkInsert")

    def short_pages(self, size: int) -> None:
        self.server.page_size = size

    def add_machines(self, count: int, *, deployment: str) -> None:
        self.server.page_size = 100
        tags = {"stix-deployment": deployment, "stix-intent": "x"}
        properties = {
            "machineType": "n2-standard-2",
            "labels": {**tags, "stix-token": "x"},
            "metadata": {"items": [{"key": "stix-tags", "value": json.dumps(tags)}]},
            "tags": {"items": []},
            "scheduling": {},
            "networkInterfaces": [{"network": "global/networks/default"}],
            "disks": [{"initializeParams": {"diskSizeGb": "10"}}],
        }
        self.server.state.add_machines(count, zone=f"{REGION}-b", properties=properties)

    def preempt(self, machine_id: str) -> None:
        self.server.preempt(machine_id)

    def announce_preemption(self, machine_id: str) -> str:
        return self.server.announce_preemption(machine_id)

    def disks(self, machine_id: str) -> set[str]:
        machine = self.server.state.machines.get(machine_id)
        return set() if machine is None else {one["source"] for one in machine["disks"] if "source" in one}

    def leftovers(self) -> list[str]:
        # The network and the rule inside it stay: they cost nothing and the next gang needs them.
        machines = list(self.server.state.machines)
        return machines + [one for one in self.server.state.firewalls if not one.endswith("-inside")]

    def settle(self) -> None:
        self.server.settle()

    def close(self) -> None:
        self.server.close()
        self._environment.undo()
        assert self.server.violations == [], self.server.violations
