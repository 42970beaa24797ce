"""HTTP API for people: the CLI, the SDK and the dashboard."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from functions.api import access, clusters, jobs, managed_jobs, service
from stix.runtime.http import new_resolver

logger = Logger(service="api")
app = new_resolver(logger)
clusters.add_routes(app)
access.add_routes(app)
jobs.add_routes(app)
managed_jobs.add_routes(app)
service.add_routes(app)


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer one request of API Gateway's HTTP API (payload 2.0)."""
    return app.resolve(event, context)
