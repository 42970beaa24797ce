"""What a managed job's task can run on now, with what is known of each place, and the policy's word on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stix.application.offering_health import judge_offers
from stix.application.planning import plan
from stix.application.records import checkpoint_parent, child_records
from stix.application.world import World
from stix.lifecycle.offering_health import Verdict
from stix.model.errors import NoOfferError
from stix.model.managed_job import Checkpoint, JobTask
from stix.model.offer import Offer
from stix.model.task import Task
from stix.optimizer.rank import RankedOffer
from stix.recovery.decide import decide
from stix.recovery.situation import (
    Candidate,
    Decision,
    Held,
    Line,
    Observations,
    Terms,
    Verb,
    read_policy,
)

__all__ = [
    "TICK_SECONDS",
    "candidates",
    "judged_candidates",
    "launch_order",
    "observations",
    "terms_of",
    "work_done",
]

TICK_SECONDS = 300.0
"""The longest time between two decisions of a job with a deadline."""
_MOST_IN_ORDER = 24


def terms_of(task: JobTask) -> Terms:
    """The terms that were settled when the job was submitted; a task begins when those before it end."""
    policy, slices = read_policy(task.policy)
    return Terms(
        policy=policy,
        started_at=task.began_at or task.since,
        work=task.work,
        deadline_at=task.deadline_at,
        changeover=task.changeover,
        tick=TICK_SECONDS,
        slices=slices,
    )


def work_done(world: World, workspace: str, number: int, task: JobTask) -> float:
    """Seconds of the task's work that cannot be lost: what lies behind its checkpoints, of the rank that is
    least far among those that keep any."""
    parent = checkpoint_parent(number, task.index)
    kept = [one for one in child_records(world, Checkpoint, workspace, parent) if one.manifest]
    return min((one.done for one in kept), default=0.0)


def observations(task: JobTask, done: float) -> Observations:
    """An estimate that was too low leaves a tick of work: whether the task is done, only its end says."""
    held = Held(task.place, task.spot, task.held_since, task.settled) if task.cluster_id else None
    line = None if task.line_at is None else Line(task.line_at, task.line_done)
    most = max(task.work - TICK_SECONDS, 0.0)
    return Observations(
        held=held, done=min(done, most), last_place=task.last_place, lost=task.lost, line=line
    )


def candidates(world: World, asked: Task, task: JobTask) -> list[Candidate]:
    """All places that fit, in both markets where there is a deadline to choose for; none where none does."""
    markets: Sequence[Task] = [asked]
    if task.deadline_at is not None:
        markets = [asked.with_overrides(resources={"use_spot": spot}) for spot in (True, False)]
    offers: list[Offer] = []
    for market in markets:
        try:
            offers += [entry.offer for entry in plan(world, market)]
        except NoOfferError:
            continue
    return judged_candidates(world, list(dict.fromkeys(offers)), task.lost_at)


def judged_candidates(world: World, offers: Sequence[Offer], lost_at: Mapping[str, float]) -> list[Candidate]:
    """The offers with what refusals say of them, and when machines were last lost in their places."""
    judged = judge_offers(world, offers, [""] * len(offers))
    return [
        Candidate(
            offer,
            blocked_until=judgement.until if judgement.verdict is Verdict.BLOCKED else 0.0,
            lost_at=lost_at.get(offer.place),
        )
        for offer, judgement in zip(offers, judged, strict=True)
    ]


def launch_order(
    terms: Terms, seen: Observations, offers: Sequence[Candidate], first: Decision, now: float
) -> list[RankedOffer]:
    """The decided offer, then those that the policy would decide for where the ones before refuse, while they
    are of the same market: changing that is a new decision."""
    ranked: list[RankedOffer] = []
    left, decision = list(offers), first
    while decision.action is Verb.LAUNCH and len(ranked) < _MOST_IN_ORDER:
        chosen = decision.offer
        assert chosen is not None
        if ranked and chosen.spot is not ranked[0].offer.spot:
            break
        ranked.append(RankedOffer(chosen, decision.reason))
        left = [one for one in left if one.offer != chosen]
        if not left:
            break
        decision = decide(terms, seen, left, now)
    return ranked
