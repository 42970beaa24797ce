"""One test's share of a real control plane: a namespace, whom Stix is in it, nodes, and their kubelets."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from typing import Any

import yaml

from tests.substrate.kubernetes.control_plane import ControlPlane

__all__ = ["LATENCY_SECONDS", "Tenant", "role"]

_DEADLINE_SECONDS = 60.0
_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_NUMBERS = itertools.count(1)
LATENCY_SECONDS = 0.3
"""What the scheduler and the authorizer take to hear of a change, many times over: they say nothing of it."""


def role() -> list[dict[str, Any]]:
    """The role and the cluster role that users are told to make."""
    text = resources.files("stix.clouds.kubernetes").joinpath("role.yaml").read_text(encoding="utf-8")
    return list(yaml.safe_load_all(text))


class Tenant:
    """``may``: its rights, those of ``role`` where nothing else is said."""

    def __init__(self, plane: ControlPlane, may: Sequence[Mapping[str, Any]] | None = None) -> None:
        self.plane = plane
        self.namespace = f"team-{next(_NUMBERS)}"
        self.fault = ""
        """What the kubelets say of the next pod that they get, instead of running it."""
        self._base = f"/api/v1/namespaces/{self.namespace}"
        self._nodes: list[str] = []
        self._addresses = itertools.count(1)
        plane.call("POST", "/api/v1/namespaces", {"metadata": {"name": self.namespace}})
        plane.call("POST", f"{self._base}/serviceaccounts", {"metadata": {"name": "stix"}})
        self._bind(role() if may is None else may)
        # Without it no pod can be made.
        self.until(lambda: self._found("serviceaccounts/default"), "the namespace has its own account")

    # --- whom Stix is ---

    def kubeconfig(self, context: str = "lab", server: str = "") -> dict[str, Any]:
        """Of the service account; straight to the API server, or by another way."""
        return self.plane.kubeconfig(
            token=self.token(), context=context, namespace=self.namespace, server=server
        )

    def token(self) -> str:
        asked = {"spec": {"audiences": ["https://kubernetes.default.svc"], "expirationSeconds": 7200}}
        given = self.plane.call("POST", f"{self._base}/serviceaccounts/stix/token", asked)
        return str(given["status"]["token"])

    def withdraw(self, verb: str, resource: str) -> None:
        """Take one right away from it, and give it all others."""
        for one in role():
            rules = [
                {**rule, "verbs": [each for each in rule["verbs"] if each != verb]}
                if resource in rule["resources"]
                else rule
                for rule in one["rules"]
            ]
            self.plane.call("PUT", f"{self._place(one)}/{self._name(one)}", self._named(one, rules))
        time.sleep(LATENCY_SECONDS)

    def _bind(self, roles: Sequence[Mapping[str, Any]]) -> None:
        for one in roles:
            self.plane.call("POST", self._place(one), self._named(one, one["rules"]))
            kind, name = one["kind"], self._name(one)
            binding = {
                "metadata": {"name": name},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": "stix", "namespace": self.namespace}],
            }
            self.plane.call("POST", self._place(one, "bindings"), binding)

    def _name(self, one: Mapping[str, Any]) -> str:
        """Cluster roles are the whole cluster's: each tenant has its own."""
        return str(one["metadata"]["name"]) + ("" if one["kind"] == "Role" else f"-{self.namespace}")

    def _named(self, one: Mapping[str, Any], rules: Sequence[Any]) -> dict[str, Any]:
        return {"metadata": {"name": self._name(one)}, "rules": [rule for rule in rules if rule["verbs"]]}

    def _place(self, one: Mapping[str, Any], of: str = "s") -> str:
        if one["kind"] == "Role":
            return f"{_RBAC}/namespaces/{self.namespace}/role{of}"
        return f"{_RBAC}/clusterrole{of}"

    # --- what the cluster has ---

    def add_node(
        self,
        name: str,
        *,
        cpu: str = "8",
        memory: str = "32Gi",
        gpus: int = 0,
        labels: Mapping[str, str] | None = None,
        taints: Sequence[Mapping[str, str]] = (),
    ) -> None:
        """As a kubelet registers it; there when the controllers have taken the first taint off it."""
        size = {"cpu": cpu, "memory": memory, "pods": "110", "ephemeral-storage": "1Ti"}
        if gpus:
            size["nvidia.com/gpu"] = str(gpus)
            taints = [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}, *taints]
        known = {"kubernetes.io/arch": "amd64", "kubernetes.io/hostname": name, **(labels or {})}
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
        node = {
            "metadata": {"name": name, "labels": known},
            "spec": {"taints": list(taints)},
            "status": {"capacity": size, "allocatable": size, "conditions": [ready]},
        }
        self.plane.call("POST", "/api/v1/nodes", node)
        self._nodes.append(name)
        wanted = {taint["key"] for taint in taints}

        def open_to_pods() -> bool:
            seen = self.plane.call("GET", f"/api/v1/nodes/{name}")
            return {taint["key"] for taint in seen["spec"].get("taints") or ()} == wanted

        self.until(open_to_pods, f"{name} is open to pods")

    def resize(self, **pods: int) -> None:
        """How many pods each node takes."""
        for name, most in pods.items():
            path = f"/api/v1/nodes/{name}/status"
            self.plane.call("PATCH", path, {"status": {"allocatable": {"pods": str(most)}}})
        time.sleep(LATENCY_SECONDS)

    def lose_node(self, name: str) -> None:
        """Its kubelet is not heard of any more."""
        gone = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}
        self.plane.call("PATCH", f"/api/v1/nodes/{name}/status", {"status": {"conditions": [gone]}})

    def limit(self, name: str, **hard: str) -> None:
        """A ResourceQuota, in force."""
        self.make("resourcequotas", {"metadata": {"name": name}, "spec": {"hard": hard}})
        self.until(
            lambda: self.objects("resourcequotas")[name]["status"].get("hard"), "the quota is in force"
        )
        time.sleep(LATENCY_SECONDS)

    def make_pod(
        self,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        node: str = "",
        selector: Mapping[str, str] | None = None,
        cpu: str = "1m",
        gpus: int = 0,
        priority: str = "",
    ) -> None:
        """Somebody else's. ``node``: past the scheduler."""
        limits = {"nvidia.com/gpu": str(gpus)} if gpus else {}
        resources = {"requests": {"cpu": cpu, **limits}, "limits": limits}
        container = {"name": "c", "image": "i", "resources": resources}
        spec = {
            "containers": [container],
            "automountServiceAccountToken": False,
            "priorityClassName": priority,
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            "nodeSelector": dict(selector or {}),
        } | ({"nodeName": node} if node else {})
        self.make("pods", {"metadata": {"name": name, "labels": dict(labels or {})}, "spec": spec})

    def make(self, kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """An object of the namespace: ``make("resourcequotas", ...)``."""
        made: dict[str, Any] = self.plane.call("POST", f"{self._base}/{kind}", body)
        return made

    def tell(self, pod: str, reason: str) -> None:
        """What the cluster autoscaler says of a pod."""
        about = self.objects("pods")[pod]["metadata"]
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        event = {
            "metadata": {"name": f"{pod}.{reason.lower()}"},
            "involvedObject": {"kind": "Pod", "name": pod, "namespace": self.namespace, "uid": about["uid"]},
            "reason": reason,
            "message": "from the cluster autoscaler",
            "source": {"component": "cluster-autoscaler"},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "type": "Normal",
        }
        self.make("events", event)

    def unmake(self, kind: str, name: str) -> None:
        self.plane.call("DELETE", f"{self._base}/{kind}/{name}", absent=True)

    def objects(self, kind: str) -> dict[str, dict[str, Any]]:
        """By name."""
        found = self.plane.call("GET", f"{self._base}/{kind}")["items"]
        return {one["metadata"]["name"]: one for one in found}

    # --- what the kubelets do ---

    def say_running(self, pod: str, address: str = "") -> None:
        """``address``: its own, otherwise one that no other pod has."""
        self._say(pod, self._running(self.objects("pods")[pod], address))

    def settle(self) -> None:
        """The scheduler has decided on every pod; those with a node run, those that were deleted are gone."""
        self.until(lambda: all(map(_decided, self.objects("pods").values())), "every pod is decided on")
        for name, pod in self.objects("pods").items():
            if pod["spec"].get("nodeName"):
                if pod["metadata"].get("deletionTimestamp"):
                    self.forget(name)
                elif pod["status"]["phase"] == "Pending" and not pod["status"].get("containerStatuses"):
                    fault, self.fault = self.fault, ""
                    self._say(name, self._running(pod) if not fault else _refused(pod, fault))

    def forget(self, pod: str) -> None:
        """The kubelet has ended it: the object goes."""
        self.plane.call("DELETE", f"{self._base}/pods/{pod}", {"gracePeriodSeconds": 0}, absent=True)

    def _say(self, pod: str, status: Mapping[str, Any]) -> None:
        path = f"{self._base}/pods/{pod}/status"
        self.plane.call("PATCH", path, {"status": status}, absent=True)

    def _running(self, pod: Mapping[str, Any], address: str = "") -> dict[str, Any]:
        number = next(self._addresses)
        address = address or f"10.1.{number // 250}.{number % 250 + 1}"
        since = {"running": {"startedAt": pod["metadata"]["creationTimestamp"]}}
        return {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "containerStatuses": [_container(pod, since, ready=True)],
        }

    # --- waiting and ending ---

    def until(self, true: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + _DEADLINE_SECONDS
        while not true():
            if time.monotonic() > deadline:
                raise TimeoutError(f"it never came true: {what}")
            time.sleep(0.02)

    def close(self) -> None:
        for name in self._nodes:
            self.plane.call("DELETE", f"/api/v1/nodes/{name}", absent=True)
        self.plane.call("DELETE", f"{self._base}/pods", {"gracePeriodSeconds": 0})
        for one in role():
            if one["kind"] == "ClusterRole":
                for of in ("bindings", "s"):
                    self.plane.call("DELETE", f"{self._place(one, of)}/{self._name(one)}", absent=True)
        self.plane.call("DELETE", f"/api/v1/namespaces/{self.namespace}")

    def _found(self, path: str) -> bool:
        return "status" not in self.plane.call("GET", f"{self._base}/{path}", absent=True)


def _decided(pod: Mapping[str, Any]) -> bool:
    told = {one["type"] for one in pod["status"].get("conditions") or ()}
    return bool(pod["spec"].get("nodeName") or "PodScheduled" in told)


def _refused(pod: Mapping[str, Any], code: str) -> dict[str, Any]:
    """At the kubelet's admission, or because of how the container is described."""
    if code.startswith("OutOf") or code in ("NodeAffinity", "UnexpectedAdmissionError"):
        return {"phase": "Failed", "reason": code, "message": f"Pod was rejected: {code}"}
    why = {"waiting": {"reason": code, "message": f"the container cannot be made: {code}"}}
    return {"containerStatuses": [_container(pod, why, ready=False)]}


def _container(pod: Mapping[str, Any], state: Mapping[str, Any], *, ready: bool) -> dict[str, Any]:
    image = pod["spec"]["containers"][0]["image"]
    name = pod["spec"]["containers"][0]["name"]
    return {"name": name, "image": image, "imageID": "", "ready": ready, "restartCount": 0, "state": state}
