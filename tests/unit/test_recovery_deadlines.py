"""Deadlines are met by every policy, whatever the spot market does, wherever on-demand alone could meet
them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stix.recovery.decide import can_meet
from stix.recovery.hazards import fit_hazards
from stix.recovery.plan import make_plan
from stix.recovery.situation import Policy, Terms
from stix.simulate.replay import replay_decisions, zone_of

RATIO = 3.0
WITH_DEADLINE = [
    Policy.GREEDY,
    Policy.SLICED,
    Policy.UNIFORM_PLAIN,
    Policy.UNIFORM,
    Policy.UNIFORM_ORACLE,
    Policy.LATE_UNIFORM,
    Policy.HISTORY,
]


@st.composite
def jobs(draw: st.DrawFn) -> tuple[Terms, list[list[int]], int]:
    """A job of at most 60 ticks of work that can be met, with adversarial zones: runs of any lengths."""
    tick = draw(st.sampled_from([60.0, 195.0, 600.0]))
    work = draw(st.integers(1, int(40 * tick)))
    changeover = draw(st.integers(0, int(4 * tick)))
    need = can_meet(Terms(Policy.GREEDY, work=work, deadline_at=0, changeover=changeover, tick=tick), 0)
    spare = draw(st.integers(0, int(30 * tick)))
    deadline = need.earliest + spare
    job = Terms(
        draw(st.sampled_from(WITH_DEADLINE)),
        work=float(work),
        deadline_at=float(deadline),
        changeover=float(changeover),
        tick=tick,
        slices=draw(st.integers(1, 9)),
    )
    start = draw(st.integers(0, 20))
    length = start + int(deadline // tick) + 2
    zones = []
    for _ in range(draw(st.integers(1, 3))):
        runs = draw(st.lists(st.integers(1, 12), min_size=1, max_size=length))
        up, first = [], draw(st.booleans())
        for run in runs:
            up += [int(first)] * run
            first = not first
        zones.append((up * (length // len(up) + 1))[:length])
    return job, zones, start


@settings(max_examples=400)
@given(jobs())
def test_deadline_is_met_when_on_demand_alone_could_meet_it(given_job):
    job, zones, start = given_job
    assert can_meet(job, 0.0).possible
    plan = None
    if job.policy is Policy.HISTORY:
        plan = make_plan(job, fit_hazards(zones[0][:start]), price_ratio=RATIO, now=0.0, tick=job.tick)
    places = [zone_of(f"us-east-1{'abc'[at]}_v100_1", up, 1.0) for at, up in enumerate(zones)]
    outcome = replay_decisions(job, places, start, RATIO, plan=plan)
    assert job.deadline_at is not None
    assert outcome.ticks * job.tick <= job.deadline_at
    assert outcome.spot_ticks + outcome.on_demand_ticks <= outcome.ticks


@settings(max_examples=100)
@given(jobs())
def test_deadline_is_refused_when_it_is_a_tick_too_early(given_job):
    job, _, _ = given_job
    late = can_meet(job, 0.0).earliest - job.tick
    tight = Terms(job.policy, work=job.work, deadline_at=late, changeover=job.changeover, tick=job.tick)
    verdict = can_meet(tight, 0.0)
    assert not verdict.possible
    assert verdict.earliest == pytest.approx(can_meet(job, 0.0).earliest)
    assert "h of work" in verdict.reason


def test_job_without_deadline_is_not_asked_whether_it_can_meet_one():
    with pytest.raises(ValueError, match="no deadline"):
        can_meet(Terms(Policy.FAILOVER), 0.0)
