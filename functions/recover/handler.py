"""Worker: one step of a managed job, and what the cloud's own event bus says of its machines."""

from __future__ import annotations

import logging
from typing import Any

from stix.application import advance_job, take_machine_event
from stix.runtime.dispatch import Action, dispatch

logger = logging.getLogger(__name__)

ACTIONS: dict[str, Action] = {
    "advance": lambda w, e: advance_job.advance(w, e["job"]["workspace"], e["job"]["id"]),
    "record_failure": lambda w, e: advance_job.record_failure(
        w, e["job"]["workspace"], e["job"]["id"], e["failure"]
    ),
    "machine_event": lambda w, e: take_machine_event.take(w, e),
}


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """One step of the job machine, or one event of EC2."""
    return dispatch(ACTIONS, event, logger)
