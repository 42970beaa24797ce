"""Services as they are kept, for tests of what is told of them."""

from __future__ import annotations

from typing import Any

from stix.model.service import parse_service
from stix.model.service_state import Replica, Service, ServiceVersion
from stix.model.status import ReplicaStatus
from tests.unit.world import WORKSPACE, offer


def version(number: int = 1, port: int = 8000, **spec: Any) -> ServiceVersion:
    spec = {"readiness_probe": "/health"} | spec
    assert parse_service(spec) is not None
    return ServiceVersion(number=number, created_at=0.0, spec=spec, request_key="requests/x", port=port)


def service(*versions: ServiceVersion, name: str = "chat", **fields: Any) -> Service:
    kept = versions or (version(),)
    shape: dict[str, Any] = {"active": kept[-1].number, "serving": (kept[-1].number,)} | fields
    return Service(
        workspace=WORKSPACE,
        name=name,
        uid=f"svc-{name}",
        since=0.0,
        created_at=0.0,
        due_at=0.0,
        port=30001,
        versions=kept,
        **shape,
    )


def replica(number: int = 1, status: ReplicaStatus = ReplicaStatus.READY, **fields: Any) -> Replica:
    shape = {"service_version": 1, "address": f"10.0.0.{number}", "port": 8000} | fields
    return Replica(
        workspace=WORKSPACE,
        service="chat",
        service_uid="svc-chat",
        id=number,
        status=status,
        since=0.0,
        offer=shape.pop("offer", offer("a")),
        launched_at=0.0,
        cluster_id=f"c-{number}",
        cluster_name=f"chat-{number}",
        **shape,
    )
