"""HTTP API for people: the CLI, the SDK and the dashboard."""

from __future__ import annotations

import logging
from typing import Any

from functions.api import access, clusters, jobs, managed_jobs, pools, service, serving
from stix.runtime.http import HttpFunction

logger = logging.getLogger(__name__)


def add_routes(app: HttpFunction) -> None:
    """All of them."""
    for group in (clusters, access, jobs, managed_jobs, pools, service, serving):
        group.add_routes(app)


app = HttpFunction(logger, add_routes)


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Answer one request of API Gateway's HTTP API (payload 2.0)."""
    return app.resolve(event)
