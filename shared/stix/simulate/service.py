"""One service replayed over recorded spot availability, tick by tick, by the decisions of
``autoscaling.decide``.

What is modelled: each zone has as many spot machines as its trace says; beyond that a launch is refused and
the newest machines are lost, after notice where the provider gives any. On-demand can always be had. A
replica is ready a cold start after its launch, is paid for from its launch to its end in whole ticks, and
drains within a tick. Decisions see the zones only by what was refused and lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from stix.autoscaling.decide import decide
from stix.autoscaling.situation import Decision, Drain, Launch, Metrics, Replica, Terms
from stix.model.status import ReplicaStatus
from stix.recovery.situation import Candidate
from stix.simulate.replay import Zone
from stix.simulate.requests import Latencies, Requests

__all__ = ["Decide", "Served", "ServiceStep", "World", "replay_service"]

Decide = Callable[[Terms, Metrics | None, Sequence[Replica], Sequence[Candidate], float], Decision]
_MOST_ROUNDS = 100


@dataclass(frozen=True, slots=True)
class World:
    """Zones with the number of machines in each tick (``up``), and what holds for all of them; seconds.

    ``paid``: the on-demand machine; ``replica_rate``: requests a second that a ready replica can answer;
    ``request_seconds``: how long one takes alone.
    """

    zones: tuple[Zone, ...]
    paid: Zone
    tick: float
    cold_start: float = 120.0
    notice: float = 0.0
    replica_rate: float = 1.0
    request_seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class ServiceStep:
    """One tick: replicas wanted, ready, and paid for in each market."""

    target: int
    ready: int
    spot: int
    on_demand: int


@dataclass(frozen=True, slots=True)
class Served:
    """``available``: the share of ticks with as many ready replicas as wanted, from the first moment at which
    there could be; ``cost`` in USD; machine-hours; ``latencies`` where there were requests."""

    available: float
    cost: float
    spot_hours: float
    on_demand_hours: float
    preemptions: int
    launches: int
    latencies: Latencies | None = None


@dataclass(slots=True)
class _Run:
    """What is there now: replicas by id, what is known of each place, and what was remembered."""

    terms: Terms
    replicas: dict[int, Replica] = field(default_factory=dict)
    lost_at: dict[str, float] = field(default_factory=dict)
    refused_at: dict[str, float] = field(default_factory=dict)
    launches: int = 0
    preemptions: int = 0

    def spot_in(self, zone: str) -> list[Replica]:
        """The first to be lost last: those with notice go first, then the newest."""
        there = [one for one in self.replicas.values() if one.offer.spot and one.offer.zone == zone]
        return sorted(there, key=lambda one: (one.leaving, one.launched_at, one.id))


def replay_service(
    terms: Terms,
    world: World,
    start: int,
    ticks: int,
    *,
    requests: Requests | None = None,
    policy: Decide = decide,
    steps: list[ServiceStep] | None = None,
) -> Served:
    """The service from the tick ``start`` on, for ``ticks``; ``requests`` begin with it.

    Decisions are made as in production: when something happened, and when the last one asked to look again.
    """
    run = _Run(terms)
    latencies = Latencies(world.replica_rate, world.request_seconds, world.tick) if requests else None
    zones = {zone.offer.zone: zone for zone in world.zones}
    decision: Decision | None = None
    spot_ticks = paid_ticks = met = counted = 0
    cost = 0.0
    for t in range(ticks):
        now, at = t * world.tick, start + t
        news = _lose(run, world, at, now)
        news |= _give_notice(run, world, at, now)
        news |= _become_ready(run, world, now)
        due = decision is not None and decision.look_again_at is not None and decision.look_again_at <= now
        if decision is None or news or due or latencies is not None:
            metrics = latencies.metrics(now) if latencies is not None else None
            decision = _act(run, world, metrics, policy, at, now)
        ready = sum(one.ready for one in run.replicas.values())
        if latencies is not None and requests is not None:
            latencies.serve(requests.counts[t], ready)
        spot = 0
        for one in run.replicas.values():
            zone = zones[one.offer.zone] if one.offer.spot else world.paid
            cost += zone.prices[at] if zone.prices is not None else zone.offer.price
            spot += one.offer.spot
        spot_ticks += spot
        paid_ticks += len(run.replicas) - spot
        if now >= world.cold_start:
            counted += 1
            met += ready >= decision.target
        if steps is not None:
            steps.append(ServiceStep(decision.target, ready, spot, len(run.replicas) - spot))
    hours = world.tick / 3600.0
    return Served(
        met / max(counted, 1),
        cost * hours,
        spot_ticks * hours,
        paid_ticks * hours,
        run.preemptions,
        run.launches,
        latencies,
    )


def _lose(run: _Run, world: World, at: int, now: float) -> bool:
    """Machines beyond what the trace has are gone."""
    news = False
    for zone in world.zones:
        there = run.spot_in(zone.offer.zone)
        for one in there[zone.up[at] :]:
            del run.replicas[one.id]
            run.preemptions += 1
            run.lost_at[zone.offer.zone] = now
            news = True
    return news


def _give_notice(run: _Run, world: World, at: int, now: float) -> bool:
    """Replicas whose machine will be gone within the notice, by what the trace says is coming."""
    news = False
    for zone in world.zones if world.notice else ():
        there = run.spot_in(zone.offer.zone)
        for ahead in range(1, int(world.notice / world.tick) + 1):
            left = zone.up[at + ahead] if at + ahead < len(zone.up) else len(there)
            for one in there[left:]:
                if not one.leaving:
                    run.replicas[one.id] = replace(one, gone_at=now + ahead * world.tick)
                    news = True
            there = there[:left]
    return news


def _become_ready(run: _Run, world: World, now: float) -> bool:
    news = False
    for one in run.replicas.values():
        if one.status is ReplicaStatus.STARTING and now - one.launched_at >= world.cold_start:
            run.replicas[one.id] = replace(one, status=ReplicaStatus.READY, since=now)
            news = True
    return news


def _act(run: _Run, world: World, metrics: Metrics | None, policy: Decide, at: int, now: float) -> Decision:
    """Decide and carry out, until nothing is left to do at this moment."""
    for _ in range(_MOST_ROUNDS):
        offers = [_candidate(run, zone, now, world.tick) for zone in world.zones]
        decision = policy(
            run.terms, metrics, tuple(run.replicas.values()), (*offers, Candidate(world.paid.offer)), now
        )
        run.terms = replace(run.terms, memory=decision.memory)
        if not decision.actions:
            return decision
        for action in decision.actions:
            if isinstance(action, Launch):
                _launch(run, world, action, at, now)
            elif isinstance(action, Drain):
                one = run.replicas[action.replica]
                run.replicas[one.id] = replace(
                    one, status=ReplicaStatus.SHUTTING_DOWN, draining_since=now, in_flight=0
                )
            else:
                del run.replicas[action.replica]
    raise RuntimeError(f"after {_MOST_ROUNDS} rounds it still wants to act: {decision.reason}")


def _candidate(run: _Run, zone: Zone, now: float, tick: float) -> Candidate:
    """A place that refused is asked again in the next tick."""
    lost, refused = run.lost_at.get(zone.offer.zone), run.refused_at.get(zone.offer.zone)
    bad = max((one for one in (lost, refused) if one is not None), default=None)
    return Candidate(zone.offer, blocked_until=refused + tick if refused == now else 0.0, lost_at=bad)


def _launch(run: _Run, world: World, action: Launch, at: int, now: float) -> None:
    name = action.offer.zone
    if action.offer.spot:
        zone = next(one for one in world.zones if one.offer.zone == name)
        if len(run.spot_in(name)) >= zone.up[at]:
            run.refused_at[name] = now
            return
    run.launches += 1
    run.replicas[run.launches] = Replica(
        run.launches, action.offer, ReplicaStatus.STARTING, since=now, launched_at=now
    )
