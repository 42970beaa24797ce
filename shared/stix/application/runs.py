"""State machine runs: starting one for a cluster, and the words of one that failed.

A run's name carries the cluster's version, so that one version runs once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from stix.application.world import World
from stix.model.cluster import Cluster

__all__ = ["RUN_BEGINS_SECONDS", "failure_cause", "failure_reason", "start_run"]

RUN_BEGINS_SECONDS = 60.0
"""A run whose first step was not seen within it is started again: whoever accepted the request may have died
between its write and the start. The first step takes the longer lease."""


def start_run(world: World, machine: str, cluster: Cluster) -> bool:
    """Start ``launch`` or ``terminate`` for the version of the cluster that was just written."""
    return world.workflows.start(
        machine,
        f"{cluster.id}-{cluster.version}",
        {"cluster": {"workspace": cluster.workspace, "id": cluster.id}, "operation_id": cluster.operation_id},
    )


def failure_cause(failure: Mapping[str, Any]) -> str:
    """The words of what a run caught. Of a function's exception the cause is a JSON document, which holds a
    stack trace too."""
    cause = str(failure.get("Cause") or "no cause given")
    try:
        return str(json.loads(cause)["errorMessage"])
    except (ValueError, KeyError, TypeError):
        return cause


def failure_reason(failure: Mapping[str, Any]) -> str:
    """Name and words of what a run caught, at most 500 characters."""
    return f"{failure.get('Error', 'unknown error')}: {failure_cause(failure)}"[:500]
