"""The routes of services."""

from __future__ import annotations

from stix.api import v1_services
from stix.api.route import AFTER, HOLD, LOG_QUERY, Query, Route

__all__ = ["SERVICE_ROUTES"]

SERVICE_ROUTES: tuple[Route, ...] = (
    Route(
        "post",
        "/v1/services",
        "serveUp",
        "Serve a task with replicas behind one address.",
        v1_services.ServiceAccepted,
        202,
        v1_services.ServiceUpRequest,
        errors=(400, 409, 422, 502),
        keyed=True,
    ),
    Route(
        "get",
        "/v1/services",
        "listServices",
        "Services that have not ended, newest first.",
        v1_services.ServiceList,
        query=(AFTER, Query("limit", "Services of a page.", "integer", 1, 100, 50)),
        errors=(400,),
    ),
    Route(
        "get",
        "/v1/services/{name}",
        "getService",
        "One service with its replicas.",
        v1_services.Service,
        query=(
            Query("wait", HOLD, "integer", 0, 20, 0),
            Query("seen", "`item` that is known already.", "integer", 0, 999_999_999, 0),
        ),
        errors=(400, 404),
    ),
    Route(
        "post",
        "/v1/services/{name}/versions",
        "updateService",
        "Give a service a new version, which takes over as its replicas become ready.",
        v1_services.ServiceAccepted,
        202,
        v1_services.ServiceUpdateRequest,
        errors=(400, 404, 409, 422, 502),
        keyed=True,
    ),
    Route(
        "post",
        "/v1/services/{name}/down",
        "serveDown",
        "End a service and its replicas.",
        v1_services.Service,
        202,
        v1_services.ServiceDownRequest,
        errors=(400, 404, 409),
    ),
    Route(
        "post",
        "/v1/services/{name}/replicas/{replica}/terminate",
        "terminateReplica",
        "End one replica of a service, which is replaced where it is wanted.",
        v1_services.Service,
        202,
        v1_services.ReplicaTerminateRequest,
        errors=(400, 404, 409),
    ),
    Route(
        "get",
        "/v1/services/{name}/replicas/{replica}/logs",
        "getReplicaLogs",
        "A page of the log of one replica, also of one that is gone.",
        v1_services.ReplicaLogPage,
        query=LOG_QUERY,
        errors=(400, 404),
    ),
    Route(
        "get",
        "/v1/services/{name}/explain",
        "explainService",
        "Why a service has the replicas it has: its last decisions with figures and reasons, its cost.",
        v1_services.ServiceExplanation,
        errors=(404,),
    ),
)
