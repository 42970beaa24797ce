"""How many replicas run on spot machines and how many on on-demand ones."""

from __future__ import annotations

from dataclasses import dataclass

from stix.autoscaling.situation import Terms

__all__ = ["Mix", "mix"]


@dataclass(frozen=True, slots=True)
class Mix:
    spot: int
    on_demand: int
    reason: str = ""


def mix(terms: Terms, target: int, ready_spot: int, older: int) -> Mix:
    """Spot machines for the target and the spares; on-demand ones for the base, and for every spot machine
    that is wanted and not ready (SpotHedge, EuroSys 2025), at most the target.

    Args:
        ready_spot: ready spot replicas of the wanted version that no notice was given for.
        older: ready replicas of older versions: while they serve nothing else need stand in.
    """
    policy = terms.policy
    if not terms.spot or target == 0:
        return Mix(0, target)
    base = min(policy.base_ondemand_fallback_replicas or 0, target)
    spot = target + (policy.num_overprovision or 0) - base
    missing = max(0, spot - ready_spot - older) if policy.dynamic_ondemand_fallback else 0
    stand_ins = min(target, base + missing) - base
    reason = f"{stand_ins} on-demand while {missing} of {spot} spot are not ready" if stand_ins else ""
    return Mix(spot, base + stand_ins, reason)
