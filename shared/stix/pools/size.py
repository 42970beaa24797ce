"""How many workers a pool is to have, which of them go, and how many come.

As many as have jobs, and one more for each ``threshold`` jobs that wait, once that has held for a while. Only
workers without jobs go; one that is to go and has some gets no others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stix.autoscaling.bounds import Bounds
from stix.autoscaling.delays import Settled, settle
from stix.autoscaling.demand import Wish
from stix.model.service import ReplicaPolicy
from stix.pools.situation import Memory, Remove, Terms, Worker

__all__ = ["Change", "change_workers", "settle_target"]

_SURGE = 4
"""A rolling update has one worker more than wanted for each so many."""


@dataclass(frozen=True, slots=True)
class Change:
    """``closed``: they go once their jobs have ended."""

    remove: tuple[Remove, ...] = ()
    closed: frozenset[int] = frozenset()
    launch: int = 0


def settle_target(terms: Terms, memory: Memory, busy: int, waiting: int, now: float) -> tuple[Settled, str]:
    """The number of workers to have, and why. ``busy`` have jobs; ``waiting`` jobs have no worker."""
    if terms.least == terms.most:
        settled = settle(ReplicaPolicy(terms.least), memory, Wish(None, ""), _bounds(terms), now)
        return settled, f"{terms.least} are wanted"
    policy = ReplicaPolicy(
        terms.least,
        terms.most,
        target_queue_length=float(terms.threshold),
        upscale_delay_seconds=terms.upscale_delay,
        downscale_delay_seconds=terms.downscale_delay,
    )
    wanted = busy + math.ceil(waiting / terms.threshold)
    reason = f"{busy} with jobs, {waiting} waiting"
    settled = settle(policy, memory, Wish(wanted, reason), _bounds(terms), now)
    return settled, f"{reason}; {settled.waits}" if settled.waits else reason


def _bounds(terms: Terms) -> Bounds:
    return Bounds(terms.least, terms.most)


def change_workers(terms: Terms, workers: Sequence[Worker], busy: Iterable[int], target: int) -> Change:
    """What becomes of the workers for ``target`` to be there, of the wanted version; ``busy`` ones have jobs.

    Of older versions as many stay as ready ones of the wanted version lack; with ``blue_green`` all of them,
    until none lacks. Meanwhile a rolling update launches only a few more than are wanted.
    """
    held = set(busy)
    new = [one for one in workers if one.version == terms.version]
    old = [one for one in workers if one.version != terms.version]
    lacking = max(target - sum(one.ready for one in new), 0)
    staying = len(old) if terms.blue_green and lacking else min(lacking, len(old))
    going = _first_to_go(new, held, len(new) - target)
    why = f"{target} {'is' if target == 1 else 'are'} wanted"
    reasons = {one.number: why for one in going}
    outdated = _first_to_go(old, held, len(old) - staying)
    reasons |= {one.number: f"version {terms.version} takes over" for one in outdated}
    remove = tuple(Remove(number, reason) for number, reason in reasons.items() if number not in held)
    launch = max(target - len(new), 0)
    if old and not terms.blue_green:
        surge = max(1, math.ceil(target / _SURGE))
        launch = min(launch, max(target + surge - len(workers) + len(remove), 0))
    return Change(
        remove=remove,
        closed=frozenset(number for number in reasons if number in held),
        launch=launch if terms.may_launch else 0,
    )


def _first_to_go(workers: Sequence[Worker], held: set[int], count: int) -> list[Worker]:
    """Those without jobs first, of them those that are not ready, then the oldest version."""
    order = sorted(workers, key=lambda one: (one.number in held, one.ready, one.version, -one.number))
    return order[: max(count, 0)]
