"""Which of several places to go to."""

from __future__ import annotations

from collections.abc import Iterable

from stix.recovery.situation import Candidate

__all__ = ["best", "effective_price", "free_at", "region_of"]

_REST_SECONDS = 3600.0
"""A place that lost machines is left alone for so long while another fits: most gaps in public spot traces
end within an hour, and a machine that came back too early is lost again soonest."""


def best(candidates: Iterable[Candidate], *, spot: bool, now: float, changeover: float) -> Candidate | None:
    """The place of that market to start in: none that refused lately; those that lost machines lately last;
    of the others the one where an hour of work costs least."""
    free = [one for one in candidates if one.offer.spot is spot and one.blocked_until <= now]
    if len(free) < 2:
        return free[0] if free else None
    return min(
        free,
        key=lambda one: (
            one.lost_at is not None and now - one.lost_at < _REST_SECONDS,
            effective_price(one, changeover),
            one.offer.place,
        ),
    )


def effective_price(candidate: Candidate, changeover: float) -> float:
    """USD for an hour of work there: its changeover and its data are paid over its expected life."""
    price, life = candidate.offer.price, candidate.lifetime
    if life is None:
        return price
    worked = life - changeover
    if worked <= 0:
        return float("inf")
    return (price * life + candidate.moving * 3600.0) / worked


def free_at(candidates: Iterable[Candidate], *, spot: bool) -> float | None:
    """When the first of them may be asked again."""
    return min((one.blocked_until for one in candidates if one.offer.spot is spot), default=None)


def region_of(place: str) -> str:
    """``aws/us-east-1`` of ``aws/us-east-1/us-east-1a``."""
    return "/".join(place.split("/")[:2])
