"""Kubernetes for one test: the real adapter and SDK against a real control plane, the kubelets played."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar

from stix.adapters.system import SystemClock
from stix.clouds.kubernetes.compute import KubernetesCompute, connect
from stix.clouds.kubernetes.errors import POD_REFUSALS, REFUSALS
from stix.clouds.kubernetes.manifests import INTENT
from stix.model.errors import ProviderError
from tests.contract import world_kubernetes
from tests.providers.faults import Kind
from tests.substrate.kubernetes.control_plane import URGENT, ControlPlane
from tests.substrate.kubernetes.front import Front
from tests.substrate.kubernetes.tenant import Tenant

# What a test can bring a real server to say at the moment it wants. NotTriggerScaleUp is an autoscaler's, and
# has a case of its own, as have Unauthorized, NotFound and Invalid.
_SAID = ("Forbidden", "ExceededQuota", *(code for code in POD_REFUSALS if code != "NotTriggerScaleUp"))


class World(world_kubernetes.World):
    cannot: ClassVar[Mapping[str, str]] = {
        **world_kubernetes.World.cannot,
        "throttle": "a real API server limits those who ask far more at once than one test does",
    }
    refusals: ClassVar[Mapping[str, type[ProviderError]]] = {code: REFUSALS[code] for code in _SAID}

    def __init__(self, plane: ControlPlane) -> None:
        self.tenant = Tenant(plane)
        self.front = Front(plane.url, plane.authority)
        self.tenant.add_node("big", cpu="64", memory="256Gi")
        spot = {"karpenter.sh/capacity-type": "spot"}
        self.tenant.add_node("spot", cpu="64", memory="256Gi", labels=spot)
        product = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB"}
        self.tenant.add_node("gpu", cpu="32", memory="128Gi", gpus=8, labels=product)
        self._config = self.tenant.kubeconfig(world_kubernetes.CONTEXT, server=self.front.url)

    def compute(self, *, deployment: str = "dep", **settings: Any) -> KubernetesCompute:
        config = {"kubeconfig": self._config, "pending_seconds": 0, **settings}
        return connect(config, deployment=deployment, clock=SystemClock())

    def capacity(self, machines: int) -> None:
        self.tenant.resize(big=machines, spot=0, gpu=0)

    def refuse(self, code: str) -> None:
        self._heal()
        if code == "Forbidden":
            self.tenant.withdraw("create", "pods")
        elif code == "ExceededQuota":
            self.tenant.limit("pods", pods="0")
        elif code == "Unschedulable":
            self.capacity(0)
        else:
            self.tenant.fault = code

    def _heal(self) -> None:
        self.tenant.withdraw("", "")
        self.tenant.unmake("resourcequotas", "pods")
        self.tenant.resize(big=110, spot=110, gpu=110)

    def throttle(self, times: int) -> None:
        raise NotImplementedError

    def lose_answer(self) -> None:
        self.front.faults.add(Kind.LOSE_ANSWER, "create pods")

    def deliver_twice(self) -> None:
        self.front.faults.add(Kind.TWICE, "create pods")

    def short_pages(self, size: int) -> None:
        self.front.page_size = size

    def add_machines(self, count: int, *, deployment: str) -> None:
        for number in range(count):
            labels = {"stix-deployment": deployment, INTENT: "x"}
            self.tenant.make_pod(f"{deployment}-{number}", labels=labels, node="big")
        self.front.page_size = 100
        self.tenant.settle()

    def preempt(self, machine_id: str) -> None:
        """Something more important needs the whole of its node: the scheduler makes room."""
        node = self.tenant.objects("pods")[machine_id]["spec"]["nodeName"]
        self.tenant.make_pod(
            "urgent", selector={"kubernetes.io/hostname": node}, cpu="63500m", priority=URGENT
        )
        self.tenant.until(
            lambda: "deletionTimestamp" in self.tenant.objects("pods")[machine_id]["metadata"], "it is taken"
        )

    def leftovers(self) -> list[str]:
        return [
            f"{kind}/{name}"
            for kind in ("pods", "secrets", "services")
            for name, one in self.tenant.objects(kind).items()
            if INTENT in (one["metadata"].get("labels") or {})
        ]

    def settle(self) -> None:
        self.tenant.settle()

    def close(self) -> None:
        with suppress(OSError):
            self.front.close()
        self.tenant.close()
