"""HTTP API for people: the CLI, the SDK and the dashboard."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver
from aws_lambda_powertools.utilities.typing import LambdaContext

from functions.api import access, clusters, jobs, managed_jobs, pools, service, serving
from stix.runtime.http import ResolverOfEachThread

logger = Logger(service="api")


def add_routes(app: APIGatewayHttpResolver) -> None:
    """All of them; a resolver is made for each thread."""
    for group in (clusters, access, jobs, managed_jobs, pools, service, serving):
        group.add_routes(app)


app = ResolverOfEachThread(logger, add_routes)


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer one request of API Gateway's HTTP API (payload 2.0)."""
    return app.resolve(event, context)
