"""What is made in a cluster for a gang: pods, a secret with their boot script, a service for their ports."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from stix.catalog.fetchers.kubernetes import SPOT_LABELS
from stix.clouds.bootstrap import boot_script
from stix.clouds.kubernetes.settings import KubernetesCloud
from stix.model.errors import InvalidRequestError
from stix.ports.compute import GangRequest

__all__ = [
    "ASKED",
    "DEPLOYMENT",
    "INTENT",
    "TAGS",
    "asked",
    "gang_name",
    "label_value",
    "pod",
    "pod_names",
    "ports_of",
    "secret",
    "service",
    "token_of",
]

DEPLOYMENT = "stix-deployment"
INTENT = "stix-intent"
TAGS = "stix.dev/tags"
"""The annotation with every tag, exactly; labels allow fewer characters."""
ASKED = "stix.dev/asked"
"""The annotation of a gang's secret by which another request with its token is told."""
_NAME = re.compile(r"stix-([0-9a-f]{32})-[0-9]+")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_MOST_PORTS = 250
_GRACE_SECONDS = 30
"""For the job to save its work; a pod that is preempted gets no more either."""


def gang_name(token: str) -> str:
    return f"stix-{token}"


def pod_names(request: GangRequest) -> list[str]:
    return [f"{gang_name(request.token)}-{index}" for index in range(request.count)]


def token_of(pod_name: str) -> str:
    """The gang's token, empty for a name that is not ours."""
    found = _NAME.fullmatch(pod_name)
    return found[1] if found else ""


def label_value(text: str) -> str:
    """The text, or its hash where labels do not allow it."""
    return text if _LABEL.fullmatch(text) else hashlib.sha256(text.encode()).hexdigest()[:40]


def asked(request: GangRequest) -> str:
    """The same for the same gang; the join token may be another at the second call."""
    offer = request.offer.model_dump(mode="json", exclude={"price", "price_as_of"})
    parts = (request.count, offer, dict(request.tags), request.ports, request.image, request.disk_size_gib)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def secret(request: GangRequest, cloud: str) -> dict[str, Any]:
    return {
        "metadata": {
            "name": gang_name(request.token),
            "labels": _labels(request),
            "annotations": {ASKED: asked(request)},
        },
        "stringData": {"boot.sh": boot_script(request, cloud)},
        "type": "Opaque",
    }


def pod(
    request: GangRequest,
    name: str,
    settings: KubernetesCloud,
    *,
    gpu: str,
    models: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """``gpu``: resource name of the accelerator; ``models``: what its nodes are labelled, by label."""
    offer = request.offer
    size: dict[str, str] = {"cpu": f"{offer.vcpus:g}", "memory": f"{int(offer.memory_gib * 1024)}Mi"}
    if request.disk_size_gib:
        size["ephemeral-storage"] = f"{request.disk_size_gib}Gi"
    limits = {"memory": size["memory"]}
    if offer.accelerator:
        size[gpu] = limits[gpu] = f"{offer.accelerator_count:g}"
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": bool(settings.service_account),
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "containers": [
            {
                "name": "node",
                "image": request.image.removeprefix("docker:") or settings.image,
                "command": ["/bin/sh", "/stix/boot.sh"],
                "env": [
                    _field("STIX_MACHINE_ID", "metadata.name"),
                    _field("STIX_ADDRESS", "status.podIP"),
                ],
                "resources": {"requests": size, "limits": limits},
                "volumeMounts": [{"name": "boot", "mountPath": "/stix", "readOnly": True}],
            }
        ],
        "volumes": [{"name": "boot", "secret": {"secretName": gang_name(request.token)}}],
        "tolerations": [
            {"key": key, "operator": "Exists", "effect": "NoSchedule"}
            for key in (*((gpu,) if offer.accelerator else ()), *(SPOT_LABELS if offer.spot else ()))
        ],
    }
    terms = list(_terms(models if offer.accelerator else {}, spot=offer.spot, zone=offer.zone))
    if terms:
        chosen = {"nodeSelectorTerms": [{"matchExpressions": term} for term in terms]}
        spec["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": chosen}}
    if settings.service_account:
        spec["serviceAccountName"] = settings.service_account
    return {
        "metadata": {
            "name": name,
            "labels": _labels(request),
            "annotations": {TAGS: json.dumps(dict(request.tags), sort_keys=True)},
        },
        "spec": spec,
    }


def service(request: GangRequest, kind: str, pods: Mapping[str, str]) -> dict[str, Any]:
    """``pods``: uids by name. They own it: it goes with the last of them, even where nobody asks for that."""
    return {
        "metadata": {
            "name": gang_name(request.token),
            "labels": _labels(request),
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid} for name, uid in pods.items()
            ],
        },
        "spec": {
            "type": kind,
            "selector": {INTENT: request.token},
            "ports": [
                {"name": f"p{port}", "port": port, "targetPort": port, "protocol": "TCP"}
                for port in ports_of(request.ports)
            ],
        },
    }


def ports_of(asked: Sequence[str]) -> list[int]:
    """Each by itself. Raises ``InvalidRequestError`` for more than a service takes."""
    ports: list[int] = []
    for one in asked:
        first, _, last = one.partition("-")
        ports += range(int(first), int(last or first) + 1)
    if len(ports) > _MOST_PORTS:
        raise InvalidRequestError(
            f"{len(ports)} ports are asked; a Kubernetes service names each of them, at most {_MOST_PORTS}.",
            hint="Ask for fewer in resources.ports.",
        )
    return ports


def _labels(request: GangRequest) -> dict[str, str]:
    known = {DEPLOYMENT: label_value(request.tags.get(DEPLOYMENT, "")), INTENT: request.token}
    return {
        **{k: v for k, v in request.labels.items() if _LABEL.fullmatch(k) and _LABEL.fullmatch(v)},
        **known,
    }


def _field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _terms(models: Mapping[str, Sequence[str]], *, spot: bool, zone: str) -> Iterator[list[dict[str, Any]]]:
    """Alternatives, each a list of conditions that a node must meet."""
    kinds = [{"key": key, "operator": "In", "values": list(values)} for key, values in models.items()]
    spots = [{"key": key, "operator": "In", "values": [value]} for key, value in SPOT_LABELS.items()]
    zones = [{"key": "topology.kubernetes.io/zone", "operator": "In", "values": [zone]}] if zone else []
    choices = [group for group in (kinds, spots if spot else [], zones) if group]
    if choices:
        for term in product(*choices):
            yield list(term)
