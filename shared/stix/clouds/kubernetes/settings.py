"""What stands under ``clouds.kubernetes`` in the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, ValidationError

from stix.model.errors import InvalidInputError

__all__ = ["KubernetesCloud", "from_config"]


class KubernetesCloud(BaseModel):
    """Settings of the cloud ``kubernetes``; all may be left out.

    Attributes:
        contexts: those of the kubeconfig that may be used; by default the current one.
        kubeconfig: the whole content of one, for a control plane without such a file.
        namespace: where pods are made; else the context's own, or ``default``.
        image: what pods run whose task names none. It needs Python 3.8, or a package manager to get it.
        service_account: of the pods.
        service_type: how ``ports`` are opened.
        pending_seconds: how long a pod may find no node before the place counts as full, while no cluster
            autoscaler says that it brings one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    contexts: tuple[str, ...] = ()
    kubeconfig: dict[str, Any] = {}
    namespace: str = ""
    image: str = "docker.io/library/python:3.12-slim"
    service_account: str = ""
    service_type: Literal["LoadBalancer", "NodePort", "ClusterIP"] = "LoadBalancer"
    pending_seconds: NonNegativeFloat = 10.0


def from_config(config: Mapping[str, Any]) -> KubernetesCloud:
    """Raises ``InvalidInputError`` that names the field."""
    try:
        return KubernetesCloud.model_validate(dict(config))
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        field = ".".join(str(part) for part in ("clouds", "kubernetes", *first["loc"]))
        known = ", ".join(KubernetesCloud.model_fields)
        raise InvalidInputError(
            f"{field}: {first['msg']} (it is {first['input']!r}).",
            hint=f"Known settings are: {known}.",
            details={"field": field, "value": str(first["input"])},
        ) from exc
