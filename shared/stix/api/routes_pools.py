"""The routes of pools."""

from __future__ import annotations

from stix.api import v1_pools
from stix.api.route import AFTER, LOG_QUERY, Route

__all__ = ["POOL_ROUTES"]

POOL_ROUTES: tuple[Route, ...] = (
    Route(
        "get",
        "/v1/pools",
        "listPools",
        "Pools that are there, newest first.",
        v1_pools.PoolList,
        query=(AFTER,),
        errors=(400,),
    ),
    Route(
        "put",
        "/v1/pools/{name}",
        "applyPool",
        "Make a pool of workers for managed jobs, or make it other.",
        v1_pools.PoolAccepted,
        202,
        v1_pools.PoolApplyRequest,
        errors=(400, 404, 409, 422, 502),
        keyed=True,
    ),
    Route(
        "get",
        "/v1/pools/{name}",
        "getPool",
        "One pool with its workers and what it decided.",
        v1_pools.Pool,
        errors=(404,),
    ),
    Route(
        "post",
        "/v1/pools/{name}/down",
        "takePoolDown",
        "End a pool with its workers and jobs.",
        v1_pools.PoolDownAccepted,
        202,
        v1_pools.PoolDownRequest,
        errors=(400, 404, 409),
        keyed=True,
    ),
    Route(
        "get",
        "/v1/pools/{name}/workers/{worker}/logs",
        "getWorkerLogs",
        "A page of the log of a worker's setup.",
        v1_pools.WorkerLogPage,
        query=LOG_QUERY,
        errors=(400, 404),
    ),
)
