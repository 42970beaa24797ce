"""From what is wanted at a moment to what is settled on: not at every wave of the load."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stix.autoscaling.bounds import Bounds
from stix.autoscaling.demand import Wish
from stix.autoscaling.situation import Memory
from stix.model.service import ReplicaPolicy

__all__ = ["Settled", "settle"]


@dataclass(frozen=True, slots=True)
class Settled:
    """``due``: when the target changes if the wish stays as it is."""

    target: int
    memory: Memory
    due: float | None = None
    waits: str = ""


def settle(policy: ReplicaPolicy, memory: Memory, wish: Wish, bounds: Bounds, now: float) -> Settled:
    """More replicas once more have been wanted for ``upscale_delay_seconds``, at once from zero; fewer down
    to the most that were wanted within ``downscale_delay_seconds``. New bounds hold at once."""
    if not policy.targets:
        return Settled(bounds.least, replace(memory, target=bounds.least, above_since=None, wanted=()))
    before = memory.target if memory.target is not None else bounds.least
    target = min(max(before, bounds.least), bounds.most)
    number = target if wish.number is None else min(max(wish.number, bounds.least), bounds.most)
    wanted = _lately(memory, target, number, policy.downscale_delay_seconds, now)
    above_since, due, waits = None, None, ""
    if number > target:
        above_since = memory.above_since if memory.above_since is not None else now
        if target == 0 or now - above_since >= policy.upscale_delay_seconds:
            target, above_since = number, None
        else:
            due = above_since + policy.upscale_delay_seconds
            waits = f"{number} once that has held for {policy.upscale_delay_seconds:g} s"
    elif number < target:
        target = min(target, wanted[0][1])
        if number < target:
            due = wanted[0][0] + policy.downscale_delay_seconds
            waits = f"down to {number} once no more has been wanted for {policy.downscale_delay_seconds:g} s"
    return Settled(target, replace(memory, target=target, above_since=above_since, wanted=wanted), due, waits)


def _lately(
    memory: Memory, target: int, number: int, delay: float, now: float
) -> tuple[tuple[float, int], ...]:
    """What was wanted within the delay, the largest first, as far as nothing later was as large."""
    known = list(memory.wanted) or [(now, target)]
    # What was wanted last has been wanted until now.
    known[-1] = (now, known[-1][1])
    kept = [one for one in known if one[1] > number and now - one[0] < delay]
    return (*kept, (now, number))
