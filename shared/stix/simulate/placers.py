"""Placements of spot replicas that others use, to be compared with: for the simulator alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stix.autoscaling.decide import decide
from stix.autoscaling.situation import Action, Decision, Launch, Metrics, Replica, Terms
from stix.recovery.places import free_at
from stix.recovery.situation import Candidate

__all__ = ["EvenSpread", "RoundRobin"]


class EvenSpread:
    """As many replicas in each zone, as a scaling group over zones has them: what a zone lacks waits for that
    zone. Where they do not come out even, the zones from number ``first`` on have one more."""

    def __init__(self, first: int = 0) -> None:
        self._first = first

    def __call__(
        self,
        service: Terms,
        metrics: Metrics | None,
        replicas: Sequence[Replica],
        offers: Sequence[Candidate],
        now: float,
    ) -> Decision:
        decision = decide(service, metrics, replicas, offers, now)
        launches, others = _spot_launches(decision)
        zones = [one for one in offers if one.offer.spot]
        zones = [zones[(self._first + at) % len(zones)] for at in range(len(zones))]
        alive = [one.offer.place for one in replicas if one.alive and one.offer.spot]
        each, more = divmod(len(alive) + len(launches), len(zones))
        placed: list[Action] = []
        for at, zone in enumerate(zones):
            lacks = each + (at < more) - alive.count(zone.offer.place)
            if zone.blocked_until <= now:
                placed += [Launch(zone.offer, "its share of the zones")] * max(lacks, 0)
        return _with(decision, (*others, *placed[: len(launches)]), offers)


class RoundRobin:
    """Each launch in the zone after that of the launch before."""

    def __init__(self) -> None:
        self._turn = 0

    def __call__(
        self,
        service: Terms,
        metrics: Metrics | None,
        replicas: Sequence[Replica],
        offers: Sequence[Candidate],
        now: float,
    ) -> Decision:
        decision = decide(service, metrics, replicas, offers, now)
        launches, others = _spot_launches(decision)
        zones = [one for one in offers if one.offer.spot]
        placed: list[Action] = []
        for _ in launches:
            turns = [(self._turn + at) % len(zones) for at in range(len(zones))]
            free = next((at for at in turns if zones[at].blocked_until <= now), None)
            if free is not None:
                placed.append(Launch(zones[free].offer, "its turn"))
                self._turn = free + 1
        return _with(decision, (*others, *placed), offers)


def _with(decision: Decision, actions: tuple[Action, ...], offers: Sequence[Candidate]) -> Decision:
    """A zone that refused is asked again as soon as it may be."""
    again = free_at((one for one in offers if one.blocked_until), spot=True)
    due = [at for at in (decision.look_again_at, again) if at is not None]
    return replace(decision, actions=actions, look_again_at=min(due, default=None))


def _spot_launches(decision: Decision) -> tuple[list[Launch], list[Action]]:
    launches = [one for one in decision.actions if isinstance(one, Launch) and one.offer.spot]
    return launches, [one for one in decision.actions if not isinstance(one, Launch) or not one.offer.spot]
