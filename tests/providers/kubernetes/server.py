"""A Kubernetes API server on this machine, with a scheduler, a kubelet and a garbage collector of its own.

It keeps nodes, pods, secrets, services and events, and answers as the API server does: ``Status`` objects for
refusals, label and field selectors, pages with ``continue``. What it is sent and what it answers is held to
the SDK's own models, which are generated from Kubernetes' OpenAPI document and refuse unknown fields.
"""

from __future__ import annotations

import base64
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import kubernetes.client as sdk

from stix.catalog.fetchers.kubernetes import quantity
from tests.providers.faults import Faults, Kind
from tests.providers.hosts import Host

_KINDS = {"pods": "Pod", "secrets": "Secret", "services": "Service", "events": "Event", "nodes": "Node"}
_MODELS: dict[str, Any] = {
    "Pod": sdk.V1Pod,
    "Secret": sdk.V1Secret,
    "Service": sdk.V1Service,
    "Event": sdk.CoreV1Event,
    "Node": sdk.V1Node,
}
# StatusReason by HTTP status: staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/types.go
_STATUS = {
    "Unauthorized": 401,
    "Forbidden": 403,
    "ExceededQuota": 403,
    "Denied": 403,
    "QuotaUnknown": 403,
    "NotFound": 404,
    "MethodNotAllowed": 405,
    "AlreadyExists": 409,
    "Conflict": 409,
    "RequestEntityTooLarge": 413,
    "Invalid": 422,
    "TooManyRequests": 429,
    "BadRequest": 400,
    "ServiceUnavailable": 503,
}
# What the API server says with the reason Forbidden, as 1.20.2 words it.
_FORBIDDEN = {
    "Forbidden": 'User "u" cannot create resource "pods" in API group "" in the namespace "team"',
    "ExceededQuota": "exceeded quota: team, requested: pods=1, used: pods=9, limited: pods=9",
    "Denied": 'error looking up service account team/x: serviceaccount "x" not found',
    "QuotaUnknown": "status unknown for quota: team, resources: pods",
}
_CONTAINER_WAITS = frozenset(
    {
        *("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"),
        *("CreateContainerConfigError", "CreateContainerError"),
    }
)


class KubernetesServer:
    """``room``: how many pods its nodes take in all, None for as many as their sizes allow. With ``hosts``, a
    folder, pods run for real and nobody has to ``settle`` them."""

    def __init__(self, *, hosts: Path | None = None) -> None:
        self.faults = Faults()
        self.room: int | None = None
        self.calls: list[str] = []
        self.violations: list[str] = []
        self.page_size: int | None = None
        self.machines: dict[str, Host] = {}
        self.objects: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in _KINDS}
        self.may_create = True
        self._hosts = hosts
        self._pod_fault = ""
        self._lock = threading.RLock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            owner: ClassVar[KubernetesServer] = server

            def log_message(self, format: str, *args: Any) -> None:
                return

            def _do(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length) or b"null")
                server._answer(self, body)

            do_GET = do_POST = do_DELETE = _do  # noqa: N815

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def kubeconfig(self, context: str = "lab", namespace: str = "team") -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": context,
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": {"token": "secret"}}],
            "contexts": [{"name": context, "context": {"cluster": "c", "user": "u", "namespace": namespace}}],
        }

    def add_node(
        self,
        name: str,
        *,
        cpu: str = "8",
        memory: str = "32Gi",
        gpus: int = 0,
        labels: dict[str, str] | None = None,
        taints: Sequence[dict[str, str]] = (),
    ) -> None:
        if gpus:
            taints = [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}, *taints]
        free = {"cpu": cpu, "memory": memory, "pods": "110"}
        if gpus:
            free["nvidia.com/gpu"] = str(gpus)
        self._store(
            "nodes",
            name,
            {
                "metadata": {"name": name, "labels": {"kubernetes.io/arch": "amd64", **(labels or {})}},
                "spec": {"taints": list(taints)},
                "status": {"allocatable": free, "conditions": [{"type": "Ready", "status": "True"}]},
            },
        )

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        for host in self.machines.values():
            host.power_off()

    # --- time ---

    def settle(self) -> None:
        """Scheduled pods run, deleted ones are gone, what nobody owns any more is collected."""
        with self._lock:
            for name, pod in list(self.objects["pods"].items()):
                if pod["metadata"].get("deletionTimestamp"):
                    self._gone(name)
                elif pod["status"]["phase"] == "Pending" and pod["spec"].get("nodeName") and not _waits(pod):
                    self._run(pod)
            uids = {pod["metadata"]["uid"] for pod in self.objects["pods"].values()}
            for name, service in list(self.objects["services"].items()):
                owners = service["metadata"].get("ownerReferences") or []
                if owners and not any(owner["uid"] in uids for owner in owners):
                    del self.objects["services"][name]

    def preempt(self, name: str) -> None:
        """The kubelet evicts it: the pod stays as an object that has failed."""
        with self._lock:
            self._power_off(name)
            status = self.objects["pods"][name]["status"]
            status |= {"phase": "Failed", "reason": "Evicted", "message": "The node was taken."}
            status["conditions"] = [
                {
                    "type": "DisruptionTarget",
                    "status": "True",
                    "reason": "TerminationByKubelet",
                    "message": "taken",
                }
            ]

    def take(self, name: str) -> None:
        """The scheduler preempts it: it is deleted, and only an event says why."""
        with self._lock:
            self.event(name, "Preempted", "Preempted by team/urgent on node big")
            self.objects["pods"][name]["metadata"]["deletionTimestamp"] = _now()

    def event(self, pod: str, reason: str, words: str = "from the cluster autoscaler") -> None:
        """What another part of the cluster says of a pod."""
        about = self.objects["pods"][pod]
        name = f"{pod}.{time.time_ns():x}"
        told = {
            "metadata": {"name": name, "namespace": about["metadata"]["namespace"]},
            "involvedObject": {"kind": "Pod", "name": pod, "uid": about["metadata"]["uid"]},
            "reason": reason,
            "message": words,
            "lastTimestamp": _now(),
        }
        self._store("events", name, told)

    def refuse(self, code: str) -> None:
        """The next pod is refused: by the API server, or after it took it."""
        if code in _STATUS:
            self.faults.add(Kind.REFUSE, "create pods", code=code)
        else:
            self._pod_fault = code

    # --- HTTP ---

    def _answer(self, http: Any, body: Any) -> None:
        path = urlsplit(http.path)
        query = {name: values[0] for name, values in parse_qs(path.query).items()}
        parts = path.path.strip("/").split("/")
        with self._lock:
            if self.faults.take("*", Kind.THROTTLE):
                self.calls.append("throttled")
                return self._send(http, 429, _failure(429, "TooManyRequests", "Too many requests", retry=1))
            if parts[:2] == ["apis", "authorization.k8s.io"]:
                return self._review(http, body)
            if parts[:2] != ["api", "v1"]:
                return self._send(http, 404, _failure(404, "NotFound", f"no such path {path.path}"))
            namespace, rest = (parts[3], parts[4:]) if parts[2] == "namespaces" else ("", parts[2:])
            kind, name = rest[0], (rest[1] if len(rest) > 1 else "")
            verb = {"GET": "get" if name else "list", "POST": "create", "DELETE": "delete"}[http.command]
            self.calls.append(f"{verb} {kind}")
            handler: Callable[..., None] = getattr(self, f"_{verb}")
            return handler(http, kind, namespace, name, query, body)

    def _review(self, http: Any, body: Any) -> None:
        self.calls.append("create selfsubjectaccessreviews")
        self._check(sdk.V1SelfSubjectAccessReview, body, "request")
        answer = {**body, "status": {"allowed": self.may_create}}
        self._send(http, 201, answer)

    def _list(
        self, http: Any, kind: str, namespace: str, name: str, query: dict[str, str], body: Any
    ) -> None:
        chosen = [
            one
            for _, one in sorted(self.objects[kind].items())
            if (not namespace or one["metadata"].get("namespace") == namespace)
            and all(_label_matches(one, term) for term in _terms(query.get("labelSelector", "")))
            and all(_field_matches(one, term) for term in _terms(query.get("fieldSelector", "")))
        ]
        limit = min(int(query.get("limit") or 500), self.page_size or 500)
        begin = int(query.get("continue") or 0)
        meta: dict[str, Any] = {"resourceVersion": "1"}
        if begin + limit < len(chosen):
            meta["continue"] = str(begin + limit)
        answer = {
            "kind": f"{_KINDS[kind]}List",
            "apiVersion": "v1",
            "metadata": meta,
            "items": chosen[begin : begin + limit],
        }
        for one in answer["items"]:
            self._check(_MODELS[_KINDS[kind]], one, "reply")
        self._send(http, 200, answer)

    def _create(
        self, http: Any, kind: str, namespace: str, name: str, query: dict[str, str], body: Any
    ) -> None:
        self._check(_MODELS[_KINDS[kind]], body, "request")
        name = body["metadata"]["name"]
        fault = self.faults.take(f"create {kind}", Kind.REFUSE)
        if fault is not None:
            status = _STATUS[fault.code]
            reason = "Forbidden" if fault.code in _FORBIDDEN else fault.code
            words = f"The server says {fault.code}"
            if fault.code in _FORBIDDEN:
                about = "pods" if fault.code == "Forbidden" else f'pods "{name}"'
                words = f"{about} is forbidden: {_FORBIDDEN[fault.code]}"
            return self._send(http, status, _failure(status, reason, words))
        answer: tuple[int, dict[str, Any]] = (500, {})
        for _ in range(2 if self.faults.take(f"create {kind}", Kind.TWICE) else 1):
            if name in self.objects[kind]:
                answer = (409, _failure(409, "AlreadyExists", f'{kind} "{name}" already exists'))
            else:
                made = {**body, "metadata": {**body["metadata"], "namespace": namespace}}
                answer = (201, self._store(kind, name, made))
                if kind == "pods":
                    self._schedule(made)
                if kind == "secrets":
                    text = made.pop("stringData", {})
                    made["data"] = {k: base64.b64encode(v.encode()).decode() for k, v in text.items()}
        if self.faults.take(f"create {kind}", Kind.LOSE_ANSWER):
            http.connection.shutdown(2)
            http.close_connection = True
            return None
        return self._send(http, *answer)

    def _get(self, http: Any, kind: str, namespace: str, name: str, query: dict[str, str], body: Any) -> None:
        found = self.objects[kind].get(name)
        if found is None or found["metadata"].get("namespace") != namespace:
            return self._send(http, 404, _failure(404, "NotFound", f'{kind} "{name}" not found'))
        self._check(_MODELS[_KINDS[kind]], found, "reply")
        return self._send(http, 200, found)

    def _delete(
        self, http: Any, kind: str, namespace: str, name: str, query: dict[str, str], body: Any
    ) -> None:
        found = self.objects[kind].get(name)
        if found is None or found["metadata"].get("namespace") != namespace:
            return self._send(http, 404, _failure(404, "NotFound", f'{kind} "{name}" not found'))
        if kind != "pods":
            del self.objects[kind][name]
            answer = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
            return self._send(http, 200, answer)
        found["metadata"]["deletionTimestamp"] = _now()
        found["metadata"]["deletionGracePeriodSeconds"] = 30
        answer = json.loads(json.dumps(found))
        if self._hosts is not None or not found["spec"].get("nodeName"):
            self._gone(name)  # no kubelet has to agree; a real one does so by itself
        return self._send(http, 200, answer)

    def _send(self, http: Any, status: int, answer: dict[str, Any]) -> None:
        data = json.dumps(answer).encode()
        http.send_response(status)
        http.send_header("Content-Type", "application/json")
        http.send_header("Content-Length", str(len(data)))
        if status == 429:
            http.send_header("Retry-After", "1")
        http.end_headers()
        http.wfile.write(data)

    def _check(self, model: Any, body: Any, side: str) -> None:
        try:
            model.model_validate(json.loads(json.dumps(body)))
        except ValueError as exc:
            self.violations.append(f"{side}: {exc}")

    # --- the cluster's own parts ---

    def _store(self, kind: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        body["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": _now()}
        self.objects[kind][name] = body
        return body

    def _schedule(self, pod: dict[str, Any]) -> None:
        status: dict[str, Any] = {"phase": "Pending", "conditions": []}
        pod["status"] = status
        fault, self._pod_fault = self._pod_fault, ""
        if fault.startswith("OutOf") or fault in ("NodeAffinity", "UnexpectedAdmissionError"):
            pod["spec"]["nodeName"] = "full"
            status |= {"phase": "Failed", "reason": fault, "message": f"Node didn't have enough: {fault}"}
            return
        running = sum(bool(one["spec"].get("nodeName")) for one in self.objects["pods"].values())
        node = next((n for n in self.objects["nodes"].values() if self._fits(pod, n)), None)
        full = self.room is not None and running >= self.room
        if fault in ("Unschedulable", "NotTriggerScaleUp") or node is None or full:
            count = len(self.objects["nodes"])
            condition = {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": f"0/{count} nodes are available: {count} Insufficient cpu.",
                "lastTransitionTime": _now(),
            }
            status["conditions"].append(condition)
            if fault == "NotTriggerScaleUp":
                self.event(pod["metadata"]["name"], fault)
            return
        pod["spec"]["nodeName"] = node["metadata"]["name"]
        status["conditions"].append({"type": "PodScheduled", "status": "True", "lastTransitionTime": _now()})
        if fault in _CONTAINER_WAITS:
            state = {"waiting": {"reason": fault, "message": "the image cannot be had"}}
            container = pod["spec"]["containers"][0]
            status["containerStatuses"] = [
                {
                    "name": container["name"],
                    "image": container["image"],
                    "imageID": "",
                    "ready": False,
                    "restartCount": 0,
                    "state": state,
                }
            ]
        elif self._hosts is not None:
            self._run(pod)

    def _fits(self, pod: dict[str, Any], node: dict[str, Any]) -> bool:
        asked = pod["spec"]["containers"][0]["resources"]["requests"]
        free = node["status"]["allocatable"]
        others = [
            other["spec"]["containers"][0]["resources"]["requests"]
            for other in self.objects["pods"].values()
            if other is not pod and other["spec"].get("nodeName") == node["metadata"]["name"]
        ]
        tolerated = {one["key"] for one in pod["spec"].get("tolerations") or ()}
        if any(taint["key"] not in tolerated for taint in node["spec"].get("taints") or ()):
            return False
        if not _affine(pod, node["metadata"]["labels"]):
            return False
        return all(
            quantity(text) + sum(quantity(other.get(name, "0")) for other in others)
            <= quantity(free.get(name, "0"))
            for name, text in asked.items()
        )

    def _run(self, pod: dict[str, Any]) -> None:
        name = pod["metadata"]["name"]
        number = len(self.calls) % 60000
        pod["status"] |= {"phase": "Running", "podIP": f"10.1.{number // 250}.{number % 250 + 1}"}
        taken = {one["status"].get("podIP") for one in self.objects["pods"].values() if one is not pod}
        while pod["status"]["podIP"] in taken:
            number += 1
            pod["status"]["podIP"] = f"10.1.{number // 250}.{number % 250 + 1}"
        if self._hosts is not None:
            pod["status"]["podIP"] = "127.0.0.1"
            volume = pod["spec"]["volumes"][0]["secret"]["secretName"]
            script = base64.b64decode(self.objects["secrets"][volume]["data"]["boot.sh"]).decode()
            environ = {"STIX_MACHINE_ID": name, "STIX_ADDRESS": "127.0.0.1"}
            host = Host(self._hosts / name, script, metadata_url="", environ=environ)
            self.machines[name] = host
            host.power_on()

    def _gone(self, name: str) -> None:
        self._power_off(name)
        del self.objects["pods"][name]

    def _power_off(self, name: str) -> None:
        if name in self.machines:
            self.machines[name].power_off()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _waits(pod: dict[str, Any]) -> bool:
    return bool(pod["status"].get("containerStatuses"))


def _failure(status: int, reason: str, words: str, *, retry: int = 0) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": words,
        "reason": reason,
        "code": status,
    }
    if retry:
        answer["details"] = {"retryAfterSeconds": retry}
    return answer


def _terms(selector: str) -> Iterator[str]:
    """Commas separate terms, but not inside brackets."""
    depth, term = 0, ""
    for character in selector:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and not depth:
            yield term
            term = ""
        else:
            term += character
    if term:
        yield term


def _label_matches(one: dict[str, Any], term: str) -> bool:
    labels = one["metadata"].get("labels") or {}
    if " in " in term:
        key, _, values = term.partition(" in ")
        return labels.get(key.strip()) in values.strip(" ()").split(",")
    key, _, value = term.partition("=")
    return bool(labels.get(key) == value)


def _field_matches(one: dict[str, Any], term: str) -> bool:
    path, _, value = term.partition("=")
    found: Any = one
    for part in path.split("."):
        found = (found or {}).get(part)
    return bool(found == value)


def _affine(pod: dict[str, Any], labels: dict[str, str]) -> bool:
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return not required or any(
        all(labels.get(want["key"]) in want["values"] for want in term["matchExpressions"])
        for term in required["nodeSelectorTerms"]
    )
