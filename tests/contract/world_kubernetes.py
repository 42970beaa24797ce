"""Kubernetes for one test: the real adapter and SDK against an API server on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from stix.adapters.system import SystemClock
from stix.clouds.kubernetes.compute import KubernetesCompute, connect
from stix.clouds.kubernetes.errors import REFUSALS
from stix.model.errors import ProviderError
from stix.ports.compute import GangRequest, Place
from tests.contract.cloud_world import CloudWorld
from tests.providers.faults import Kind
from tests.providers.kubernetes.server import KubernetesServer

CONTEXT = "lab"


class World(CloudWorld):
    place = Place("kubernetes", CONTEXT)
    shape: ClassVar[Mapping[str, Any]] = {"instance_type": "pod", "price": 0, "vcpus": 1, "memory_gib": 1}
    cannot: ClassVar[Mapping[str, str]] = {
        "announce_preemption": "a pod is told by the signal that ends it; there is no notice to read before",
    }
    refusals: ClassVar[Mapping[str, type[ProviderError]]] = REFUSALS

    def __init__(self, folder: Path) -> None:
        self.server = KubernetesServer()
        self.server.add_node("big", cpu="64", memory="256Gi")
        self.server.add_node("spot", cpu="64", memory="256Gi", labels={"karpenter.sh/capacity-type": "spot"})
        product = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB"}
        self.server.add_node("gpu", cpu="32", memory="128Gi", gpus=8, labels=product)

    def compute(self, *, deployment: str = "dep", **settings: Any) -> KubernetesCompute:
        config = {"kubeconfig": self.server.kubeconfig(CONTEXT), "pending_seconds": 0, **settings}
        return connect(config, deployment=deployment, clock=SystemClock())

    def greedy_request(self, token: str) -> GangRequest:
        return self.request(token, 3, vcpus=60)

    def capacity(self, machines: int) -> None:
        self.server.room = machines

    def refuse(self, code: str) -> None:
        self.server.refuse(code)

    def lose_answer(self) -> None:
        self.server.faults.add(Kind.LOSE_ANSWER, "create pods")

    def deliver_twice(self) -> None:
        self.server.faults.add(Kind.TWICE, "create pods")

    def short_pages(self, size: int) -> None:
        self.server.page_size = size

    def add_machines(self, count: int, *, deployment: str) -> None:
        self.server.page_size = 100
        for number in range(count):
            name = f"{deployment}-{number}"
            self.server.objects["pods"][name] = {
                "metadata": {
                    "name": name,
                    "namespace": "team",
                    "uid": name,
                    "labels": {"stix-deployment": deployment, "stix-intent": "x"},
                },
                "spec": {"containers": [{"name": "node", "image": "i"}], "nodeName": "big"},
                "status": {"phase": "Running", "podIP": "10.9.9.9"},
            }

    def preempt(self, machine_id: str) -> None:
        self.server.preempt(machine_id)

    def announce_preemption(self, machine_id: str) -> str:
        raise NotImplementedError

    def disks(self, machine_id: str) -> set[str]:
        return set()

    def leftovers(self) -> list[str]:
        objects = self.server.objects
        return [f"{kind}/{name}" for kind in ("pods", "secrets", "services") for name in objects[kind]]

    def settle(self) -> None:
        self.server.settle()

    def close(self) -> None:
        self.server.close()
        assert self.server.violations == []
