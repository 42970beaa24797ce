"""Worker: one step of a managed job or of a pool, and what the cloud's own event bus says of its machines."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from stix.application import advance_job, advance_pool, take_machine_event
from stix.application.world import World
from stix.runtime.dispatch import Action, dispatch

logger = Logger(service="recover")


def _advance(world: World, workspace: str, id: int = 0, pool: str = "") -> dict[str, Any]:
    if pool:
        return advance_pool.advance_pool(world, workspace, pool)
    return advance_job.advance(world, workspace, id)


def _record_failure(
    world: World, failure: dict[str, Any], workspace: str, id: int = 0, pool: str = ""
) -> dict[str, Any]:
    if pool:
        return advance_pool.record_pool_failure(world, workspace, pool, failure)
    return advance_job.record_failure(world, workspace, id, failure)


ACTIONS: dict[str, Action] = {
    "advance": lambda w, e: _advance(w, **e["job"]),
    "record_failure": lambda w, e: _record_failure(w, e["failure"], **e["job"]),
    "machine_event": lambda w, e: take_machine_event.take(w, e),
}


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """One step of the job machine, or one event of EC2."""
    return dispatch(ACTIONS, event, logger)
