"""Worker: one step of a service."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from stix.application import reconcile_service
from stix.runtime.dispatch import Action, dispatch

logger = Logger(service="autoscale")

ACTIONS: dict[str, Action] = {
    "reconcile": lambda w, e: reconcile_service.reconcile(w, e["service"]["workspace"], e["service"]["name"]),
    "record_failure": lambda w, e: reconcile_service.record_failure(
        w, e["service"]["workspace"], e["service"]["name"], e["failure"]
    ),
}


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """One step of the service machine."""
    return dispatch(ACTIONS, event, logger)
