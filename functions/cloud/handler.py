"""One cloud's provider: deployed once for each cloud, with that cloud's SDK, rights and secret alone."""

from __future__ import annotations

import logging
from typing import Any

from stix.runtime.cloud_driver import drive

logger = logging.getLogger(__name__)


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Make one call of the provider; its refusals are answers, not failures."""
    answer = drive(event)
    refused = answer.get("error") or {}
    logger.info("called", extra={"call": event.get("call"), "refused": refused.get("provider_code")})
    return answer
