"""Of a gang that lost machines: whether the others stay and only the lost ones are replaced. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stix.model.offer import Offer
from stix.recovery.decide import decide
from stix.recovery.situation import Candidate, Observations, Policy, Terms, Verb

__all__ = ["MOST_RANKS", "Gang", "Replacement", "decide_replacement", "ranks_text"]

MOST_RANKS = 40
"""More machines are not replaced at once: what is written of them has to fit into one transaction."""


@dataclass(frozen=True, slots=True)
class Gang:
    """``offer``: what its machines are; ``lost``: the ranks that lost theirs."""

    offer: Offer
    size: int
    lost: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Replacement:
    """``ranks`` get new machines of ``offer`` beside the others; none: the gang moves whole."""

    reason: str
    ranks: tuple[int, ...] = ()
    offer: Offer | None = None


def decide_replacement(
    job: Terms, seen: Observations, gang: Gang, offers: Sequence[Candidate], now: float
) -> Replacement:
    """The gang stays where it is as long as a machine of it is left there and its place refused nobody
    lately.

    A strategy without a deadline has no say in it, but for ``none``; it decides where to go once the gang
    moves whole. A policy with a deadline decides as if all were lost: where it would wait, or take the other
    market, the gang moves.
    """
    place, ranks = gang.offer.place, ranks_text(gang.lost)
    left = gang.size - len(gang.lost)
    if left <= 0:
        return Replacement(f"no machine of it is left in {place}")
    if len(gang.lost) > MOST_RANKS:
        return Replacement(f"more than {MOST_RANKS} of its machines in {place} were lost")
    if job.policy is Policy.NONE:
        return Replacement("its strategy is none")
    here = next((one for one in offers if _kind(one.offer) == _kind(gang.offer)), None)
    if here is None:
        return Replacement(f"{place} does not fit it any more")
    if here.blocked_until > now:
        return Replacement(f"{place} refused lately, so {ranks} cannot be replaced there")
    if job.deadline_at is not None:
        wish = decide(job, replace(seen, held=None, lost=True, last_place=place), offers, now)
        if wish.offer is None or wish.action is not Verb.LAUNCH or wish.offer.spot is not gang.offer.spot:
            return Replacement(wish.reason)
    stay = f"{left} of its {gang.size} machines stay{'s' * (left == 1)}"
    words = f"{ranks} {'is' if len(gang.lost) == 1 else 'are'} replaced in {place}: {stay}"
    return Replacement(words, gang.lost, here.offer)


def _kind(offer: Offer) -> tuple[str, str, bool]:
    """Prices change."""
    return offer.place, offer.instance_type, offer.spot


def ranks_text(ranks: Sequence[int]) -> str:
    """``rank 1`` or ``ranks 1, 3``."""
    return f"rank{'s' * (len(ranks) != 1)} {', '.join(map(str, sorted(ranks)))}"
