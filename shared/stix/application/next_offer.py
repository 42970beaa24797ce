"""Which of a cluster's ranked offers to try now: the best one that nobody was refused lately."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from stix.application.offering_health import claim_offers
from stix.application.quotas import FRESH_SECONDS, quota_lacks
from stix.application.world import World
from stix.lifecycle.offering_health import Verdict
from stix.model.cluster import Cluster
from stix.model.offer import Offer
from stix.optimizer.rank import RankedOffer
from stix.ports.state_store import Put

__all__ = ["Choice", "Skip", "choose", "intent_token"]

_AT_ONCE = 24
"""Offers that one read asks about; four items each fit a read of a hundred."""
_MOST_BUSY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Skip:
    """An offer that was passed over; ``until``: epoch seconds at which it may be asked again."""

    offer: Offer
    reason: str
    until: float


@dataclass(frozen=True, slots=True)
class Choice:
    """``index`` into the ranked offers; None: nothing is left. ``busy``: come back within seconds instead.
    ``insisted``: the chosen offer is one of those that would have been passed over. ``slot``: the write that
    takes its part of the offer's budget, for the transaction that begins the attempt."""

    index: int | None
    skipped: tuple[Skip, ...] = ()
    busy: bool = False
    insisted: bool = False
    slot: Put | None = None


def intent_token(world: World, cluster: Cluster, offer: Offer) -> str:
    """Names the creation at its provider: the same for every repetition of an attempt, and for no other."""
    market = "spot" if offer.spot else "demand"
    parts = (world.deployment, cluster.id, str(cluster.attempt), offer.place, offer.instance_type, market)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def choose(world: World, cluster: Cluster, ranked: Sequence[RankedOffer]) -> Choice:
    """The first offer from the cluster's cursor on that may be asked.

    An offer at which others are asking right now is waited for, since the next one costs more; but no longer
    than half a minute. Where all that is left is blocked, the one that is free again first is asked once all
    the same: whoever launches may know more than the memory does.
    """
    now = world.clock.now()
    skipped: list[Skip] = []
    patient = now - cluster.busy_since < _MOST_BUSY_SECONDS if cluster.busy_since else True
    start, ask = cluster.cursor, 1  # mostly the first may be asked
    while start < len(ranked):
        part = [entry.offer for entry in ranked[start : start + ask]]
        tokens = [intent_token(world, cluster, offer) for offer in part]
        for number, (judgement, slot) in enumerate(claim_offers(world, part, tokens)):
            if slot is not None:
                lacking = quota_lacks(world, part[number], cluster.machines_wanted)
                if not lacking:
                    return Choice(start + number, tuple(skipped), slot=slot)
                skipped.append(Skip(part[number], lacking, now + FRESH_SECONDS))
                continue
            if judgement.verdict is Verdict.BUSY and patient:
                return Choice(None, tuple(skipped), busy=True)
            skipped.append(Skip(part[number], judgement.reason, judgement.until))
        start, ask = start + len(part), _AT_ONCE
    if cluster.insisted or not skipped:
        return Choice(None, tuple(skipped))
    soonest = min(range(len(skipped)), key=lambda at: skipped[at].until)
    del skipped[soonest]
    # Every offer from the cursor on was passed over: their places here are theirs in the ranking.
    return Choice(cluster.cursor + soonest, tuple(skipped), insisted=True)
