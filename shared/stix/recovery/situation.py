"""What a decision is made from, and what comes out of it. Times are epoch seconds, lengths seconds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from stix.model.offer import Offer

if TYPE_CHECKING:
    from stix.recovery.plan import Plan

__all__ = [
    "DEFAULT_WITHOUT_DEADLINE",
    "DEFAULT_WITH_DEADLINE",
    "Candidate",
    "Decision",
    "Held",
    "Line",
    "Observations",
    "Policy",
    "Terms",
    "Verb",
    "read_policy",
]


class Policy(StrEnum):
    """The first three need no deadline; all others do."""

    FAILOVER = "FAILOVER"
    """After a loss: the same place first, then the cheapest other one."""
    EAGER_NEXT_REGION = "EAGER_NEXT_REGION"
    """After a loss: another region first, then another zone, the place just lost last."""
    NONE = "none"
    """A loss ends the job."""
    GREEDY = "greedy"
    """Spot or nothing, until only on-demand can meet the deadline."""
    SLICED = "sliced"
    """Greedy within each of several equal slices of work and time."""
    UNIFORM_PLAIN = "uniform-plain"
    """Uniform progress that leaves on-demand as soon as there is spot."""
    UNIFORM = "uniform"
    """Uniform progress that leaves on-demand only ahead of its line."""
    UNIFORM_ORACLE = "uniform-oracle"
    """Uniform progress that knows how long each spot machine will live: for the simulator."""
    LATE_UNIFORM = "late-uniform"
    """Greedy while time is plentiful, then uniform progress on a line from there."""
    HISTORY = "history"
    """The least expected cost, by how spot came and went in the past."""


def read_policy(text: str) -> tuple[Policy, int]:
    """A policy as people write it, and its number of slices: ``sliced:8``. Raises ``ValueError``."""
    name, _, slices = text.partition(":")
    policy = Policy(name)
    if (policy is Policy.SLICED) is not bool(slices):
        raise ValueError(f"{text!r}: slices are those of sliced:N")
    return policy, int(slices or 1)


DEFAULT_WITHOUT_DEADLINE = Policy.EAGER_NEXT_REGION
DEFAULT_WITH_DEADLINE = Policy.LATE_UNIFORM


@dataclass(frozen=True, slots=True)
class Terms:
    """What was settled when the job was submitted.

    ``changeover``: the longest that a loss or a move takes from the work: noticing it, starting a machine,
    restoring, and doing again what was done since the last checkpoint. ``tick``: the longest time between two
    decisions. Without a deadline ``work``, ``changeover`` and ``tick`` mean nothing.
    """

    policy: Policy
    started_at: float = 0.0
    work: float = 0.0
    deadline_at: float | None = None
    changeover: float = 0.0
    tick: float = 600.0
    slices: int = 1


@dataclass(frozen=True, slots=True)
class Held:
    """The machines the job has now. ``settled``: they are past their changeover and the task runs."""

    place: str
    spot: bool
    since: float
    settled: bool = True


@dataclass(frozen=True, slots=True)
class Line:
    """Where uniform progress is measured from: at ``at``, with ``done`` seconds of work behind it."""

    at: float
    done: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """An offer, and what is known of it.

    ``blocked_until``: it refused lately, and is not to be asked before. ``lost_at``: when machines were last
    preempted there. ``lifetime``: for how long a machine can be expected to live, None where nobody knows.
    ``moving``: USD to bring the data there.
    """

    offer: Offer
    blocked_until: float = 0.0
    lost_at: float | None = None
    lifetime: float | None = None
    moving: float = 0.0


@dataclass(frozen=True, slots=True)
class Observations:
    """What is known of the job when it is decided on.

    ``done``: seconds of work that cannot be lost. ``last_place``: where its last machines were, and
    ``lost``: they were preempted or died. ``line``: what the last decision gave back. ``spot_changed_at``:
    when spot was last seen to come or go. ``spot_lifetime``: for the simulator's oracle alone.
    """

    held: Held | None = None
    done: float = 0.0
    last_place: str = ""
    lost: bool = False
    line: Line | None = None
    plan: Plan | None = None
    spot_changed_at: float | None = None
    spot_lifetime: float | None = None


class Verb(StrEnum):
    KEEP = "keep"
    """Go on as it is."""
    LAUNCH = "launch"
    """Run on machines of ``offer``; what is held is given up."""
    WAIT = "wait"
    """Hold nothing, and look again."""
    FINISH = "finish"
    """The work is done."""
    GIVE_UP = "give_up"
    """The job ends without success."""


@dataclass(frozen=True, slots=True)
class Decision:
    """``look_again_at``: decide again by then even if nothing happens. ``line``: to be given to the next
    one."""

    action: Verb
    reason: str
    offer: Offer | None = None
    look_again_at: float | None = None
    line: Line | None = None
