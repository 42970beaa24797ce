"""Routes of pools of workers for managed jobs."""

from __future__ import annotations

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response

from functions.api.log_answer import answer_log
from stix.api import v1_pools
from stix.application.apply_pool import apply_pool, take_pool_down
from stix.application.pool_views import list_pools, pool_of_path, pool_view, setup_of_worker
from stix.runtime.bootstrap import bootstrap
from stix.runtime.http import (
    answer,
    idempotency_key,
    read_request,
    user_of,
)

__all__ = ["add_routes"]


def add_routes(app: APIGatewayHttpResolver) -> None:
    """Add ``/v1/pools...``."""

    @app.get("/v1/pools")
    def show_all() -> Response[str]:
        after = app.current_event.query_string_parameters.get("after") or None
        return answer(list_pools(bootstrap(), user_of(app).workspace, after=after))

    @app.put("/v1/pools/<name>")
    def apply(name: str) -> Response[str]:
        request = read_request(app, v1_pools.PoolApplyRequest)
        return answer(apply_pool(bootstrap(), user_of(app), name, request, idempotency_key(app)), 202)

    @app.get("/v1/pools/<name>")
    def show(name: str) -> Response[str]:
        world = bootstrap()
        return answer(pool_view(world, pool_of_path(world, user_of(app).workspace, name)))

    @app.post("/v1/pools/<name>/down")
    def down(name: str) -> Response[str]:
        request = read_request(app, v1_pools.PoolDownRequest)
        key = idempotency_key(app)
        return answer(take_pool_down(bootstrap(), user_of(app), name, drain=request.drain, key=key), 202)

    @app.get("/v1/pools/<name>/workers/<worker>/logs")
    def show_logs(name: str, worker: str) -> Response[str]:
        world = bootstrap()
        pool = pool_of_path(world, user_of(app).workspace, name)
        cluster, job = setup_of_worker(world, pool, worker)
        return answer_log(app, world, cluster, job)
