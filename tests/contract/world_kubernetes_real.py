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
from stix.ports.compute import GangRequest, MachineState
from tests.contract import world_kubernetes
from tests.providers.faults import Kind
from tests.substrate.kubernetes.control_plane import URGENT, ControlPlane
from tests.substrate.kubernetes.crowd import Crowd
from tests.substrate.kubernetes.front import Front
from tests.substrate.kubernetes.tenant import Tenant

# What a test can bring a real server to say at the moment it wants. NotTriggerScaleUp is an autoscaler's, and
# has a case of its own, as have Unauthorized, NotFound and Invalid.
_SAID = ("Forbidden", "ExceededQuota", *(code for code in POD_REFUSALS if code != "NotTriggerScaleUp"))


class World(world_kubernetes.World):
    refusals: ClassVar[Mapping[str, type[ProviderError]]] = {code: REFUSALS[code] for code in _SAID}

    def __init__(self, plane: ControlPlane) -> None:
        self.tenant = Tenant(plane)
        self._crowd: Crowd | None = None
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

    def direct(self, **settings: Any) -> KubernetesCompute:
        """The adapter as users have it: straight to the API server, by TLS."""
        config = {"kubeconfig": self.tenant.kubeconfig(world_kubernetes.CONTEXT), "pending_seconds": 0}
        return connect({**config, **settings}, deployment="dep", clock=SystemClock())

    def running(self, compute: KubernetesCompute, request: GangRequest) -> list[str]:
        """Ids of a gang that is made and runs."""
        ids = compute.create(request)
        self.settle()
        assert {machine.state for machine in compute.describe(self.place, ids)} == {MachineState.RUNNING}
        return ids

    def refusal(self, compute: KubernetesCompute, request: GangRequest) -> ProviderError:
        """Pods are accepted first: the scheduler's word is there when the same call comes again."""
        try:
            compute.create(request)
            self.settle()
            compute.create(request)
        except ProviderError as error:
            return error
        raise AssertionError("nothing was refused")

    def node_of(self, pod: str) -> str:
        return str(self.tenant.objects("pods")[pod]["spec"].get("nodeName"))

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
        if self._crowd is not None:
            self._crowd.close()
        self._crowd = Crowd(self.tenant) if times else None

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
        node = self.node_of(machine_id)
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
        self.throttle(0)
        with suppress(OSError):
            self.front.close()
        self.tenant.close()
