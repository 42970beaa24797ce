"""Azure for one test: the real adapter and SDK against Resource Manager on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from stix.adapters.system import SystemClock
from stix.clouds.azure.compute import AzureCompute, connect
from stix.clouds.azure.errors import REFUSALS
from stix.model.errors import ProviderError
from stix.ports.compute import GangRequest, Place
from tests.contract.cloud_world import CloudWorld
from tests.providers.azure.server import AzureServer
from tests.providers.azure.state import Group
from tests.providers.faults import Kind

REGION = "eastus"


class World(CloudWorld):
    place = Place("azure", REGION)
    shape: ClassVar[Mapping[str, Any]] = {
        "instance_type": "Standard_D2s_v5",
        "price": 0.1,
        "vcpus": 2,
        "memory_gib": 8,
    }
    refusals: ClassVar[Mapping[str, type[ProviderError]]] = REFUSALS

    def __init__(self, folder: Path) -> None:
        self.server = AzureServer(folder)

    def compute(self, *, deployment: str = "dep", **settings: Any) -> AzureCompute:
        return connect({**self.server.config(), **settings}, deployment=deployment, clock=SystemClock())

    def greedy_request(self, token: str) -> GangRequest:
        # What it has too little of Azure finds out late; what it does not sell there it refuses at once.
        self.server.refuse("SkuNotAvailable")
        return self.request(token, 3)

    def capacity(self, machines: int) -> None:
        self.server.cloud.room = machines

    def refuse(self, code: str) -> None:
        self.server.refuse(code)

    def lose_answer(self) -> None:
        self.server.faults.add(Kind.LOSE_ANSWER, "deploy")

    def deliver_twice(self) -> None:
        self.server.faults.add(Kind.TWICE, "deploy")

    def short_pages(self, size: int) -> None:
        self.server.routes.page_size = size

    def add_machines(self, count: int, *, deployment: str) -> None:
        """In groups of five."""
        for start in range(0, count, 5):
            here = min(5, count - start)
            name = "stix-" + hashlib.sha256(f"{deployment} {start}".encode()).hexdigest()[:32]
            tags = {"stix-deployment": deployment, "stix-intent": "x", "stix-azure-count": str(here)}
            group = self.server.cloud.groups[name] = Group(name, REGION, tags)
            for index in range(here):
                group.vms[f"node-{index}"] = {
                    "id": f"{group.id}/providers/Microsoft.Compute/virtualMachines/node-{index}",
                    "name": f"node-{index}",
                    "location": REGION,
                    "properties": {"provisioningState": "Succeeded"},
                    "power": "running",
                    "failed": "",
                }

    def preempt(self, machine_id: str) -> None:
        self.server.preempt(machine_id)

    def announce_preemption(self, machine_id: str) -> str:
        return self.server.announce_preemption(machine_id)

    def disks(self, machine_id: str) -> set[str]:
        group, _, name = machine_id.partition("/")
        return {disk for disk in self.server.cloud.groups[group].disks if disk == f"{name}-osdisk"}

    def leftovers(self) -> list[str]:
        return sorted(self.server.cloud.groups)

    def settle(self) -> None:
        self.server.settle()

    def close(self) -> None:
        self.server.close()
        assert self.server.violations == []
