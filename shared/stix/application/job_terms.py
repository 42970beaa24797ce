"""On what terms each task of a managed job runs: its policy, and with a deadline its share of the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from stix.application.job_offers import TICK_SECONDS
from stix.model.dag import Dag
from stix.model.durations import DurationByAccelerator
from stix.model.errors import InvalidInputError
from stix.model.task import Task
from stix.recovery.decide import can_meet
from stix.recovery.situation import (
    DEFAULT_WITH_DEADLINE,
    DEFAULT_WITHOUT_DEADLINE,
    Policy,
    Terms,
    read_policy,
)

__all__ = ["JobTerms", "TaskTerms", "job_terms"]

_CHANGEOVER_SECONDS = 600.0
_CHECKPOINT_SECONDS = 300.0
_WITHOUT_DEADLINE = (Policy.EAGER_NEXT_REGION, Policy.FAILOVER, Policy.NONE)


@dataclass(frozen=True, slots=True)
class TaskTerms:
    """``work``, ``changeover`` and ``checkpoint_seconds`` in seconds; ``deadline_at`` in epoch seconds."""

    policy: str
    work: float
    deadline_at: float | None
    changeover: float
    checkpoint_seconds: float


@dataclass(frozen=True, slots=True)
class JobTerms:
    """``deadline_at`` is that of the whole."""

    deadline_at: float | None
    tasks: tuple[TaskTerms, ...]


def job_terms(dag: Dag, tasks: Sequence[Task], now: float) -> JobTerms:
    """The terms of each task, from ``now`` on. A task must leave those after it the time that they need.

    Raises ``InvalidInputError`` for a strategy that does not go with the deadline or its absence, for a
    deadline without an estimate, and for one that on-demand machines alone could not meet for certain.
    """
    whole = None if dag.deadline is None else dag.deadline.epoch(now)
    labels = [dag.label(index) for index in range(len(tasks))]
    has_deadline = [whole is not None or task.deadline is not None for task in tasks]
    work = [_work(task) for task in tasks]
    change = [_changeover(task) for task in tasks]
    order = dag.topological_order()
    parents = {index: [edge.parent for edge in dag.parents(index)] for index in order}
    after = dict.fromkeys(order, 0.0)
    for index in reversed(order):
        for parent in parents[index]:
            after[parent] = max(after[parent], after[index] + (work[index] or 0.0) + change[index])
    before = dict.fromkeys(order, 0.0)
    terms: dict[int, TaskTerms] = {}
    for index in order:
        task, label = tasks[index], labels[index]
        for parent in parents[index]:
            before[index] = max(before[index], before[parent] + (work[parent] or 0.0) + change[parent])
        moments = [] if whole is None else [whole - after[index]]
        moments += [] if task.deadline is None else [task.deadline.epoch(now)]
        deadline_at = min(moments, default=None)
        policy = _policy(task, label, deadline=has_deadline[index])
        if deadline_at is not None:
            _check(policy, label, work[index], before[index], change[index], deadline_at, now)
        interval = task.resources.job_recovery and task.resources.job_recovery.checkpoint_interval
        checkpoint = float(interval or _CHECKPOINT_SECONDS)
        terms[index] = TaskTerms(policy, work[index] or 0.0, deadline_at, change[index], checkpoint)
    if whole is None and len(tasks) == 1:
        whole = terms[0].deadline_at
    return JobTerms(whole, tuple(terms[index] for index in range(len(tasks))))


def _work(task: Task) -> float | None:
    """The longest that it is estimated to take on any machine that will do."""
    estimate = task.estimated_duration
    if not isinstance(estimate, DurationByAccelerator):
        return None if estimate is None else float(estimate)
    found = []
    for one in task.resources.alternatives():
        accelerator = one.accelerator
        name, count = ("", 0.0) if accelerator is None else (accelerator.name, accelerator.count)
        found.append(estimate.of(name, count))
    return max((float(seconds) for seconds in found if seconds is not None), default=None)


def _changeover(task: Task) -> float:
    recovery = task.resources.job_recovery
    return float((recovery and recovery.changeover) or _CHANGEOVER_SECONDS)


def _policy(task: Task, label: str, *, deadline: bool) -> str:
    """As people write it, with its slices."""
    recovery = task.resources.job_recovery
    given = None if recovery is None else recovery.strategy
    if given is None:
        return DEFAULT_WITH_DEADLINE if deadline else DEFAULT_WITHOUT_DEADLINE
    policy, _ = read_policy(given)
    if deadline is (policy in _WITHOUT_DEADLINE):
        words = "knows no deadline, and there is one" if deadline else "needs a deadline, and there is none"
        others = [one.value for one in _WITHOUT_DEADLINE] if not deadline else ["late-uniform", "greedy"]
        raise InvalidInputError(
            f"{label}: job_recovery.strategy: {given!r} {words}.",
            hint=f"Leave it out, or write one of: {', '.join(others)}.",
            details={"field": "resources.job_recovery.strategy", "value": given},
        )
    return given


def _check(
    policy: str,
    label: str,
    work: float | None,
    before: float,
    changeover: float,
    deadline_at: float,
    now: float,
) -> None:
    if work is None:
        raise InvalidInputError(
            f"{label}: deadline: how long it takes is not said.",
            hint="Add estimated_duration: to the task, such as 6h.",
            details={"field": "estimated_duration"},
        )
    terms = Terms(read_policy(policy)[0], now, before + work, deadline_at, changeover, TICK_SECONDS)
    meeting = can_meet(terms, now)
    if not meeting.possible:
        first = datetime.fromtimestamp(meeting.earliest, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        raise InvalidInputError(
            f"{label}: deadline: it cannot be met for certain: {meeting.reason}.",
            hint=f"Write {first} or later, or lower estimated_duration or job_recovery.changeover.",
            code="deadline_too_early",
            details={"field": "deadline", "earliest": meeting.earliest},
        )
