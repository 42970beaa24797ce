"""What ``stix simulate serve`` shows: placements of a service over several starts, beside on-demand and the
least that the target could have cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from stix.autoscaling.decide import decide
from stix.autoscaling.situation import Terms
from stix.model.service import ReplicaPolicy
from stix.simulate.placers import EvenSpread, RoundRobin
from stix.simulate.requests import Requests, quantile
from stix.simulate.service import Decide, Served, ServiceStep, World, replay_service

__all__ = ["PlacementName", "ServiceKind", "ServiceResult", "ServiceScenario", "run_least", "run_service"]


class ServiceKind(StrEnum):
    """``spothedge`` is the product's placement without notices, ``notice`` with them, ``service`` all as the
    task file says, with notices; the others are what they are compared with."""

    ON_DEMAND = "on-demand"
    SINGLE_ZONE = "single-zone"
    BEST_ZONE = "best-zone"
    EVEN_SPREAD = "even-spread"
    ROUND_ROBIN = "round-robin"
    SPOTHEDGE = "spothedge"
    NOTICE = "notice"
    SERVICE = "service"

    @property
    def takes_spares(self) -> bool:
        return self not in (ServiceKind.ON_DEMAND, ServiceKind.SERVICE)


@dataclass(frozen=True, slots=True)
class PlacementName:
    """With its number of spare spot replicas: ``spothedge:1``."""

    kind: ServiceKind
    spares: int = 0

    def __str__(self) -> str:
        return f"{self.kind}:{self.spares}" if self.spares else str(self.kind)


@dataclass(frozen=True, slots=True)
class ServiceScenario:
    """``world.notice`` is what the provider gives; each start runs for ``ticks``."""

    policy: ReplicaPolicy
    world: World
    starts: tuple[int, ...]
    ticks: int
    requests: Requests | None = None
    drain: float = 120.0


@dataclass(frozen=True, slots=True)
class ServiceResult:
    """Of each start; ``costs`` in USD. ``latencies``: seconds within which 50, 90 and 99 of 100 answers
    came, over all starts; ``unanswered``: requests that still waited at the end."""

    policy: str
    costs: tuple[float, ...]
    available: tuple[float, ...] = ()
    spot_hours: float = 0.0
    on_demand_hours: float = 0.0
    preemptions: int = 0
    launches: int = 0
    latencies: tuple[float | None, ...] = ()
    unanswered: float = 0.0

    @property
    def cost(self) -> float:
        return sum(self.costs) / len(self.costs)

    @property
    def availability(self) -> float:
        return sum(self.available) / len(self.available)


def run_service(scenario: ServiceScenario, name: PlacementName) -> tuple[ServiceResult, list[ServiceStep]]:
    """Every start by one placement; the steps of the first one. Of ``single-zone`` the mean over the zones,
    of ``best-zone`` the one that was best."""
    if name.kind in (ServiceKind.SINGLE_ZONE, ServiceKind.BEST_ZONE):
        alone = [replace(scenario.world, zones=(zone,)) for zone in scenario.world.zones]
        runs = [_run(replace(scenario, world=world), name) for world in alone]
        if name.kind is ServiceKind.BEST_ZONE:
            return max(runs, key=lambda one: one[0].availability)
        return _mean(str(name), [result for result, _ in runs]), runs[0][1]
    return _run(scenario, name)


def _run(scenario: ServiceScenario, name: PlacementName) -> tuple[ServiceResult, list[ServiceStep]]:
    terms, world = _terms(scenario, name)
    first: list[ServiceStep] = []
    runs = [
        replay_service(
            terms,
            world,
            start,
            scenario.ticks,
            requests=scenario.requests,
            policy=_placer(name.kind, number)(),
            steps=first if number == 0 else None,
        )
        for number, start in enumerate(scenario.starts)
    ]
    return _summary(str(name), runs), first


def _terms(scenario: ServiceScenario, name: PlacementName) -> tuple[Terms, World]:
    policy, world = scenario.policy, scenario.world
    if name.kind is ServiceKind.SERVICE:
        return Terms(policy, spot=True, drain=scenario.drain), world
    hedged = name.kind in (ServiceKind.SPOTHEDGE, ServiceKind.NOTICE)
    policy = replace(
        policy,
        num_overprovision=name.spares,
        base_ondemand_fallback_replicas=None,
        dynamic_ondemand_fallback=hedged,
        spot_placer="dynamic_fallback" if hedged else None,
    )
    if name.kind is not ServiceKind.NOTICE:
        world = replace(world, notice=0.0)
    return Terms(policy, spot=name.kind is not ServiceKind.ON_DEMAND, drain=scenario.drain), world


def _placer(kind: ServiceKind, number: int) -> Callable[[], Decide]:
    """What does not come out even goes to another zone in each start."""
    if kind is ServiceKind.EVEN_SPREAD:
        return lambda: EvenSpread(number)
    if kind is ServiceKind.ROUND_ROBIN:
        return RoundRobin
    return lambda: decide


def _summary(name: str, runs: list[Served]) -> ServiceResult:
    answers = [one for run in runs if run.latencies is not None for one in run.latencies.answered]
    return ServiceResult(
        name,
        tuple(run.cost for run in runs),
        tuple(run.available for run in runs),
        sum(run.spot_hours for run in runs) / len(runs),
        sum(run.on_demand_hours for run in runs) / len(runs),
        sum(run.preemptions for run in runs),
        sum(run.launches for run in runs),
        tuple(quantile(answers, share) for share in (0.5, 0.9, 0.99)) if runs[0].latencies else (),
        sum(run.latencies.unanswered for run in runs if run.latencies is not None),
    )


def _mean(name: str, parts: list[ServiceResult]) -> ServiceResult:
    count = len(parts)
    latencies = [[part.latencies[at] for part in parts] for at in range(len(parts[0].latencies))]
    return ServiceResult(
        name,
        tuple(sum(costs) / count for costs in zip(*(part.costs for part in parts), strict=True)),
        tuple(sum(ones) / count for ones in zip(*(part.available for part in parts), strict=True)),
        sum(part.spot_hours for part in parts) / count,
        sum(part.on_demand_hours for part in parts) / count,
        round(sum(part.preemptions for part in parts) / count),
        round(sum(part.launches for part in parts) / count),
        tuple(
            None if None in ones else sum(one for one in ones if one is not None) / count
            for ones in latencies
        ),
        sum(part.unanswered for part in parts) / count,
    )


def run_least(scenario: ServiceScenario, targets: list[int]) -> ServiceResult:
    """The least that the replicas wanted in each tick could have cost, without cold starts: the cheapest
    machines there were, and on-demand ones for what they lacked."""
    world, costs = scenario.world, []
    for start in scenario.starts:
        cost = 0.0
        for t in range(scenario.ticks):
            wanted, at = targets[t], start + t
            prices = sorted(
                (zone.prices[at] if zone.prices is not None else zone.offer.price, zone.up[at])
                for zone in world.zones
            )
            for price, there in prices:
                took = min(there, wanted) if price < world.paid.offer.price else 0
                cost += took * price
                wanted -= took
            cost += wanted * world.paid.offer.price
        costs.append(cost * world.tick / 3600.0)
    return ServiceResult("least", tuple(costs))
