"""Many windows of many traces in one zone each, by compiled policies: the mean costs of published tables.

Costs are relative to on-demand alone in the same simulator, which pays whole ticks too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stix.recovery.plan import exact_fineness
from stix.recovery.situation import Policy
from stix.simulate.compiled import (
    KINDS,
    NO_PLAN,
    compiled_plan,
    omniscient,
    planned_kind,
    replay,
    trace_array,
)
from stix.simulate.settings import PolicyName, Setting

__all__ = ["Optimum", "Sweep", "Window", "settings_of", "tick_prices"]

_NO_ACTIONS = np.zeros(0, np.int8)


@dataclass(frozen=True, slots=True)
class Window:
    """A trace's name, and the tick in which the job starts."""

    trace: str
    start: int


class Sweep:
    """Traces of one tick length, in memory as compiled code takes them."""

    def __init__(self, available: Mapping[str, Sequence[int]], tick: float):
        self.available = {name: list(ticks) for name, ticks in available.items()}
        self._arrays = {name: trace_array(ticks) for name, ticks in available.items()}
        self.tick = tick

    def windows(self, starts: Sequence[int]) -> list[Window]:
        """All traces by all starts."""
        return [Window(name, start) for name in self.available for start in starts]

    def costs(self, setting: Setting, name: PolicyName, windows: Sequence[Window]) -> tuple[list[float], int]:
        """The relative cost of each window, and how many missed the deadline. A plan from history is made
        anew for each window, on nothing but the ticks before it."""
        tick, ratio = self.tick, setting.price_ratio
        fineness = exact_fineness(setting.changeover, tick)
        full = ratio * setting.on_demand_ticks(tick)
        limit = setting.ticks(tick)
        kind = KINDS[name.policy]
        table, points, fine = NO_PLAN, 1, 1
        known: dict[Window, float] = {}
        missed = 0
        for window in dict.fromkeys(windows):
            if name.policy is Policy.HISTORY:
                plan = compiled_plan(
                    setting.terms(name, tick),
                    self.available[window.trace],
                    window.start,
                    price_ratio=ratio,
                    fineness=fineness,
                    tick=tick,
                )
                kind = planned_kind(plan)
                table, points, fine = np.frombuffer(plan.actions, np.uint8), plan.slacks, plan.fineness
            spot, paid, ticks, _, _ = replay(
                kind,
                name.slices,
                self._arrays[window.trace],
                window.start,
                setting.work,
                setting.deadline,
                setting.changeover,
                tick,
                ratio,
                table,
                fine,
                points,
                _NO_ACTIONS,
            )
            missed += ticks > limit
            known[window] = (spot + ratio * paid) / full
        return [known[window] for window in windows], missed

    def omniscient(self, setting: Setting, windows: Sequence[Window]) -> list[float]:
        """The least relative cost of each window for who knows all of it."""
        optimum = Optimum(setting, self.tick, 2)
        full = setting.price_ratio * setting.on_demand_ticks(self.tick)
        prices = {name: tick_prices([up], [1.0], setting.price_ratio) for name, up in self.available.items()}
        known = {
            window: optimum.of(prices[window.trace], window.start) / full for window in dict.fromkeys(windows)
        }
        return [known[window] for window in windows]


class Optimum:
    """The least cost of one setting for who knows the whole window, window by window, in tick prices."""

    def __init__(self, setting: Setting, tick: float, machines: int):
        # Work in units that divide a tick and a start: milliseconds are finer than any trace.
        unit = math.gcd(round(tick * 1000), round(setting.changeover * 1000))
        self._per_tick = round(tick * 1000) // unit
        self._per_start = round(setting.changeover * 1000) // unit
        self._needed = math.ceil(setting.work * 1000 / unit - 1e-6)
        self._ticks = setting.ticks(tick)
        shape = (machines + 1, self._needed + self._per_start + 1)
        self._value, self._earlier = np.zeros(shape), np.zeros(shape)

    def of(self, prices: Any, start: int) -> float:
        """Of the window that begins at the tick ``start`` of ``tick_prices``; infinite where it cannot be
        met."""
        least = omniscient(
            prices,
            start,
            min(self._ticks, prices.shape[1] - start),
            self._needed,
            self._per_tick,
            self._per_start,
            self._value,
            self._earlier,
        )
        return float(least)


def tick_prices(zones: Sequence[Sequence[int]], prices: Sequence[Any], on_demand_price: float) -> Any:
    """A row for each zone, infinite where it has no spot, and one for on-demand. ``prices``: of each zone,
    one number or one for every tick."""
    length = min(map(len, zones))
    rows = [
        np.where(
            np.asarray(up[:length]) == 1, price if np.isscalar(price) else np.asarray(price)[:length], np.inf
        )
        for up, price in zip(zones, prices, strict=True)
    ]
    return np.array([*rows, np.full(length, on_demand_price)])


def settings_of(
    changeovers: Sequence[float], deadlines: Sequence[float], *, work: float, price_ratio: float
) -> Iterator[Setting]:
    """Every changeover (hours) by every deadline (hours), for ``work`` hours."""
    for changeover in changeovers:
        for deadline in deadlines:
            yield Setting(work * 3600.0, deadline * 3600.0, round(changeover * 3600.0, 3), price_ratio)
