"""When a cluster must end whatever it does: pure functions of its settings, its age and its cost."""

from __future__ import annotations

from dataclasses import dataclass

from stix.model.cluster import Cluster
from stix.model.status import ClusterStatus

__all__ = ["Ending", "ending_of"]


@dataclass(frozen=True, slots=True)
class Ending:
    """The cluster is deleted at ``at`` (epoch seconds), because of ``reason``."""

    at: float
    reason: str


def ending_of(cluster: Cluster, *, spent: float, rate: float, now: float) -> Ending | None:
    """The earliest of its limits; None where it has none.

    Args:
        spent: USD that its machines have cost up to now.
        rate: USD per hour that they cost while they run.
    """
    lifetime = cluster.lifetime
    if lifetime is None:
        return None
    endings: list[Ending] = []
    if lifetime.max_lifetime is not None:
        at = cluster.created_at + lifetime.max_lifetime
        endings.append(Ending(at, f"it lived for {_hours(lifetime.max_lifetime)} (max_lifetime)"))
    if lifetime.delete_after is not None and cluster.status is ClusterStatus.STOPPED:
        at = cluster.since + lifetime.delete_after
        endings.append(Ending(at, f"it was stopped for {_hours(lifetime.delete_after)} (delete_after)"))
    if lifetime.max_cost is not None:
        left = lifetime.max_cost - spent
        reason = f"it cost {lifetime.max_cost:g} USD (max_cost)"
        if left <= 0:
            endings.append(Ending(now, reason))
        elif rate > 0 and cluster.status is not ClusterStatus.STOPPED:
            endings.append(Ending(now + left / rate * 3600.0, reason))
    return min(endings, key=lambda one: one.at, default=None)


def _hours(seconds: float) -> str:
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = seconds / size
            return f"{count:.3g} {name}{'' if count == 1 else 's'}"
    return f"{seconds:g} seconds"
