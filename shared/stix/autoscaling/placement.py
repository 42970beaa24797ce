"""Where the next replica starts: SpotHedge's placement (EuroSys 2025) over the places that can be had."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from stix.autoscaling.demand import capacity
from stix.autoscaling.situation import Replica, Terms
from stix.model.offer import Offer
from stix.recovery.situation import Candidate

__all__ = ["Placement", "forgive"]


def forgive(
    offers: Sequence[Candidate], replicas: Sequence[Replica], forgiven_at: float | None, now: float
) -> float | None:
    """When places that lost machines were last taken back: now, where fewer than two others are left."""
    places = {one.offer.place for one in offers if one.offer.spot}
    left = _left(offers, replicas, forgiven_at, now)
    return now if left and len(places) - len(left) < 2 else forgiven_at


def _left(
    offers: Sequence[Candidate], replicas: Sequence[Replica], forgiven_at: float | None, now: float
) -> set[str]:
    """Places that lost or refused a spot machine, until one starts there or all are taken back."""
    lost: dict[str, float] = {}
    for one in offers:
        if one.offer.spot and one.lost_at is not None:
            lost[one.offer.place] = max(one.lost_at, lost.get(one.offer.place, one.lost_at))
    for replica in replicas:
        if replica.offer.spot and replica.has_machine and not replica.leaving:
            place = replica.offer.place
            if place in lost and replica.launched_at > lost[place]:
                del lost[place]
    left = {place for place, at in lost.items() if forgiven_at is None or at > forgiven_at}
    going = {one.offer.place for one in replicas if one.offer.spot and one.alive and one.leaving}
    blocked = {one.offer.place for one in offers if one.offer.spot and one.blocked_until > now}
    open_again = {one.offer.place for one in offers if one.offer.spot and one.blocked_until <= now}
    return left | going | (blocked - open_again)


@dataclass(frozen=True, slots=True)
class Placement:
    """Offers, and how many replicas stand in each place already."""

    terms: Terms
    offers: Sequence[Candidate]
    left: frozenset[str]
    standing: Counter[str]
    now: float

    @classmethod
    def of(
        cls, terms: Terms, offers: Sequence[Candidate], replicas: Sequence[Replica], now: float
    ) -> Placement:
        standing = Counter(
            one.offer.place for one in replicas if one.offer.spot and one.alive and not one.leaving
        )
        left = _left(offers, replicas, terms.memory.forgiven_at, now)
        return cls(terms, offers, frozenset(left), standing, now)

    def next(self, *, spot: bool) -> tuple[Offer | None, Placement]:
        """Where one more goes, and the placement with it; no offer where every place refused lately.

        Spot: of the places that lost nothing lately the one with fewest replicas, of these the cheapest.
        On-demand, and spot without a placer: the cheapest.
        """
        free = [one for one in self.offers if one.offer.spot is spot and one.blocked_until <= self.now]
        if not free:
            return None, self
        spread = spot and self.terms.policy.spot_placer is not None
        active = [one for one in free if one.offer.place not in self.left] if spot else free
        chosen = min(active or free, key=lambda one: self._order(one, spread)).offer
        if not spot:
            return chosen, self
        return chosen, replace(self, standing=self.standing + Counter([chosen.place]))

    def _order(self, one: Candidate, spread: bool) -> tuple[int, float, float, str, str]:
        offer = one.offer
        crowd = self.standing[offer.place] if spread else 0
        price = offer.price / capacity(self.terms.policy, offer)
        return crowd, price, one.lost_at or 0.0, offer.place, offer.instance_type
