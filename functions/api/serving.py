"""Routes of services."""

from __future__ import annotations

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response

from functions.api.log_answer import answer_log
from stix.api import v1_services
from stix.application import service_bodies as bodies
from stix.application import submit_service
from stix.application.service_draft import get_service, wait_topic
from stix.runtime.bootstrap import bootstrap
from stix.runtime.http import (
    answer,
    idempotency_key,
    park,
    query_number,
    read_request,
    user_of,
)

__all__ = ["add_routes"]


def add_routes(app: APIGatewayHttpResolver) -> None:
    """Add ``/v1/services...``."""

    @app.post("/v1/services")
    def up() -> Response[str]:
        world, who = bootstrap(), user_of(app)
        request = read_request(app, v1_services.ServiceUpRequest)
        accepted = submit_service.up(world, who, request, idempotency_key(app))
        return answer(bodies.accepted_body(world, who.workspace, accepted), 202)

    @app.get("/v1/services")
    def list_services() -> Response[str]:
        page = bodies.list_services(
            bootstrap(),
            user_of(app).workspace,
            after=app.current_event.query_string_parameters.get("after") or None,
            limit=query_number(app, "limit", 50, lowest=1, most=100),
        )
        return answer(page)

    @app.get("/v1/services/<name>")
    def show(name: str) -> Response[str]:
        world = bootstrap()
        service = get_service(world, user_of(app).workspace, name)
        body = bodies.service_body(world, service)
        wait = query_number(app, "wait", 0, most=20)
        seen = query_number(app, "seen", 0, most=999_999_999)
        if wait and service.version <= seen:
            return park(body, wait_topic(service.workspace, service.name), wait)
        return answer(body)

    @app.post("/v1/services/<name>/versions")
    def update(name: str) -> Response[str]:
        world, who = bootstrap(), user_of(app)
        request = read_request(app, v1_services.ServiceUpdateRequest)
        accepted = submit_service.update(world, who, name, request, idempotency_key(app))
        return answer(bodies.accepted_body(world, who.workspace, accepted), 202)

    @app.post("/v1/services/<name>/down")
    def down(name: str) -> Response[str]:
        world, who = bootstrap(), user_of(app)
        request = read_request(app, v1_services.ServiceDownRequest)
        service = submit_service.down(world, who, name, purge=request.purge)
        return answer(bodies.service_body(world, service), 202)

    @app.post("/v1/services/<name>/replicas/<replica>/terminate")
    def terminate(name: str, replica: str) -> Response[str]:
        world, who = bootstrap(), user_of(app)
        request = read_request(app, v1_services.ReplicaTerminateRequest)
        number = bodies.replica_number(replica)
        service = submit_service.terminate_replica(world, who, name, number, purge=request.purge)
        return answer(bodies.service_body(world, service), 202)

    @app.get("/v1/services/<name>/replicas/<replica>/logs")
    def show_logs(name: str, replica: str) -> Response[str]:
        world = bootstrap()
        cluster, run = bodies.replica_run(world, user_of(app).workspace, name, replica)
        return answer_log(app, world, cluster, run)

    @app.get("/v1/services/<name>/explain")
    def explain(name: str) -> Response[str]:
        world = bootstrap()
        return answer(bodies.explain_service(world, get_service(world, user_of(app).workspace, name)))
