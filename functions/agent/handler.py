"""HTTP API and wake channel for the agents: their own function, with other load and other rights."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.utilities.typing import LambdaContext

from functions.agent.wake_channel import on_socket_event
from stix.application import agents, join_nodes, logs
from stix.application.wakes import node_topic
from stix.runtime.agent_archive import archive_url
from stix.runtime.bootstrap import bootstrap
from stix.runtime.http import answer, new_resolver, node_of, park, read_json

logger = Logger(service="agent")
app = new_resolver(logger)


@app.post("/agent/v1/join")
def join() -> Response[str]:
    token = (app.current_event.headers.get("authorization") or "").removeprefix("Bearer ")
    return answer(join_nodes.join(bootstrap(), token, read_json(app)))


@app.post("/agent/v1/report")
def report() -> Response[str]:
    return answer(agents.report(bootstrap(), node_of(app), read_json(app)))


@app.post("/agent/v1/commands")
def commands() -> Response[str]:
    node, request = node_of(app), read_json(app)
    world = bootstrap()
    body, news = agents.commands(world, node, request)
    if news or not request.get("wait"):
        return answer(body)
    return park(body, node_topic(node.cluster_id, node.rank), world.limits.poll_seconds)


@app.post("/agent/v1/logs")
def ship_logs() -> Response[str]:
    return answer(logs.ship(bootstrap(), node_of(app), read_json(app)))


@app.post("/agent/v1/downloads")
def downloads() -> Response[str]:
    return answer(logs.download_urls(bootstrap(), node_of(app), read_json(app).get("keys") or []))


@app.post("/agent/v1/secrets")
def secrets() -> Response[str]:
    return answer(logs.node_secrets(bootstrap(), node_of(app), int(read_json(app).get("job", 0))))


@app.get("/agent/v1/archive/<sha256>")
def archive(sha256: str) -> Response[str]:
    return answer({}, 302, {"location": archive_url(bootstrap(), sha256)})


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer one request of API Gateway's HTTP API (payload 2.0), or an event of a node's WebSocket."""
    if "eventType" in event.get("requestContext", {}):
        return on_socket_event(bootstrap(), event)
    return app.resolve(event, context)
