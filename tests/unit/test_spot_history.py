"""What is remembered of where spot machines could be had, and jobs that are decided on by it."""

from __future__ import annotations

import pytest

from stix.application import job_plan
from stix.application.spot_history import histories
from stix.model.status import ManagedJobStatus
from stix.recovery.hazards import PRIOR, fit_hazards, prior_for, sampled
from stix.recovery.plan import Plan
from stix.recovery.situation import Policy, read_policy
from stix.recovery.spot_history import UNKNOWN, SpotHistory, after_look, merged, state_since
from tests.unit.managed_jobs import THREE_ZONES, JobsPlane

HOUR = 3600.0
PLENTY = {"deadline": "9h", "estimated_duration": "2h"}


@pytest.fixture
def plane(tmp_path):
    made = JobsPlane(tmp_path)
    yield made
    made.close()


def with_strategy(name: str) -> dict[str, object]:
    return {**PLENTY, "resources": {"job_recovery": {"strategy": name}}}


def test_history_is_a_row_of_changes_when_looks_follow_each_other():
    history = SpotHistory()
    for up, at in ((True, 0.0), (True, HOUR), (False, 2 * HOUR), (True, 3 * HOUR)):
        history = after_look(history, up, at)
    assert history == SpotHistory(((0.0, 1), (2 * HOUR, 0), (3 * HOUR, 1)), 3 * HOUR)
    assert after_look(history, False, HOUR) == history, "an older look"


def test_state_is_unknown_after_a_while_when_nobody_looked():
    history = after_look(after_look(SpotHistory(), False, 0.0), True, 20 * HOUR)
    assert history.changes == ((0.0, 0), (0.5 * HOUR, UNKNOWN), (20 * HOUR, 1))


def test_state_is_known_throughout_when_a_machine_ran():
    history = after_look(after_look(SpotHistory(), True, 0.0), True, 20 * HOUR, since=0.0)
    history = after_look(history, False, 20 * HOUR)
    assert history.changes == ((0.0, 1), (20 * HOUR, 0))


def test_spot_can_be_had_somewhere_when_one_place_of_several_has_it():
    one = SpotHistory(((0.0, 1), (2 * HOUR, 0)), 4 * HOUR)
    other = SpotHistory(((1 * HOUR, 0), (3 * HOUR, 1)), 3 * HOUR)
    changes = merged([one, other], 9 * HOUR)
    assert changes == [(0.0, 1), (2 * HOUR, 0), (3 * HOUR, 1), (3.5 * HOUR, 0), (4.5 * HOUR, UNKNOWN)]
    assert state_since(changes, up=True) is None
    assert state_since(changes[:3], up=True) == 3 * HOUR
    assert state_since([], up=True) is None


def test_chances_are_not_counted_over_what_is_unknown():
    known = [1, 1, 1, 0, 0, 1]
    gap = [UNKNOWN] * 50
    assert fit_hazards([*known, *gap]) == fit_hazards(known)
    assert fit_hazards(gap) == fit_hazards([])
    ticks = sampled([(0.0, 1), (1200.0, UNKNOWN), (2400.0, 0)], 600.0, 3600.0)
    assert ticks == [1, 1, UNKNOWN, UNKNOWN, 0, 0]


def test_prior_says_the_same_when_ticks_are_longer():
    [once, twice] = prior_for(600.0)[0][0], prior_for(1200.0)[0][0]
    assert once == pytest.approx(PRIOR[0][0])
    assert 1 - twice == pytest.approx((1 - once) ** 2)


@pytest.mark.parametrize("text", ["sliced", "sliced:x", "uniform:3", "nothing"])
def test_policy_is_refused_when_it_is_not_written_as_one(text):
    with pytest.raises(ValueError, match=r".+"):
        read_policy(text)
    assert read_policy("sliced:8") == (Policy.SLICED, 8)
    assert read_policy("history") == (Policy.HISTORY, 1)


def test_plan_is_made_once_and_read_again_when_the_job_is_decided_on_by_history(plane, monkeypatch):
    made = []
    real = job_plan.make_plan

    def counted(*arguments, **options):
        made.append(options)
        return real(*arguments, **options)

    monkeypatch.setattr(job_plan, "make_plan", counted)
    plane.submit({**with_strategy("history"), "deadline": "3h"})
    cluster = plane.start_cluster()
    assert "history" in plane.task().decision
    key = plane.task().plan_key
    plan = Plan.from_bytes(plane.objects.get(key))
    assert plan.deadline_at == plane.task().deadline_at
    for _ in range(4):
        plane.pass_time(240)
        plane.report(cluster)
        plane.sweep()
    assert plane.task().decided_at > plane.task().began_at
    assert len(made) == 1
    plane.objects.delete(key)
    plane.pass_time(240)
    plane.sweep()
    assert len(made) == 2, "a lost document is made again"
    # Nothing was known of spot at first; then it had been there since the machine was.
    assert (made[0]["up"], made[0]["age"]) == (1, 0.0)
    assert (made[1]["up"], made[1]["age"]) == (1, 5 * 240.0)
    plane.tell(cluster, "SUCCEEDED", exit_codes=[0])
    assert plane.managed().status is ManagedJobStatus.SUCCEEDED
    assert plane.objects.size(key) is None


def test_what_launches_and_machines_said_of_spot_is_remembered_when_a_job_leaves_them(plane):
    plane.compute.full = {"a"}
    began = plane.clock.now()
    plane.submit()
    launched = plane.held()
    assert plane.rank(launched) == "RANKED"
    assert plane.create(launched) == "REFUSED"
    cluster = plane.start_cluster()
    assert plane.place() == "b"
    plane.pass_time(HOUR)
    plane.report(cluster, notice={"kind": "preemption", "at": plane.clock.now() + 100})
    plane.settle()
    full, taken, never = ([one] for one in THREE_ZONES[:3])
    assert histories(plane.world, full) == [SpotHistory(((began, 0),), began)]
    assert histories(plane.world, taken) == [SpotHistory(((began, 1), (began + HOUR, 0)), plane.clock.now())]
    assert histories(plane.world, never) == []


def test_job_is_kept_to_its_slices_when_its_strategy_is_sliced(plane):
    plane.submit(with_strategy("sliced:4"))
    assert plane.task().policy == "sliced:4"
    plane.start_cluster()
    # The first quarter of the time is over, and nothing is done of its quarter of the work.
    plane.pass_time(1.9 * HOUR)
    plane.report(plane.held(), notice={"kind": "preemption", "at": plane.clock.now() + 100})
    plane.settle()
    assert not plane.task().spot
    assert "slice" in plane.task().decision
