"""Worker: ranks the offers of a cluster."""

from __future__ import annotations

import logging
from typing import Any

from stix.application import create_machines
from stix.runtime.dispatch import Action, dispatch

logger = logging.getLogger(__name__)

ACTIONS: dict[str, Action] = {
    "rank": lambda w, e: create_machines.rank(w, e["cluster"]["workspace"], e["cluster"]["id"]),
}


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """One step of the launch machine."""
    return dispatch(ACTIONS, event, logger)
