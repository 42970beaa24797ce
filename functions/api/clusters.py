"""Routes of clusters and operations."""

from __future__ import annotations

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response

from stix.api import v1
from stix.application import operations, submit, views, want
from stix.application.explain import explain_cluster
from stix.runtime.bootstrap import bootstrap
from stix.runtime.http import (
    answer,
    idempotency_key,
    park,
    query_flag,
    query_number,
    read_request,
    user_of,
)

__all__ = ["add_routes"]


def add_routes(app: APIGatewayHttpResolver) -> None:
    """Add ``/v1/clusters...`` and ``/v1/operations...``."""

    @app.post("/v1/clusters")
    def launch() -> Response[str]:
        request = read_request(app, v1.LaunchRequest)
        return answer(submit.launch(bootstrap(), user_of(app), request, idempotency_key(app)), 202)

    @app.get("/v1/clusters")
    def list_clusters() -> Response[str]:
        query = app.current_event.query_string_parameters
        names = [name for name in (query.get("names") or "").split(",") if name]
        verbose = query_flag(app, "verbose")
        page = views.list_clusters(
            bootstrap(),
            user_of(app).workspace,
            names=names,
            after=query.get("after") or None,
            verbose=verbose,
        )
        return answer(page)

    @app.get("/v1/clusters/<name>")
    def show_cluster(name: str) -> Response[str]:
        world = bootstrap()
        cluster = submit.existing_cluster(world, user_of(app).workspace, name)
        return answer(views.cluster_view(world, cluster, verbose=query_flag(app, "verbose")))

    @app.get("/v1/clusters/<name>/explain")
    def explain(name: str) -> Response[str]:
        world = bootstrap()
        cluster = submit.existing_cluster(world, user_of(app).workspace, name)
        return answer(explain_cluster(world, cluster))

    @app.post("/v1/clusters/<name>/down")
    def down(name: str) -> Response[str]:
        request = read_request(app, v1.TeardownRequest)
        key = idempotency_key(app)
        return answer(want.take_down(bootstrap(), user_of(app), name, purge=request.purge, key=key), 202)

    @app.post("/v1/clusters/<name>/stop")
    def stop(name: str) -> Response[str]:
        read_request(app, v1.TeardownRequest)
        return answer(want.stop_cluster(bootstrap(), user_of(app), name, key=idempotency_key(app)), 202)

    @app.post("/v1/clusters/<name>/start")
    def start(name: str) -> Response[str]:
        request = read_request(app, v1.StartRequest)
        key = idempotency_key(app)
        return answer(want.start_cluster(bootstrap(), user_of(app), name, request.autostop, key=key), 202)

    @app.put("/v1/clusters/<name>/autostop")
    def autostop(name: str) -> Response[str]:
        request = read_request(app, v1.AutostopRequest)
        world = bootstrap()
        cluster = want.set_autostop(world, user_of(app), name, request.autostop)
        return answer(views.cluster_view(world, cluster))

    @app.get("/v1/operations")
    def list_operations() -> Response[str]:
        after = app.current_event.query_string_parameters.get("after") or None
        found, following = operations.list_operations(bootstrap(), user_of(app).workspace, after=after)
        return answer({"operations": [views.operation_view(one) for one in found], "next": following})

    @app.get("/v1/operations/<operation_id>")
    def show_operation(operation_id: str) -> Response[str]:
        operation = operations.get_operation(bootstrap(), user_of(app).workspace, operation_id)
        body = views.operation_view(operation)
        wait = query_number(app, "wait", 0, most=20)
        seen = query_number(app, "seen", 0)
        if wait and not operation.status.terminal and len(operation.progress) <= seen:
            return park(body, operations.topic(operation_id), wait)
        return answer(body)
