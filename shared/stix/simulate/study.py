"""What ``stix simulate jobs`` shows: policies over several starts, beside on-demand and the omniscient
optimum."""

from __future__ import annotations

from dataclasses import dataclass

from stix.recovery.plan import exact_fineness
from stix.recovery.situation import Policy
from stix.simulate.compiled import compiled_plan
from stix.simulate.grid import Optimum, tick_prices
from stix.simulate.replay import Step, Zone, replay_decisions
from stix.simulate.settings import PolicyName, Setting

__all__ = ["Result", "Scenario", "run_policy", "run_references"]


@dataclass(frozen=True, slots=True)
class Scenario:
    """Jobs of one setting that start in ``starts`` (ticks), each with all ``zones`` to choose from."""

    zones: tuple[Zone, ...]
    tick: float
    setting: Setting
    on_demand_price: float
    starts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """Means over the starts; ``costs`` are relative to on-demand alone. ``worst``: the dearest start."""

    policy: str
    costs: tuple[float, ...]
    spot_hours: float = 0.0
    on_demand_hours: float = 0.0
    preemptions: int = 0
    starts: int = 0
    missed: int = 0

    @property
    def cost(self) -> float:
        return sum(self.costs) / len(self.costs)

    @property
    def worst(self) -> float:
        return max(self.costs)


def run_policy(scenario: Scenario, name: PolicyName) -> tuple[Result, list[Step]]:
    """Every start by ``decide``; the steps of the first one."""
    job = scenario.setting.terms(name, scenario.tick)
    full = _full(scenario)
    limit = scenario.setting.ticks(scenario.tick)
    fineness = exact_fineness(scenario.setting.changeover, scenario.tick)
    first: list[Step] = []
    outcomes = []
    for number, start in enumerate(scenario.starts):
        plan = None
        if name.policy is Policy.HISTORY:
            up = [int(any(zone.up[at] for zone in scenario.zones)) for at in range(start + 1)]
            ratio = scenario.setting.price_ratio
            plan = compiled_plan(job, up, start, price_ratio=ratio, fineness=fineness, tick=scenario.tick)
        outcomes.append(
            replay_decisions(
                job,
                scenario.zones,
                start,
                scenario.on_demand_price,
                plan=plan,
                steps=first if number == 0 else None,
            )
        )
    hours = scenario.tick / 3600.0 / len(outcomes)
    return (
        Result(
            str(name),
            tuple(one.cost / full for one in outcomes),
            spot_hours=sum(one.spot_ticks for one in outcomes) * hours,
            on_demand_hours=sum(one.on_demand_ticks for one in outcomes) * hours,
            preemptions=sum(one.preemptions for one in outcomes),
            starts=sum(one.starts for one in outcomes),
            missed=sum(one.ticks > limit for one in outcomes),
        ),
        first,
    )


def run_references(scenario: Scenario) -> list[Result]:
    """On-demand alone, and the least that any policy could have paid."""
    tick = scenario.tick
    hours = scenario.setting.on_demand_ticks(tick) * tick / 3600.0
    late = (
        0 if scenario.setting.on_demand_ticks(tick) <= scenario.setting.ticks(tick) else len(scenario.starts)
    )
    on_demand = Result(
        "on-demand",
        tuple(1.0 for _ in scenario.starts),
        on_demand_hours=hours,
        starts=len(scenario.starts),
        missed=late,
    )
    rows = tick_prices(
        [zone.up for zone in scenario.zones],
        [zone.prices if zone.prices is not None else zone.offer.price for zone in scenario.zones],
        scenario.on_demand_price,
    )
    optimum = Optimum(scenario.setting, tick, len(rows))
    full = _full(scenario) * 3600.0 / tick
    least = tuple(optimum.of(rows, start) / full for start in scenario.starts)
    return [on_demand, Result("omniscient", least)]


def _full(scenario: Scenario) -> float:
    """USD that on-demand alone costs."""
    return scenario.on_demand_price * scenario.setting.on_demand_ticks(scenario.tick) * scenario.tick / 3600.0
