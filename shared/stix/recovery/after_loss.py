"""The policies without a deadline: nothing to do until the machines are gone, then somewhere else."""

from __future__ import annotations

from collections.abc import Sequence

from stix.recovery.places import effective_price, region_of
from stix.recovery.situation import Candidate, Decision, Observations, Policy, Terms, Verb

__all__ = ["decide_after_loss"]


def decide_after_loss(job: Terms, seen: Observations, offers: Sequence[Candidate], now: float) -> Decision:
    """Keep what runs; after a loss relaunch in the policy's order, waiting where every place refused."""
    if seen.held is not None:
        return Decision(Verb.KEEP, f"it runs in {seen.held.place}")
    if job.policy is Policy.NONE and seen.lost:
        return Decision(
            Verb.GIVE_UP, f"its machines in {seen.last_place} were lost, and its strategy is none"
        )
    if not offers:
        return Decision(Verb.GIVE_UP, "no place fits it")
    free = [one for one in offers if one.blocked_until <= now]
    if not free:
        until = min(one.blocked_until for one in offers)
        return Decision(Verb.WAIT, "every place that fits refused lately", look_again_at=until)
    chosen = min(free, key=lambda one: _order(job.policy, seen, one, job.changeover))
    return Decision(Verb.LAUNCH, _why(job.policy, seen, chosen, free), chosen.offer)


def _order(
    policy: Policy, seen: Observations, one: Candidate, changeover: float
) -> tuple[int, float, float, str]:
    place, last = one.offer.place, seen.last_place if seen.lost else ""
    level, lost_at = 0, 0.0
    if policy is Policy.FAILOVER and last:
        level = 0 if place == last else 1
    elif policy is Policy.EAGER_NEXT_REGION and last:
        same_region = region_of(place) == region_of(last)
        level = 2 if place == last else 1 if same_region else 0
        # Of the places that were lost before, the one lost longest ago: two poor places would take turns
        # else.
        lost_at = one.lost_at or 0.0
    return level, lost_at, effective_price(one, changeover), place


def _why(policy: Policy, seen: Observations, chosen: Candidate, free: Sequence[Candidate]) -> str:
    place = chosen.offer.place
    market = "spot" if chosen.offer.spot else "on-demand"
    if not seen.lost:
        return f"{market} in {place} is the cheapest that can be had"
    if place == seen.last_place:
        only = " (no other place can be had)" if all(one.offer.place == place for one in free) else ""
        return f"its machines in {place} were lost; {market} there again{only}"
    leaving = " leaves that place" if policy is Policy.EAGER_NEXT_REGION else " goes on"
    return f"its machines in {seen.last_place} were lost; {policy}{leaving}: {market} in {place}"
