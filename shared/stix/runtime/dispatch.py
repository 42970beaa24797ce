"""How a worker function picks its use case: by the event's ``action``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from aws_lambda_powertools import Logger

from stix.application.world import World
from stix.runtime.bootstrap import bootstrap

__all__ = ["Action", "dispatch"]

Action: TypeAlias = Callable[[World, Mapping[str, Any]], dict[str, Any]]

_TOLD = ("outcome", "oldest_due_seconds", "orphan_seconds")
"""Of a result, what the log says; the dashboard reads the last two from there."""


def dispatch(actions: Mapping[str, Action], event: Mapping[str, Any], logger: Logger) -> dict[str, Any]:
    """Run the event's action. Raises ``ValueError`` for an action that the function does not have."""
    name = str(event.get("action"))
    action = actions.get(name)
    if action is None:
        raise ValueError(f"action {name!r} is not one of {', '.join(sorted(actions))}")
    cluster = event.get("cluster") or {}
    result = action(bootstrap(), event)
    told = {key: result[key] for key in _TOLD if key in result}
    logger.info("done", extra={"action": name, "cluster_id": cluster.get("id"), **told})
    return result
