"""The least and the most replicas at a moment, by the schedule."""

from __future__ import annotations

from dataclasses import dataclass

from stix.model.service import ReplicaPolicy

__all__ = ["Bounds", "bounds_at"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """``until``: when the schedule changes them; None without a schedule. ``why``: empty without one."""

    least: int
    most: int
    until: float | None = None
    why: str = ""


def bounds_at(policy: ReplicaPolicy, now: float) -> Bounds:
    """Those of the schedule's entry whose moment came last; of two at once the later one in the list."""
    if not policy.schedule:
        return Bounds(policy.min_replicas, _most(policy, policy.min_replicas, policy.max_replicas))
    entry = max(enumerate(policy.schedule), key=lambda one: (one[1].cron.last(now, one[1].timezone), one[0]))[
        1
    ]
    until = min(one.cron.next(now, one.timezone) for one in policy.schedule)
    most = _most(policy, entry.min_replicas, entry.max_replicas)
    return Bounds(entry.min_replicas, most, until, f"the schedule's entry {entry.cron.text!r} holds")


def _most(policy: ReplicaPolicy, least: int, most: int | None) -> int:
    """Without targets nothing asks for more than ``least``."""
    if not policy.targets:
        return least
    return max(least, most if most is not None else policy.max_replicas or least)
