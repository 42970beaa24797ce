"""One job replayed over recorded availability, tick by tick, by the decisions of ``recovery.decide``.

What is modelled: a spot machine can be had in a zone in the ticks in which the trace says so, a running one
survives exactly those ticks, on-demand can always be had, every started tick is paid whole, and every start
costs the changeover before work goes on. Policies see the present tick of each zone, as a launch attempt
would tell.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from stix.model.offer import Offer
from stix.recovery.decide import decide
from stix.recovery.plan import Plan
from stix.recovery.rules import IDLE, ON_DEMAND, SPOT
from stix.recovery.situation import Candidate, Held, Observations, Policy, Terms, Verb
from stix.simulate.settings import Outcome

__all__ = ["Step", "Zone", "replay_decisions", "zone_of"]

_WITHOUT_DEADLINE = frozenset({Policy.FAILOVER, Policy.EAGER_NEXT_REGION, Policy.NONE})
_REGION = re.compile(r"^([a-z]+(?:-[a-z]+)+-?\d+)-?[a-z]?(?:_|$)")


@dataclass(frozen=True, slots=True)
class Zone:
    """``up``: ticks with (1) and without (0) enough spot machines; ``prices``: of a spot machine in each
    tick."""

    offer: Offer
    up: Sequence[int]
    prices: Sequence[float] | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One tick: the kind of machine (of ``recovery.rules``), its zone, the work done at its end, and why."""

    kind: int
    zone: str
    done: float
    reason: str


@dataclass(slots=True)
class _Run:
    held: Held | None = None
    pending: float = 0.0
    done: float = 0.0
    lost: bool = False
    last_place: str = ""


def zone_of(name: str, up: Sequence[int], price: float, prices: Sequence[float] | None = None) -> Zone:
    """A zone by its trace's name, as ``us-west-2a_v100_1``: region, zone, machine."""
    found = _REGION.match(name.rpartition("/")[2])
    offer = Offer(
        cloud="trace",
        region=found[1] if found else name,
        zone=name,
        instance_type="trace",
        spot=True,
        vcpus=1,
        memory_gib=1,
        price=price,
    )
    return Zone(offer, up, prices)


def replay_decisions(
    job: Terms,
    zones: Sequence[Zone],
    start: int,
    on_demand_price: float,
    *,
    plan: Plan | None = None,
    steps: list[Step] | None = None,
) -> Outcome:
    """Run ``job``, which starts at second 0 of the tick ``start``, until its work is done or the traces end.

    A job that did not finish has more ``ticks`` than the traces had left. Policies without a deadline are
    given spot machines alone. ``steps`` is filled where it is given.
    """
    tick, run = job.tick, _Run()
    length = min(len(zone.up) for zone in zones) - start
    paid = zones[0].offer.model_copy(update={"spot": False, "price": on_demand_price, "zone": "on-demand"})
    paid_candidates = () if job.policy in _WITHOUT_DEADLINE else (Candidate(paid),)
    free = {zone.offer.place: Candidate(zone.offer) for zone in zones}
    blocked = {place: replace(one, blocked_until=math.inf) for place, one in free.items()}
    zone_at = {zone.offer.place: zone for zone in zones}
    seen = Observations(plan=plan, spot_changed_at=_changed_at(zones, start, tick))
    spot_ticks = paid_ticks = starts = preemptions = 0
    cost = 0.0
    before: int | None = None
    for t in range(length):
        now = t * tick
        at = start + t
        held = run.held
        if held is not None and held.spot and not zone_at[held.place].up[at]:
            preemptions += 1
            free[held.place] = replace(free[held.place], lost_at=now)
            run.held, run.pending, run.lost, run.last_place = None, 0.0, True, held.place
        offers = [(free if zone.up[at] else blocked)[place] for place, zone in zone_at.items()]
        up = int(any(zone.up[at] for zone in zones))
        changed = now if before is not None and up != before else seen.spot_changed_at
        before = up
        seen = replace(
            seen,
            held=replace(run.held, settled=run.pending == 0.0) if run.held is not None else None,
            done=run.done,
            last_place=run.last_place,
            lost=run.lost,
            spot_changed_at=changed,
            spot_lifetime=(_lifetime(zones, at, tick) if job.policy is Policy.UNIFORM_ORACLE else None),
        )
        decision = decide(job, seen, (*offers, *paid_candidates), now)
        seen = replace(seen, line=decision.line)
        if decision.action is Verb.FINISH or decision.action is Verb.GIVE_UP:
            break
        if decision.action is Verb.WAIT:
            run.held, run.pending = None, 0.0
        elif decision.action is Verb.LAUNCH:
            assert decision.offer is not None
            run.held = Held(decision.offer.place, decision.offer.spot, now)
            run.pending, run.lost, run.last_place = job.changeover, False, decision.offer.place
            starts += 1
        kind = IDLE
        if run.held is not None:
            spent = min(run.pending, tick)
            run.pending -= spent
            run.done += tick - spent
            if run.held.spot:
                kind, zone = SPOT, zone_at[run.held.place]
                spot_ticks += 1
                cost += zone.prices[at] if zone.prices is not None else zone.offer.price
            else:
                kind = ON_DEMAND
                paid_ticks += 1
                cost += on_demand_price
        if steps is not None:
            zone_name = zone_at[run.held.place].offer.zone if run.held is not None and run.held.spot else ""
            steps.append(Step(kind, zone_name, run.done, decision.reason))
        if run.done >= job.work:
            return Outcome(spot_ticks, paid_ticks, t + 1, starts, preemptions, cost * tick / 3600.0)
    return Outcome(spot_ticks, paid_ticks, length + 1, starts, preemptions, cost * tick / 3600.0)


def _changed_at(zones: Sequence[Zone], start: int, tick: float) -> float:
    """When spot was last seen to come or go in any zone, in seconds before the job's start (negative)."""
    if start >= min(len(zone.up) for zone in zones):
        return 0.0
    up = any(zone.up[start] for zone in zones)
    age = 1
    while start - age >= 0 and any(zone.up[start - age] for zone in zones) == up:
        age += 1
    return -(age - 1) * tick


def _lifetime(zones: Sequence[Zone], at: int, tick: float) -> float:
    """Seconds that the longest-lived spot machine to be had now lives."""
    longest = 0
    for zone in zones:
        ends = at
        while ends < len(zone.up) and zone.up[ends]:
            ends += 1
        longest = max(longest, ends - at)
    return longest * tick
