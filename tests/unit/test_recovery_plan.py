"""Plans from history: hazards, the induction against a search of all futures, and what is stored."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest

from stix.recovery.hazards import PRIOR, fit_hazards, sampled
from stix.recovery.induction import ADVANCE, AGES, age_group
from stix.recovery.plan import Plan, exact_fineness, make_plan, plan_tick
from stix.recovery.rules import FREE, IDLE, ON_DEMAND, SPOT, line_at, safety_net, uniform
from stix.recovery.situation import Policy, Terms

TICK = 600.0


def job(work_ticks: int, ticks: int, changeover: float = TICK) -> Terms:
    return Terms(
        Policy.HISTORY, work=work_ticks * TICK, deadline_at=ticks * TICK, changeover=changeover, tick=TICK
    )


# -- hazards -------------------------------------------------------------------------------------------------


def test_age_groups_double():
    assert [age_group(age) for age in (1, 2, 3, 4, 5, 8, 9, 16, 17, 1000)] == [0, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_hazards_are_the_prior_when_there_is_no_history():
    assert fit_hazards([]) == pytest.approx([*PRIOR[0], *PRIOR[1]])


def test_hazards_are_counted_by_age_when_there_is_history():
    # Runs of two ticks with spot and of one without, for ever: the first tick goes on, the second is the
    # last.
    hazards = fit_hazards([1, 1, 0] * 1000)
    assert hazards[0] == pytest.approx(1.0, abs=0.01)
    assert hazards[AGES + 0] == pytest.approx(0.0, abs=0.01)
    assert hazards[AGES + 1] == pytest.approx(1.0, abs=0.01)
    # What was never seen stays as believed.
    assert hazards[AGES + 5] == pytest.approx(PRIOR[1][5])


def test_history_is_sampled_by_what_held_when_each_tick_began():
    changes = [(0.0, True), (900.0, False), (1800.0, True)]
    assert sampled(changes, 600.0, 3000.0) == [1, 1, 0, 1, 1]
    assert sampled(changes, 600.0, 2999.0) == [1, 1, 0, 1]
    assert sampled([], 600.0, 3000.0) == []


# -- the induction -------------------------------------------------------------------------------------------


Kind = Callable[[int, int, int, int, int], int]
"""Of ticks left and ticks of work left, machine held, whether there is spot, and its group of ages."""


def expected_cost(terms: Terms, hazards: list[float], ratio: float, up: int, chosen: Kind | None) -> float:
    """Expected cost from the start, holding nothing: of the best actions, or the chosen ones. A search of all
    futures, written without tables: a whole changeover counts as one tick, ages move as the model says."""
    assert terms.deadline_at is not None
    delay = round(terms.changeover / TICK)

    @cache
    def cost(left: int, remaining: int, held: int, up: int, age: int) -> float:
        if remaining <= 0:
            return 0.0
        assert left > 0
        forced = safety_net(held, 1, remaining * TICK, left * TICK, terms.changeover, TICK)
        options = [IDLE, ON_DEMAND] + [SPOT] * up if forced == FREE else [forced]
        if chosen is not None and forced == FREE:
            kind = chosen(left, remaining, held, up, age)
            assert kind in options
            options = [kind]
        return min(after(left, remaining, held, up, age, kind) for kind in options)

    def after(left: int, remaining: int, held: int, up: int, age: int, kind: int) -> float:
        price = {IDLE: 0.0, SPOT: 1.0, ON_DEMAND: ratio}[kind]
        left_work = remaining if kind == IDLE else remaining - 1 + (0 if kind == held else delay)
        hazard = hazards[up * AGES + age]
        older = (1 - hazard) * ADVANCE[age]
        lost = IDLE if kind == SPOT and up == 1 else kind
        return (
            price
            + (1 - hazard - older) * cost(left - 1, left_work, kind, up, age)
            + older * cost(left - 1, left_work, kind, up, min(age + 1, AGES - 1))
            + hazard * cost(left - 1, left_work, lost, 1 - up, 0)
        )

    return cost(round(terms.deadline_at / TICK), round(terms.work / TICK), IDLE, up, 0)


def planned(terms: Terms, plan: Plan) -> Kind:
    def kind(left: int, remaining: int, held: int, up: int, age: int) -> int:
        assert terms.deadline_at is not None
        since = ([1, 2, 3, 5, 9, 17][age] - 1) * TICK
        return plan.action(held, up, since, remaining * TICK, terms.deadline_at - left * TICK)

    return kind


def usual(terms: Terms) -> Kind:
    """What uniform progress does."""

    def kind(left: int, remaining: int, held: int, up: int, age: int) -> int:
        assert terms.deadline_at is not None
        elapsed, done = terms.deadline_at - left * TICK, terms.work - remaining * TICK
        expected = line_at(terms.work, terms.deadline_at, 0.0, 0.0, elapsed)
        ahead = line_at(terms.work, terms.deadline_at, 0.0, 0.0, elapsed + 2 * terms.changeover)
        return uniform(held, up, done, expected, ahead)

    return kind


@pytest.mark.parametrize("seed", range(6))
def test_plan_costs_what_the_best_of_all_futures_costs(seed):
    rng = random.Random(seed)
    terms, hazards, ratio = random_case(rng)
    plan = make_plan(terms, hazards, price_ratio=ratio, now=0.0, tick=TICK, margin=0.0)
    for up in (0, 1):
        best = expected_cost(terms, hazards, ratio, up, None)
        assert expected_cost(terms, hazards, ratio, up, planned(terms, plan)) == pytest.approx(best)
    # Acting as if no spot ever stayed costs more: the comparison can fail.
    other = make_plan(terms, [0.9] * 2 * AGES, price_ratio=ratio, now=0.0, tick=TICK, margin=0.0)
    best = expected_cost(terms, hazards, ratio, 0, None)
    assert expected_cost(terms, hazards, ratio, 0, planned(terms, other)) >= best - 1e-9


def random_case(rng: random.Random) -> tuple[Terms, list[float], float]:
    terms = job(rng.randint(4, 9), rng.randint(14, 20))
    return terms, [rng.uniform(0.02, 0.6) for _ in range(2 * AGES)], rng.uniform(1.5, 4.0)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("up", [0, 1])
def test_plan_promises_what_it_saves_over_uniform_progress(seed, up):
    terms, hazards, ratio = random_case(random.Random(seed))
    plan = make_plan(terms, hazards, price_ratio=ratio, now=0.0, tick=TICK, up=up)
    cost = expected_cost(terms, hazards, ratio, up, planned(terms, plan))
    uniformly = expected_cost(terms, hazards, ratio, up, usual(terms))
    alone = ratio * (terms.work + terms.changeover) / TICK
    assert plan.saving == pytest.approx((uniformly - cost) / alone)
    assert plan.saving >= 0.0


def test_plan_does_what_uniform_progress_does_unless_enough_is_saved():
    differing = []
    for margin in (0.0, 0.3, 1.0, math.inf):
        count = 0
        for seed in range(6):
            terms, hazards, ratio = random_case(random.Random(seed))
            plan = make_plan(terms, hazards, price_ratio=ratio, now=0.0, tick=TICK, margin=margin)
            one, other = planned(terms, plan), usual(terms)
            for left in range(1, plan.ticks + 1):
                for remaining in range(max(left - plan.slacks + 1, 1), left + 1):
                    for held, up in ((IDLE, 0), (IDLE, 1), (SPOT, 1), (ON_DEMAND, 0), (ON_DEMAND, 1)):
                        free = safety_net(held, 1, remaining * TICK, left * TICK, terms.changeover, TICK)
                        state = (left, remaining, held, up, 0)
                        count += free == FREE and one(*state) != other(*state)
        differing.append(count)
    assert differing == sorted(differing, reverse=True)
    assert differing[0] > differing[1] > differing[2] > differing[3] == 0


def test_plan_waits_where_spot_is_likely_and_pays_where_it_is_not():
    terms = job(20, 40)
    soon = make_plan(terms, [0.9] * AGES + [0.01] * AGES, price_ratio=3.0, now=0.0, tick=TICK)
    never = make_plan(terms, [1e-6] * AGES + [0.9] * AGES, price_ratio=3.0, now=0.0, tick=TICK)
    state = {"held": IDLE, "up": 0, "age": 0.0, "remaining": 20 * TICK, "now": 0.0}
    assert soon.action(**state) == IDLE
    held = {**state, "held": ON_DEMAND, "now": 18 * TICK, "remaining": 20 * TICK}
    assert never.action(**held) == ON_DEMAND
    assert soon.action(**{**state, "up": 1}) == SPOT


# -- storing -------------------------------------------------------------------------------------------------


def test_plan_is_the_same_when_it_was_stored():
    plan = make_plan(job(24, 60), fit_hazards([1, 1, 1, 0] * 50), price_ratio=3.0, now=0.0, tick=TICK)
    stored = plan.to_bytes()
    assert plan.saving > 0.0
    assert Plan.from_bytes(stored) == plan
    assert len(stored) < len(plan.actions) / 5


def test_plan_of_an_earlier_release_is_followed():
    plan = make_plan(job(24, 60), fit_hazards([]), price_ratio=3.0, now=0.0, tick=TICK)
    shape = [plan.deadline_at, plan.tick, plan.fineness, plan.ticks, plan.slacks]
    stored = json.dumps(shape).encode() + b"\n" + zlib.compress(plan.actions)
    assert Plan.from_bytes(stored) == replace(plan, saving=0.0, followed=True)


@pytest.mark.parametrize("data", [b"", b"[1, 2]\nx", b"nothing", b"[60.0, 6.0, 1, 2, 2]\nx"])
def test_stored_plan_is_refused_when_it_is_damaged(data):
    with pytest.raises(ValueError, match="not a plan"):
        Plan.from_bytes(data)


def test_plan_of_another_size_is_refused():
    plan = make_plan(job(4, 10), fit_hazards([]), price_ratio=3.0, now=0.0, tick=TICK)
    head, _, packed = plan.to_bytes().partition(b"\n")
    with pytest.raises(ValueError, match="another size"):
        Plan.from_bytes(head.replace(b"10,", b"11,") + b"\n" + packed)


@pytest.mark.parametrize(("hours", "deadline"), [(1, 2), (48, 60), (48, 92), (240, 480), (2000, 4000)])
def test_plan_without_compiled_code_stays_small_however_long_the_job(hours, deadline):
    terms = job(hours * 6, deadline * 6)
    tick = plan_tick(terms, 0.0)
    assert tick % TICK == 0
    ticks = deadline * 3600 / tick
    assert ticks * (ticks - hours * 3600 / tick + 1) * 6 * AGES <= 2_001_000 or tick == TICK * 72


@pytest.mark.parametrize(("changeover", "points"), [(600, 1), (720, 5), (300, 2), (0, 1), (72, 2), (1440, 5)])
def test_fineness_makes_a_changeover_whole_where_it_can(changeover, points):
    assert exact_fineness(changeover, TICK) == points


def test_policies_and_plans_need_nothing_compiled():
    code = """
import sys
import stix.recovery.decide, stix.recovery.hazards, stix.recovery.plan
print([name for name in ("numpy", "numba", "httpx", "click") if name in sys.modules])
"""
    environ = {"PYTHONPATH": ":".join(entry for entry in sys.path if entry)}
    shown = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environ
    )
    assert shown.stdout.strip() == "[]"
