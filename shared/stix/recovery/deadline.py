"""The policies with a deadline: the rule of each, and the safety net over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stix.recovery import rules
from stix.recovery.places import best, free_at
from stix.recovery.plan import Plan
from stix.recovery.rules import FREE, IDLE, ON_DEMAND, SPOT
from stix.recovery.situation import Candidate, Decision, Line, Observations, Policy, Terms, Verb

__all__ = ["decide_with_deadline", "price_ratio"]


@dataclass(frozen=True, slots=True)
class _Moment:
    """One decision's numbers, in seconds since the start and seconds of work."""

    held: int
    settled: int
    available: int
    done: float
    remaining: float
    elapsed: float
    total: float
    left: float


def decide_with_deadline(job: Terms, seen: Observations, offers: Sequence[Candidate], now: float) -> Decision:
    """What the policy wants, unless the deadline is in danger; then on-demand."""
    if job.deadline_at is None:
        raise ValueError(f"the policy {job.policy} needs a deadline")
    remaining = job.work - seen.done
    if remaining <= 0:
        return Decision(Verb.FINISH, "its work is done", line=seen.line)
    held = IDLE if seen.held is None else SPOT if seen.held.spot else ON_DEMAND
    spot = best(offers, spot=True, now=now, changeover=job.changeover)
    moment = _Moment(
        held=held,
        settled=1 if seen.held is not None and seen.held.settled else 0,
        available=1 if held == SPOT or spot is not None else 0,
        done=seen.done,
        remaining=remaining,
        elapsed=now - job.started_at,
        total=job.deadline_at - job.started_at,
        left=job.deadline_at - now,
    )
    line = seen.line
    if job.policy is Policy.LATE_UNIFORM or job.policy is Policy.HISTORY:
        line = _anchored(job, seen, moment, now)
    kind = rules.safety_net(held, moment.settled, remaining, moment.left, job.changeover, job.tick)
    if kind == FREE:
        kind, why = _wish(job, seen, moment, line, offers, now)
    elif kind == SPOT:
        why = "spot works; once it is lost only on-demand is sure to meet the deadline"
    else:
        why = "only on-demand is sure to meet the deadline"
    return _carried_out(job, kind, why, held, spot, offers, now, line)


def _wish(
    job: Terms,
    seen: Observations,
    moment: _Moment,
    line: Line | None,
    offers: Sequence[Candidate],
    now: float,
) -> tuple[int, str]:
    """The kind of machine that the policy wants, and why, before the safety net."""
    held, done, available = moment.held, moment.done, moment.available
    match job.policy:
        case Policy.SLICED:
            goal, end = rules.slice_goal(job.work, moment.total, job.slices, moment.elapsed)
            if goal > done:
                short, left = goal - done, end - moment.elapsed
                forced = rules.safety_net(held, moment.settled, short, left, job.changeover, job.tick)
                if forced != FREE:
                    return forced, "the work of this slice of the time is not done"
        case Policy.HISTORY if seen.plan is not None and not seen.plan.followed:
            kind, why = _uniform(job, seen, moment, offers)
            return kind, f"{why}; its history promises to save only {max(seen.plan.saving, 0):.1%} more"
        case Policy.HISTORY if seen.plan is not None and not _strayed(job, moment):
            return _planned(job, seen, seen.plan, moment, now), "the least cost to be expected by its history"
        case Policy.HISTORY if seen.plan is not None:
            return _uniform(job, seen, moment, offers)
        case Policy.LATE_UNIFORM | Policy.HISTORY if line is not None:
            from_at = line.at - job.started_at
            expected = rules.line_at(job.work, moment.total, from_at, line.done, moment.elapsed)
            lead = rules.hysteresis(job.changeover)
            ahead = rules.line_at(job.work, moment.total, from_at, line.done, moment.elapsed + lead)
            kind = rules.uniform(held, available, done, expected, ahead if lead > 0.0 else -1.0)
            return kind, _line_words(kind, held, done, expected)
        case Policy.UNIFORM_PLAIN | Policy.UNIFORM | Policy.UNIFORM_ORACLE:
            return _uniform(job, seen, moment, offers)
    wait = "no spot can be had, and there is time to wait for it"
    return rules.greedy(available), "spot can be had" if available else wait


def _uniform(job: Terms, seen: Observations, moment: _Moment, offers: Sequence[Candidate]) -> tuple[int, str]:
    held, done = moment.held, moment.done
    expected = rules.line_at(job.work, moment.total, 0.0, 0.0, moment.elapsed)
    if job.policy is Policy.UNIFORM_ORACLE:
        lifetime = (seen.spot_lifetime or 0.0) if moment.available else 0.0
        kind = rules.oracle(held, lifetime, done, expected, job.changeover, price_ratio(offers))
    else:
        ahead = -1.0
        if job.policy is not Policy.UNIFORM_PLAIN:
            ahead = rules.line_at(job.work, moment.total, 0.0, 0.0, moment.elapsed + 2.0 * job.changeover)
        kind = rules.uniform(held, moment.available, done, expected, ahead)
    return kind, _line_words(kind, held, done, expected)


def _strayed(job: Terms, moment: _Moment) -> bool:
    expected = rules.line_at(job.work, moment.total, 0.0, 0.0, moment.elapsed)
    return rules.strayed(moment.held, moment.done, expected, moment.total - job.work) == 1


def _planned(job: Terms, seen: Observations, plan: Plan, moment: _Moment, now: float) -> int:
    pending = 0.0
    if seen.held is not None and not seen.held.settled:
        pending = max(job.changeover - (now - seen.held.since), 0.0)
    age = 0.0 if seen.spot_changed_at is None else now - seen.spot_changed_at
    kind = plan.action(moment.held, moment.available, age, moment.remaining + pending, now)
    return IDLE if kind == SPOT and not moment.available else kind


def _anchored(job: Terms, seen: Observations, moment: _Moment, now: float) -> Line | None:
    if seen.line is not None:
        return seen.line
    if moment.remaining >= rules.LATE_LOAD * moment.left and moment.left > 0:
        return Line(now, seen.done)
    return None


def price_ratio(offers: Sequence[Candidate]) -> float:
    """On-demand over spot, of the cheapest of each, whether they can be had now or not."""
    spot = min((one.offer.price for one in offers if one.offer.spot), default=0.0)
    paid = min((one.offer.price for one in offers if not one.offer.spot), default=0.0)
    return max(paid / spot, 1.0 + 1e-9) if spot > 0 else 1.0 + 1e-9


def _line_words(kind: int, held: int, done: float, expected: float) -> str:
    lead = f"{abs(done - expected) / 3600:.1f} h {'ahead of' if done >= expected else 'behind'} its line"
    if kind == SPOT:
        return f"spot can be had ({lead})"
    if kind == IDLE:
        return f"no spot can be had, and it is {lead}"
    if held == ON_DEMAND:
        return f"on-demand goes on until a return to spot pays ({lead})"
    return f"no spot is worth it, and it is {lead}"


def _carried_out(
    job: Terms,
    kind: int,
    why: str,
    held: int,
    spot: Candidate | None,
    offers: Sequence[Candidate],
    now: float,
    line: Line | None,
) -> Decision:
    """The wish as an action: another market where the wanted one refuses everywhere."""
    soon = now + job.tick
    if kind == held and kind != IDLE:
        return Decision(Verb.KEEP, why, look_again_at=soon, line=line)
    if kind == IDLE:
        return Decision(Verb.WAIT, why, look_again_at=soon, line=line)
    if kind == SPOT:
        assert spot is not None, "a rule wants spot only where there is some"
        return Decision(Verb.LAUNCH, why, spot.offer, soon, line)
    paid = best(offers, spot=False, now=now, changeover=job.changeover)
    if paid is not None:
        return Decision(Verb.LAUNCH, why, paid.offer, soon, line)
    if held != IDLE:
        return Decision(Verb.KEEP, f"{why}; no on-demand machine can be had", look_again_at=soon, line=line)
    if spot is not None:
        reason = f"{why}; no on-demand machine can be had, spot can"
        return Decision(Verb.LAUNCH, reason, spot.offer, soon, line)
    if not offers:
        return Decision(Verb.GIVE_UP, "no place fits it", line=line)
    again = min(filter(None, (free_at(offers, spot=False), free_at(offers, spot=True), soon)))
    return Decision(Verb.WAIT, f"{why}; every place refused lately", look_again_at=again, line=line)
