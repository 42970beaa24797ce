"""What clusters cost, from the ledger alone: prices of the moment at which their machines started."""

from __future__ import annotations

from typing import Any

from stix.application.ledger import entries_since
from stix.application.world import World

__all__ = ["cost_report"]

_MOST_ENTRIES = 5000


def cost_report(world: World, workspace: str, *, days: int) -> dict[str, Any]:
    """The body of ``CostReport``: one line for each time that machines ran in the last ``days``.

    Costs are those of the window alone; ``truncated`` where there are more than 5,000 lines.
    """
    now = world.clock.now()
    since = now - days * 86400.0
    lines: list[dict[str, Any]] = []
    truncated = False
    for entry in entries_since(world, workspace, since):
        if len(lines) >= _MOST_ENTRIES:
            truncated = True
            break
        lines.append(
            {
                "cluster": entry.cluster_name,
                "cluster_id": entry.cluster_id,
                "user": entry.user,
                "labels": entry.labels,
                "cloud": entry.offer.cloud,
                "region": entry.offer.region,
                "zone": entry.offer.zone,
                "instance_type": entry.offer.instance_type,
                "spot": entry.offer.spot,
                "num_nodes": entry.count,
                "hourly_price": entry.price * entry.count,
                "price_as_of": entry.price_as_of,
                "started_at": entry.started_at,
                "ended_at": entry.ended_at,
                "seconds": entry.seconds(now, since=since),
                "cost": entry.cost(now, since=since),
            }
        )
    return {"since": since, "until": now, "lines": lines, "truncated": truncated}
