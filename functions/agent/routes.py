"""Routes of the agents."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from pydantic import BaseModel

from stix.api import agent_v1
from stix.application import agents, checkpoints, gateway_feed, join_nodes, logs
from stix.application.wakes import node_topic
from stix.runtime.agent_archive import archive_url
from stix.runtime.bootstrap import bootstrap
from stix.runtime.http import answer, node_of, park, read_request

__all__ = ["add_routes"]


def add_routes(app: APIGatewayHttpResolver) -> None:
    """Add ``/agent/v1/...``."""

    def message(model: type[BaseModel]) -> dict[str, Any]:
        return read_request(app, model).model_dump(exclude_unset=True)

    @app.post("/agent/v1/join")
    def join() -> Response[str]:
        token = (app.current_event.headers.get("authorization") or "").removeprefix("Bearer ")
        return answer(join_nodes.join(bootstrap(), token, message(agent_v1.Join)))

    @app.post("/agent/v1/report")
    def report() -> Response[str]:
        return answer(agents.report(bootstrap(), node_of(app), message(agent_v1.Report)))

    @app.post("/agent/v1/commands")
    def commands() -> Response[str]:
        node, request = node_of(app), message(agent_v1.Commands)
        world = bootstrap()
        body, news = agents.commands(world, node, request)
        if news or not request.get("wait"):
            return answer(body)
        return park(body, node_topic(node.cluster_id, node.rank), world.limits.poll_seconds)

    @app.post("/agent/v1/gateway")
    def report_gateway() -> Response[str]:
        status = message(agent_v1.GatewayStatus)["status"]
        return answer(gateway_feed.report_gateway(bootstrap(), node_of(app), status))

    @app.post("/agent/v1/logs")
    def ship_logs() -> Response[str]:
        return answer(logs.ship(bootstrap(), node_of(app), message(agent_v1.Logs)))

    @app.post("/agent/v1/downloads")
    def downloads() -> Response[str]:
        keys = message(agent_v1.Downloads).get("keys") or []
        return answer(logs.download_urls(bootstrap(), node_of(app), keys))

    @app.post("/agent/v1/checkpoints")
    def keep_checkpoints() -> Response[str]:
        return answer(checkpoints.exchange(bootstrap(), node_of(app), message(agent_v1.Checkpoints)))

    @app.post("/agent/v1/secrets")
    def secrets() -> Response[str]:
        return answer(logs.node_secrets(bootstrap(), node_of(app), message(agent_v1.Secrets)["job"]))

    @app.get("/agent/v1/archive/<sha256>")
    def archive(sha256: str) -> Response[str]:
        return answer({}, 302, {"location": archive_url(bootstrap(), sha256)})
