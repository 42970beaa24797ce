"""Worker: the sweep over what is due, and what it needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from stix.application import sweep, sweep_orphans
from stix.application.world import World
from stix.runtime.dispatch import Action, dispatch
from stix.runtime.metrics import OVERDUE_SECONDS, write_seconds

logger = Logger(service="monitor")

_LATE_SECONDS = 900


def _sweep(world: World, _event: Mapping[str, Any]) -> dict[str, Any]:
    result = sweep.sweep(world)
    if result["oldest_due_seconds"] > _LATE_SECONDS:
        write_seconds(world, OVERDUE_SECONDS, result["oldest_due_seconds"])
    return result


ACTIONS: dict[str, Action] = {
    "sweep": _sweep,
    "list_places": lambda w, e: sweep_orphans.list_places(w, e["mode"]),
    "record_failure": lambda w, e: sweep.record_failure(
        w, e["cluster"]["workspace"], e["cluster"]["id"], e["failure"]
    ),
}


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """The scheduled sweep, or one step of a machine."""
    return dispatch(ACTIONS, event, logger)
