"""Feasible offers, cheapest first, each with the reason for its rank; and why nothing fits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from stix.model.offer import Offer
from stix.model.resources import Resources

__all__ = ["RankedOffer", "rank_offers", "refusals"]


@dataclass(frozen=True, slots=True)
class RankedOffer:
    """An offer, cut to the size that was asked where it is elastic."""

    offer: Offer
    reason: str


def rank_offers(resources: Resources, offers: Iterable[Offer]) -> list[RankedOffer]:
    """Offers that meet ``resources``, cheapest first, then the smallest machine, then by name."""
    fitting = [_cut(resources, offer) for offer in offers if _refusal(resources, offer) is None]
    fitting.sort(
        key=lambda o: (o.price, o.accelerator_count, o.vcpus, o.memory_gib, o.place, o.instance_type)
    )
    cheapest = fitting[0].price if fitting else 0.0
    return [RankedOffer(offer, _reason(offer, cheapest)) for offer in fitting]


def refusals(resources: Resources, offers: Iterable[Offer]) -> list[str]:
    """One line per offer that does not fit, saying what it lacks."""
    lines = []
    for offer in offers:
        reason = _refusal(resources, offer)
        if reason is not None:
            lines.append(f"{offer.cloud} {offer.instance_type}: {reason}")
    return lines


def _reason(offer: Offer, cheapest: float) -> str:
    if offer.price == 0:
        return "free: already yours"
    if offer.price == cheapest:
        return "cheapest that fits"
    return f"+{(offer.price / cheapest - 1):.0%} over the cheapest" if cheapest else "next cheapest"


def _refusal(resources: Resources, offer: Offer) -> str | None:
    """What the offer lacks, None where it fits."""
    infra = resources.infra
    for asked, offered, what in (
        (infra and infra.cloud, offer.cloud, "cloud"),
        (infra and infra.region, offer.region, "region"),
        (infra and infra.zone, offer.zone, "zone"),
    ):
        if asked and asked != offered:
            return f"{what} {asked} was asked"
    if resources.instance_type and resources.instance_type != offer.instance_type:
        return f"instance type {resources.instance_type} was asked"
    if resources.use_spot and not offer.spot:
        return "spot machines were asked"
    cpus, memory = resources.cpus, resources.memory
    if cpus is not None and not (cpus.value <= offer.vcpus if offer.elastic else cpus.allows(offer.vcpus)):
        return f"{cpus} CPUs were asked, it has {offer.vcpus:g}"
    if memory is not None:
        vcpus = cpus.value if cpus is not None and offer.elastic else offer.vcpus
        needed = memory.gib * vcpus if memory.per_vcpu else memory.gib
        enough = needed <= offer.memory_gib if offer.elastic else memory.allows(offer.memory_gib, vcpus)
        if not enough:
            return f"{memory} GiB of memory were asked, it has {offer.memory_gib:.1f}"
    accelerator = resources.accelerator
    if accelerator is not None:
        if accelerator.name.upper() != offer.accelerator.upper():
            return f"{accelerator} was asked, it has {offer.accelerator or 'no accelerator'}"
        if accelerator.count > offer.accelerator_count:
            return f"{accelerator} was asked, it has {offer.accelerator_count:g}"
    return None


def _cut(resources: Resources, offer: Offer) -> Offer:
    """The slice of an elastic offer that meets the request; what was not asked stays whole, but accelerators:
    those that were not asked are not taken."""
    if not offer.elastic:
        return offer
    vcpus = resources.cpus.value if resources.cpus is not None else offer.vcpus
    memory_gib = offer.memory_gib
    if resources.memory is not None:
        memory_gib = resources.memory.gib * (vcpus if resources.memory.per_vcpu else 1)
    accelerator = resources.accelerator
    return offer.model_copy(
        update={
            "vcpus": vcpus,
            "memory_gib": memory_gib,
            "accelerator": "" if accelerator is None else offer.accelerator,
            "accelerator_count": 0 if accelerator is None else accelerator.count,
        }
    )
