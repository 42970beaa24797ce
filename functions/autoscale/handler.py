"""Worker: one step of a service."""

from __future__ import annotations

import logging
from typing import Any

from stix.application import reconcile_service
from stix.runtime.dispatch import Action, dispatch

logger = logging.getLogger(__name__)

ACTIONS: dict[str, Action] = {
    "reconcile": lambda w, e: reconcile_service.reconcile(w, e["service"]["workspace"], e["service"]["name"]),
    "record_failure": lambda w, e: reconcile_service.record_failure(
        w, e["service"]["workspace"], e["service"]["name"], e["failure"]
    ),
}


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """One step of the service machine."""
    return dispatch(ACTIONS, event, logger)
