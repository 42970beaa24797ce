"""What each policy decides, moment by moment."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stix.model.offer import Offer
from stix.recovery.decide import decide
from stix.recovery.induction import AGES
from stix.recovery.places import effective_price
from stix.recovery.plan import Plan, make_plan
from stix.recovery.situation import Candidate, Held, Line, Observations, Policy, Terms, Verb

HOUR = 3600.0
WITHOUT_DEADLINE = {Policy.FAILOVER, Policy.EAGER_NEXT_REGION, Policy.NONE}
NOW = 1_000_000.0


def offer(place: str, price: float = 1.0, *, spot: bool = True) -> Offer:
    cloud, region, *zone = place.split("/")
    return Offer(
        cloud=cloud,
        region=region,
        zone="".join(zone),
        instance_type="m",
        spot=spot,
        vcpus=1,
        memory_gib=1,
        price=price,
    )


EAST_A = Candidate(offer("aws/us-east-1/us-east-1a", 1.0))
EAST_B = Candidate(offer("aws/us-east-1/us-east-1b", 1.1))
WEST_A = Candidate(offer("aws/us-west-2/us-west-2a", 1.3))
PAID = Candidate(offer("aws/us-east-1/us-east-1a", 3.0, spot=False))
LOST_A = Observations(last_place=EAST_A.offer.place, lost=True)


def blocked(candidate: Candidate, until: float = float("inf")) -> Candidate:
    return Candidate(candidate.offer, blocked_until=until, lost_at=candidate.lost_at)


def deadline_job(policy: Policy, *, work: float = 48, deadline: float = 60, **fields: object) -> Terms:
    return Terms(
        policy,
        started_at=NOW,
        work=work * HOUR,
        deadline_at=NOW + deadline * HOUR,
        changeover=0.2 * HOUR,
        **fields,  # type: ignore[arg-type]
    )


# -- without a deadline --------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [Policy.FAILOVER, Policy.EAGER_NEXT_REGION, Policy.NONE])
def test_running_job_is_kept_by_policies_without_deadline(policy):
    seen = Observations(held=Held(EAST_A.offer.place, True, NOW - 60))
    assert decide(Terms(policy), seen, [EAST_A, WEST_A], NOW).action is Verb.KEEP


@pytest.mark.parametrize("policy", [Policy.FAILOVER, Policy.EAGER_NEXT_REGION, Policy.NONE])
def test_first_launch_goes_to_the_cheapest_place(policy):
    decision = decide(Terms(policy), Observations(), [WEST_A, EAST_B, EAST_A, PAID], NOW)
    assert (decision.action, decision.offer) == (Verb.LAUNCH, EAST_A.offer)


def test_failover_goes_back_to_the_same_place_first():
    decision = decide(Terms(Policy.FAILOVER), LOST_A, [EAST_B, WEST_A, EAST_A], NOW)
    assert decision.offer == EAST_A.offer
    assert "there again" in decision.reason


def test_failover_takes_the_cheapest_other_place_when_the_same_one_refused():
    decision = decide(Terms(Policy.FAILOVER), LOST_A, [WEST_A, blocked(EAST_A), EAST_B], NOW)
    assert decision.offer == EAST_B.offer


def test_eager_next_region_leaves_the_region_when_another_fits():
    decision = decide(Terms(Policy.EAGER_NEXT_REGION), LOST_A, [EAST_A, EAST_B, WEST_A], NOW)
    assert decision.offer == WEST_A.offer
    assert EAST_A.offer.place in decision.reason
    assert WEST_A.offer.place in decision.reason


def test_eager_next_region_leaves_the_zone_when_no_other_region_fits():
    decision = decide(Terms(Policy.EAGER_NEXT_REGION), LOST_A, [EAST_A, EAST_B, blocked(WEST_A)], NOW)
    assert decision.offer == EAST_B.offer


def test_eager_next_region_returns_only_when_nothing_else_fits():
    decision = decide(Terms(Policy.EAGER_NEXT_REGION), LOST_A, [EAST_A, blocked(WEST_A)], NOW)
    assert decision.offer == EAST_A.offer
    assert "no other place can be had" in decision.reason


def test_eager_next_region_prefers_the_region_lost_longest_ago():
    north = Candidate(offer("aws/eu-north-1/eu-north-1a", 0.5), lost_at=NOW - 600)
    west = Candidate(WEST_A.offer, lost_at=NOW - 7200)
    decision = decide(Terms(Policy.EAGER_NEXT_REGION), LOST_A, [EAST_A, north, west], NOW)
    assert decision.offer == WEST_A.offer


def test_loss_ends_a_job_that_wants_no_recovery():
    decision = decide(Terms(Policy.NONE), LOST_A, [EAST_A, WEST_A], NOW)
    assert decision.action is Verb.GIVE_UP
    assert EAST_A.offer.place in decision.reason


def test_job_waits_until_the_first_place_may_be_asked_when_all_refused():
    offers = [blocked(EAST_A, NOW + 300), blocked(WEST_A, NOW + 100)]
    decision = decide(Terms(Policy.FAILOVER), LOST_A, offers, NOW)
    assert (decision.action, decision.look_again_at) == (Verb.WAIT, NOW + 100)


def test_job_without_any_place_is_given_up():
    assert decide(Terms(Policy.FAILOVER), LOST_A, [], NOW).action is Verb.GIVE_UP


# -- with a deadline -----------------------------------------------------------------------------------------


def test_finished_work_needs_no_machine():
    job = deadline_job(Policy.UNIFORM)
    assert decide(job, Observations(done=48 * HOUR), [EAST_A, PAID], NOW + HOUR).action is Verb.FINISH


@pytest.mark.parametrize("policy", [Policy.GREEDY, Policy.UNIFORM, Policy.LATE_UNIFORM, Policy.SLICED])
def test_working_spot_machine_is_never_given_up_for_another(policy):
    seen = Observations(held=Held(WEST_A.offer.place, True, NOW), done=HOUR)
    decision = decide(deadline_job(policy), seen, [EAST_A, WEST_A, PAID], NOW + HOUR)
    assert decision.action is Verb.KEEP
    assert decision.look_again_at == NOW + HOUR + 600


def test_greedy_waits_while_there_is_time():
    decision = decide(deadline_job(Policy.GREEDY), Observations(), [blocked(EAST_A), PAID], NOW)
    assert (decision.action, decision.look_again_at) == (Verb.WAIT, NOW + 600)


@pytest.mark.parametrize("policy", [Policy.GREEDY, Policy.UNIFORM, Policy.LATE_UNIFORM, Policy.HISTORY])
def test_on_demand_is_forced_when_waiting_would_miss_the_deadline(policy):
    late = NOW + 11.7 * HOUR
    decision = decide(deadline_job(policy), Observations(), [EAST_A, PAID], late)
    assert (decision.action, decision.offer) == (Verb.LAUNCH, PAID.offer)
    assert "deadline" in decision.reason


def test_uniform_progress_pays_for_on_demand_when_behind_its_line():
    decision = decide(
        deadline_job(Policy.UNIFORM), Observations(done=3 * HOUR), [blocked(EAST_A), PAID], NOW + 5 * HOUR
    )
    assert (decision.action, decision.offer) == (Verb.LAUNCH, PAID.offer)
    assert "1.0 h behind its line" in decision.reason


def test_uniform_progress_waits_when_ahead_of_its_line():
    decision = decide(
        deadline_job(Policy.UNIFORM), Observations(done=4.5 * HOUR), [blocked(EAST_A), PAID], NOW + 5 * HOUR
    )
    assert decision.action is Verb.WAIT


@pytest.mark.parametrize(
    ("policy", "ahead", "action"),
    [
        (Policy.UNIFORM, 0.1, Verb.KEEP),
        (Policy.UNIFORM, 0.4, Verb.LAUNCH),
        (Policy.UNIFORM_PLAIN, 0.1, Verb.LAUNCH),
    ],
)
def test_return_to_spot_from_on_demand_waits_for_a_lead(policy, ahead, action):
    seen = Observations(held=Held(PAID.offer.place, False, NOW), done=(4 + ahead) * HOUR)
    decision = decide(deadline_job(policy), seen, [EAST_A, PAID], NOW + 5 * HOUR)
    assert decision.action is action
    if action is Verb.LAUNCH:
        assert decision.offer == EAST_A.offer


def test_late_uniform_progress_draws_its_line_when_work_fills_the_time():
    job = deadline_job(Policy.LATE_UNIFORM, work=40)
    early = decide(job, Observations(), [blocked(EAST_A), PAID], NOW)
    assert (early.action, early.line) == (Verb.WAIT, None)
    drawn = decide(job, Observations(), [blocked(EAST_A), PAID], NOW + 10 * HOUR)
    assert drawn.line == Line(NOW + 10 * HOUR, 0.0)
    # An hour of waiting later it is behind that line.
    later = decide(job, Observations(line=drawn.line), [blocked(EAST_A), PAID], NOW + 11 * HOUR)
    assert (later.action, later.offer, later.line) == (Verb.LAUNCH, PAID.offer, drawn.line)


def test_slice_must_do_its_share_of_the_work():
    job = deadline_job(Policy.SLICED, slices=6)
    decision = decide(job, Observations(done=0.5 * HOUR), [blocked(EAST_A), PAID], NOW + 3 * HOUR)
    assert (decision.action, decision.offer) == (Verb.LAUNCH, PAID.offer)
    assert "slice" in decision.reason
    ahead = decide(job, Observations(done=8 * HOUR), [blocked(EAST_A), PAID], NOW + 3 * HOUR)
    assert ahead.action is Verb.WAIT


@pytest.mark.parametrize(("lifetime", "action"), [(0.2, Verb.WAIT), (0.4, Verb.LAUNCH)])
def test_oracle_takes_spot_only_when_it_outlives_its_changeover(lifetime, action):
    # It is worth k * d / (k - 1) = 3 * 0.2 h / 2 = 0.3 h.
    seen = Observations(done=6 * HOUR, spot_lifetime=lifetime * HOUR)
    decision = decide(deadline_job(Policy.UNIFORM_ORACLE), seen, [EAST_A, PAID], NOW + 5 * HOUR)
    assert decision.action is action


def test_policy_with_history_follows_the_late_line_when_there_is_no_plan():
    seen = Observations(done=HOUR, line=Line(NOW, 0.0))
    offers = [blocked(EAST_A), PAID]
    history = decide(deadline_job(Policy.HISTORY), seen, offers, NOW + 2 * HOUR)
    late = decide(deadline_job(Policy.LATE_UNIFORM), seen, offers, NOW + 2 * HOUR)
    assert (history.action, history.offer, history.line) == (late.action, late.offer, late.line)


def waiting_plan(job: Terms) -> Plan:
    """A plan made where spot never stays away for long: it waits while there is any slack."""
    hazards = [0.9] * AGES + [0.01] * AGES
    plan = make_plan(job, hazards, price_ratio=3.0, now=NOW, tick=job.tick, margin=0.0)
    return replace(plan, saving=0.05, followed=True)


def test_policy_with_history_keeps_to_uniform_progress_when_its_plan_promises_little():
    job, offers, now = deadline_job(Policy.HISTORY), [blocked(EAST_A), PAID], NOW + 10 * HOUR
    # Behind the line of uniform progress, by less than the plan is left for.
    seen = Observations(done=6 * HOUR, plan=waiting_plan(job), spot_changed_at=NOW)
    assert decide(job, seen, offers, now).action is Verb.WAIT
    doubted = replace(seen, plan=replace(waiting_plan(job), saving=0.012, followed=False))
    decision = decide(job, doubted, offers, now)
    assert decision.action is Verb.LAUNCH
    assert decision.reason.endswith("its history promises to save only 1.2% more")
    uniform = decide(replace(job, policy=Policy.UNIFORM), doubted, offers, now)
    assert (decision.action, decision.offer) == (uniform.action, uniform.offer)


def test_plan_is_not_followed_when_spot_hardly_ever_goes():
    # Uniform progress does as well there.
    always = [0.9] * AGES + [0.01] * AGES
    plan = make_plan(deadline_job(Policy.HISTORY), always, price_ratio=3.0, now=NOW, tick=600.0)
    assert 0.0 <= plan.saving < 0.01
    assert not plan.followed


@pytest.mark.parametrize(("slack", "followed"), [(12, True), (4, False)])
def test_less_slack_takes_a_greater_promise(slack, followed):
    job = replace(deadline_job(Policy.HISTORY), deadline_at=NOW + (48 + slack) * HOUR)
    hazards = [0.2] * AGES + [0.1] * AGES
    plan = make_plan(job, hazards, price_ratio=3.0, now=NOW, tick=600.0)
    assert plan.followed is followed
    assert plan.saving > 0.03
    assert plan.followed is (plan.saving >= 0.02 + 0.75 * job.changeover / (slack * HOUR))


@pytest.mark.parametrize(
    ("held", "behind", "action"),
    [
        # 60 h for 48 h of work: 12 h of slack, of which 0.3 are 3.6 h and a quarter 3 h.
        (None, 3.5, Verb.WAIT),
        (None, 3.7, Verb.LAUNCH),
        (Held(PAID.offer.place, False, NOW), 2.9, Verb.WAIT),
        (Held(PAID.offer.place, False, NOW), 3.1, Verb.KEEP),
    ],
)
def test_policy_with_history_leaves_its_plan_when_it_fell_far_behind(held, behind, action):
    job = deadline_job(Policy.HISTORY)
    seen = Observations(held, done=(8 - behind) * HOUR, plan=waiting_plan(job), spot_changed_at=NOW)
    decision = decide(job, seen, [blocked(EAST_A), PAID], NOW + 10 * HOUR)
    assert decision.action is action
    if action is Verb.LAUNCH:
        assert decision.offer == PAID.offer


def test_spot_runs_on_when_on_demand_is_wanted_and_refused():
    late = NOW + 11.7 * HOUR
    decision = decide(deadline_job(Policy.GREEDY), Observations(), [EAST_A, blocked(PAID)], late)
    assert (decision.action, decision.offer) == (Verb.LAUNCH, EAST_A.offer)
    nothing = decide(
        deadline_job(Policy.GREEDY), Observations(), [blocked(EAST_A), blocked(PAID, late + 180)], late
    )
    assert (nothing.action, nothing.look_again_at) == (Verb.WAIT, late + 180)


@pytest.mark.parametrize("policy", [one for one in Policy if one not in WITHOUT_DEADLINE])
def test_job_goes_on_when_its_deadline_has_passed(policy):
    job = deadline_job(policy, deadline=0)
    offers = [EAST_A, PAID]
    for now in (NOW, NOW + 5 * HOUR):
        idle = decide(job, Observations(done=HOUR), offers, now)
        assert (idle.action, idle.offer) == (Verb.LAUNCH, PAID.offer)
        running = decide(job, Observations(Held(EAST_A.offer.place, True, NOW), HOUR), offers, now)
        assert running.action is Verb.KEEP
        assert "spot works" in running.reason


def test_deadline_policy_without_deadline_is_refused():
    with pytest.raises(ValueError, match="needs a deadline"):
        decide(Terms(Policy.UNIFORM), Observations(), [EAST_A], NOW)


# -- several places ------------------------------------------------------------------------------------------


def test_place_that_lost_machines_lately_is_avoided_while_another_fits():
    lost = Candidate(EAST_A.offer, lost_at=NOW - 600)
    job = deadline_job(Policy.UNIFORM)
    assert decide(job, Observations(), [lost, WEST_A, PAID], NOW).offer == WEST_A.offer
    assert decide(job, Observations(), [lost, blocked(WEST_A), PAID], NOW).offer == EAST_A.offer
    long_ago = Candidate(EAST_A.offer, lost_at=NOW - 7200)
    assert decide(job, Observations(), [long_ago, WEST_A, PAID], NOW).offer == EAST_A.offer


def test_short_lives_and_data_make_a_cheap_place_dear():
    short = Candidate(EAST_A.offer, lifetime=0.5 * HOUR)
    far = Candidate(EAST_B.offer, lifetime=10 * HOUR, moving=10.0)
    steady = Candidate(WEST_A.offer, lifetime=10 * HOUR)
    job = deadline_job(Policy.UNIFORM)
    assert decide(job, Observations(), [short, far, steady, PAID], NOW).offer == WEST_A.offer
    assert effective_price(short, 0.2 * HOUR) == pytest.approx(0.5 / 0.3)
    assert effective_price(far, 0.2 * HOUR) == pytest.approx((1.1 * 10 + 10) / 9.8)
    assert effective_price(Candidate(EAST_A.offer, lifetime=600), 720) == float("inf")
