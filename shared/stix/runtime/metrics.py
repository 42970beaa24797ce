"""Metrics of our own, as lines of a function's log (CloudWatch's embedded metric format)."""

from __future__ import annotations

import json
import sys
import time

from stix.application.world import World

__all__ = ["ORPHAN_SECONDS", "OVERDUE_SECONDS", "namespace", "write_seconds"]

OVERDUE_SECONDS = "OverdueSeconds"
"""How long the oldest due item has waited beyond its moment."""
ORPHAN_SECONDS = "OrphanSeconds"
"""For how long the oldest machine that nothing explains has been known as such."""


def namespace(deployment: str) -> str:
    return f"Stix/{deployment}"


def write_seconds(world: World, name: str, seconds: float) -> None:
    """One value. Call it only where there is something to say: a metric is billed for each hour in which it
    is written. Nothing is written where no CloudWatch reads the log."""
    if world.runtime != "aws":
        return
    metric = {
        "Namespace": namespace(world.deployment),
        "Dimensions": [[]],
        "Metrics": [{"Name": name, "Unit": "Seconds"}],
    }
    stamp = {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [metric]}
    sys.stdout.write(json.dumps({"_aws": stamp, name: round(seconds, 3)}) + "\n")
