"""A cloud's event bus says that a machine is about to be taken: whose it is stands in its tags."""

from __future__ import annotations

import calendar
import time
from collections.abc import Mapping
from typing import Any

from stix.application.agents import take_notice
from stix.application.records import child_records
from stix.application.world import World
from stix.model.cluster import Node
from stix.ports.compute import Place

__all__ = ["take"]

_KINDS = {
    "EC2 Spot Instance Interruption Warning": ("preemption", 120.0),
    "EC2 Instance Rebalance Recommendation": ("rebalance", None),
}


def take(world: World, event: Mapping[str, Any]) -> dict[str, Any]:
    """``event``: ``cloud``, ``region``, ``machine_id``, ``kind`` (EventBridge's ``detail-type``) and ``time``
    (ISO 8601).

    ``outcome``: NOTICED, or IGNORED for a machine that is not this deployment's, is gone, or an unknown kind.
    Idempotent: the agent on the machine may have said the same.
    """
    kind, notice = _KINDS.get(str(event.get("kind")), ("", None))
    provider = world.compute.get(str(event["cloud"]))
    if not kind or provider is None:
        return {"outcome": "IGNORED"}
    place = Place(str(event["cloud"]), str(event["region"]))
    [machine] = provider.describe(place, [str(event["machine_id"])])
    tags = machine.tags
    if tags.get("stix-deployment") != world.deployment or "stix-cluster" not in tags:
        return {"outcome": "IGNORED"}
    workspace, cluster_id = tags["stix-workspace"], tags["stix-cluster"]
    for node in child_records(world, Node, workspace, cluster_id):
        if node.machine_id == machine.id:
            at = None if notice is None else _moment(str(event.get("time") or ""), world) + notice
            take_notice(world, workspace, cluster_id, node.rank, {"kind": kind, "at": at})
            return {"outcome": "NOTICED"}
    return {"outcome": "IGNORED"}


def _moment(text: str, world: World) -> float:
    try:
        return float(calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ")))
    except ValueError:
        return world.clock.now()
