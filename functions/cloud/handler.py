"""One cloud's provider: deployed once for each cloud, with that cloud's SDK, rights and secret alone."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from stix.runtime.cloud_driver import drive

logger = Logger(service="cloud")


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Make one call of the provider; its refusals are answers, not failures."""
    answer = drive(event)
    refused = answer.get("error") or {}
    logger.info("called", extra={"call": event.get("call"), "refused": refused.get("provider_code")})
    return answer
