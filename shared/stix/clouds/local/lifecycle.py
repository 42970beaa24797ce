"""A local machine's state and what must be done about it: a pure function of what was written and seen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from stix.ports.compute import MachineState

__all__ = ["Seen", "Step", "Verdict", "Wanted", "judge"]


class Wanted(StrEnum):
    """What the control plane asked for last."""

    RUNNING = "running"
    STOPPED = "stopped"
    TERMINATED = "terminated"


class Step(StrEnum):
    NOTHING = "nothing"
    KILL = "kill"
    """SIGKILL to everything that is left."""
    RELEASE = "release"
    """Give back GPUs and control groups; the folder stays."""
    REMOVE = "remove"
    """Give back everything and delete the folder."""


@dataclass(frozen=True, slots=True)
class Seen:
    """``alive``: the machine's own process runs. ``others``: other processes that belong to it."""

    alive: bool
    others: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    state: MachineState
    step: Step = Step.NOTHING
    reason: str = ""


def judge(wanted: Wanted, *, launched: bool, seen: Seen, escalate_at: float | None, now: float) -> Verdict:
    """``escalate_at``: until then a machine that was told to end may end by itself."""
    match wanted:
        case Wanted.RUNNING:
            return _judge_running(launched, seen)
        case Wanted.STOPPED:
            return _judge_ending(
                MachineState.STOPPING, MachineState.STOPPED, Step.RELEASE, seen, escalate_at, now
            )
        case Wanted.TERMINATED:
            return _judge_ending(
                MachineState.TERMINATING, MachineState.TERMINATED, Step.REMOVE, seen, escalate_at, now
            )
        case _:
            assert_never(wanted)


def _judge_running(launched: bool, seen: Seen) -> Verdict:
    if seen.alive:
        return Verdict(MachineState.RUNNING)
    if seen.others:
        # Its init is gone: what is left would run on with nobody to end it.
        return Verdict(MachineState.STOPPING, Step.KILL, "the machine process ended")
    if not launched:
        return Verdict(MachineState.PENDING, reason="the machine process has not been started yet")
    return Verdict(MachineState.STOPPED, Step.RELEASE, "the machine process ended")


def _judge_ending(
    ending: MachineState, ended: MachineState, last: Step, seen: Seen, escalate_at: float | None, now: float
) -> Verdict:
    if not seen.alive and not seen.others:
        return Verdict(ended, last)
    if seen.alive and escalate_at is not None and now < escalate_at:
        return Verdict(ending)
    return Verdict(ending, Step.KILL)
