"""HTTP API and wake channel for the agents: their own function, with other load and other rights."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from functions.agent.routes import add_routes
from functions.agent.wake_channel import on_socket_event
from stix.runtime.bootstrap import bootstrap
from stix.runtime.http import ResolverOfEachThread

logger = Logger(service="agent")
app = ResolverOfEachThread(logger, add_routes)


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer one request of API Gateway's HTTP API (payload 2.0), or an event of a node's WebSocket."""
    if "eventType" in event.get("requestContext", {}):
        return on_socket_event(bootstrap(), event)
    return app.resolve(event, context)
