"""Capacity that is already paid for: clusters that are up, and reservations."""

from __future__ import annotations

import math
from dataclasses import dataclass

from stix.optimizer.catalog import PricedOffer
from stix.optimizer.request import Machine

__all__ = ["Held", "fits"]

_SAME_SHARE = 0.005


@dataclass(frozen=True, slots=True)
class Held:
    """``nodes`` free machines that cost nothing more; ``held_as`` is how a person calls them."""

    held_as: str
    nodes: int
    cloud: str
    region: str
    zone: str
    instance_type: str
    vcpus: float
    memory_gib: float
    accelerator: str = ""
    accelerator_count: float = 0.0
    arch: str = "x86_64"
    spot: bool = False
    price: float = 0.0
    as_of: float = 0.0
    local_disk_gib: float = 0.0


def fits(machine: Machine, offer: PricedOffer, *, spot: bool) -> bool:
    """Whether an offer meets what is asked of one node; a machine that is not spot also serves who asked for
    spot. The offer's local disk counts only where it says one."""
    return (
        _is_there(machine, offer)
        and (spot or not offer.spot)
        and machine.instance_type in ("", offer.instance_type)
        and machine.arch in ("", offer.arch)
        and machine.local_disk_gib <= getattr(offer, "local_disk_gib", 0.0)
        and _enough(machine, offer)
        and _accelerated(machine, offer)
    )


def _is_there(machine: Machine, offer: PricedOffer) -> bool:
    asked = (machine.cloud, machine.region, machine.zone)
    return all(
        one in ("", has) for one, has in zip(asked, (offer.cloud, offer.region, offer.zone), strict=True)
    )


def _enough(machine: Machine, offer: PricedOffer) -> bool:
    vcpus, memory = machine.vcpus, machine.memory_gib
    if vcpus is not None and not _amount(vcpus, offer.vcpus, at_least=machine.vcpus_at_least):
        return False
    if memory is None:
        return True
    if machine.memory_per_vcpu:
        return _amount(memory * offer.vcpus, offer.memory_gib, at_least=True)
    return _amount(memory, offer.memory_gib, at_least=machine.memory_at_least)


def _amount(asked: float, has: float, *, at_least: bool) -> bool:
    return has >= asked or math.isclose(has, asked) if at_least else math.isclose(has, asked)


def _accelerated(machine: Machine, offer: PricedOffer) -> bool:
    if not machine.accelerator:
        return True
    asked, has = machine.accelerator_count, offer.accelerator_count
    enough = abs(has - asked) <= _SAME_SHARE if asked >= 1 else asked - _SAME_SHARE <= has <= 1
    return enough and machine.accelerator.lower() == offer.accelerator.lower()
