"""What a managed job does next: one pure function for the Lambda, the embedded runtime and the simulator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from stix.recovery.after_loss import decide_after_loss
from stix.recovery.deadline import decide_with_deadline
from stix.recovery.situation import Candidate, Decision, Observations, Policy, Terms

__all__ = ["Meeting", "can_meet", "decide"]

_WITHOUT_DEADLINE = frozenset({Policy.FAILOVER, Policy.EAGER_NEXT_REGION, Policy.NONE})


def decide(job: Terms, seen: Observations, offers: Sequence[Candidate], now: float) -> Decision:
    """The next action, its reason, and when to decide again at the latest.

    ``offers`` are all places that fit, in both markets, with what is known of each. Where on-demand alone can
    meet the deadline (``can_meet``) every policy with a deadline does, as long as on-demand machines can be
    had, decisions come at most ``job.tick`` apart, and a change of machines costs at most ``job.changeover``.
    """
    if job.policy in _WITHOUT_DEADLINE:
        return decide_after_loss(job, seen, offers, now)
    return decide_with_deadline(job, seen, offers, now)


@dataclass(frozen=True, slots=True)
class Meeting:
    """Whether a deadline can be met for certain; ``earliest`` is the first that could, in epoch seconds."""

    possible: bool
    earliest: float
    reason: str


def can_meet(job: Terms, now: float) -> Meeting:
    """Whether on-demand machines, started now and never lost, finish in time with one changeover.

    To be asked when a job is submitted: a deadline that cannot be met is told at once, not at its end. Raises
    ``ValueError`` for terms without a deadline.
    """
    if job.deadline_at is None:
        raise ValueError("the job has no deadline")
    needed = math.ceil((job.work + job.changeover) / job.tick) * job.tick
    left = math.floor((job.deadline_at - now) / job.tick) * job.tick
    if needed <= left:
        return Meeting(True, now + needed, "on-demand machines alone can meet it")
    return Meeting(
        False,
        now + needed,
        f"{job.work / 3600:.4g} h of work and {job.changeover / 3600:.3g} h to start need "
        f"{needed / 3600:.4g} h, and {max(job.deadline_at - now, 0.0) / 3600:.4g} h are left",
    )
