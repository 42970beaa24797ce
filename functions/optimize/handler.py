"""Worker: ranks the offers of a cluster."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from stix.application import create_machines
from stix.runtime.dispatch import Action, dispatch

logger = Logger(service="optimize")

ACTIONS: dict[str, Action] = {
    "rank": lambda w, e: create_machines.rank(w, e["cluster"]["workspace"], e["cluster"]["id"]),
}


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """One step of the launch machine."""
    return dispatch(ACTIONS, event, logger)
