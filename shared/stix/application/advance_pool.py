"""One bounded step of a pool: look at its workers and at the jobs that want one, decide, and act.

The jobs are one query. What is decided is one conditional write of the pool with the seats it gives; each
launch is a write of its own, with the cluster. A job takes the worker it was given in a step of its own. The
pool ends only after no job has a seat, and after the table says of each worker that it is to go.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stix.application.nudge_job import ask_to_end, nudge
from stix.application.nudge_pool import find_pool
from stix.application.pool_draft import PoolDraft
from stix.application.pool_workers import alive, launch_worker, look_at_workers, take_down
from stix.application.records import child_records, pool_key, put, save, update
from stix.application.runs import failure_reason
from stix.application.take_steps import OVER, take_steps
from stix.application.world import World
from stix.lifecycle.pool import MOST_TROUBLES, pool_status
from stix.model.pool import JobPool, PoolSeat
from stix.model.status import PoolStatus, ReplicaStatus
from stix.pools.decide import decide
from stix.pools.situation import Assign, Decision, Memory, Seat, Terms

__all__ = ["advance_pool", "policy_seats", "record_pool_failure"]

_STEPS = 40
_LEASE_SECONDS = 150.0
"""A step that was begun and not ended is taken again after it: longer than its time-out."""
_LAUNCHES, _ASSIGNMENTS, _WITHDRAWALS = 10, 60, 30
"""Of one step; the rest follows at once."""
_TAKE_SECONDS = 30.0
"""A job that was given a worker and does not take it is told again after it."""
_GRACE_SECONDS = 30.0
_FIRST_RETRY, _LONGEST_RETRY = 10.0, 600.0


def advance_pool(world: World, workspace: str, name: str) -> dict[str, Any]:
    """Step until there is nothing to do now: as ``advance`` of a job."""

    def step() -> float | None:
        pool = find_pool(world, workspace, name)
        if pool is None or pool.ended:
            return OVER
        # The claim: what happens from here on asks for another run, what happened before is seen.
        lease = world.clock.now() + _LEASE_SECONDS
        return _step(world, save(world, pool.changed(asked=False, due_at=lease, steps=pool.steps + 1)))

    return take_steps(world, step, _STEPS)


def _step(world: World, pool: JobPool) -> float | None:
    """Take one step: when to look again, None for at once."""
    draft = PoolDraft(world, pool)
    for key in pool.stale_secrets:
        world.secrets.delete(key)
    draft.change(stale_secrets=())
    take_down(draft)
    look_at_workers(draft)
    seats = child_records(world, PoolSeat, pool.workspace, pool.name)
    if pool.closed:
        for number in sorted({seat.job_id for seat in seats if not seat.ending}):
            ask_to_end(world, pool.workspace, number, grace=_GRACE_SECONDS)
    seats, withdrawn = _withdraw(draft, seats)
    workers = alive(draft.pool)
    decision = decide(_terms(draft), _memory(draft.pool), workers, policy_seats(seats), draft.now)
    assigned = _act(draft, seats, decision)
    if draft.pool.leaving and not seats and not draft.pool.workers:
        return _end(draft)
    written = {(seat.job_id, seat.task): seat for seat in [*withdrawn, *assigned]}
    draft.commit([put(seat) for seat in written.values()])
    launches = min(decision.launch, _LAUNCHES)
    launched = 0
    while launched < launches and launch_worker(draft, decision.reason):
        launched += 1
    if launched < launches:
        draft.commit()  # why not, and when it is tried again
    _tell(draft, seats, assigned)
    more = launched == launches < decision.launch or len(decision.assign) > len(assigned)
    more |= any(one.until is not None and one.until <= draft.now for one in draft.pool.workers)
    return None if more else draft.due_at


def _withdraw(draft: PoolDraft, seats: list[PoolSeat]) -> tuple[list[PoolSeat], list[PoolSeat]]:
    """The seats without the workers that were given and are lost before a run began there; those changed."""
    ready = {one.number for one in draft.pool.workers if one.status is ReplicaStatus.READY}
    found: list[PoolSeat] = []
    changed: list[PoolSeat] = []
    for seat in seats:
        if seat.worker and seat.worker not in ready and not (seat.taken or seat.ending):
            seat = seat.changed(worker=0, cluster_id="")
            if len(changed) < _WITHDRAWALS:
                changed.append(seat)
        found.append(seat)
    return found, changed


def policy_seats(seats: Iterable[PoolSeat]) -> list[Seat]:
    """The seats as the policy sees them."""
    return [
        Seat(
            id=f"{seat.job_id:010d}.{seat.task:04d}",
            needs=seat.needs,
            asked_at=seat.asked_at,
            priority=seat.priority,
            worker=seat.worker,
            began_at=seat.assigned_at,
            seconds=seat.seconds,
            ending=seat.ending,
            avoid=seat.avoid,
        )
        for seat in seats
    ]


def _terms(draft: PoolDraft) -> Terms:
    pool = draft.pool
    paused = draft.now < pool.not_before or pool.troubles >= MOST_TROUBLES
    if paused and pool.not_before > draft.now:
        draft.look_at(pool.not_before)
    # One that goes down keeps what its jobs need, where they may finish, and nothing else.
    least, most = (0, 0 if pool.closed else pool.most) if pool.leaving else (pool.least, pool.most)
    return Terms(
        least=least,
        most=most,
        threshold=pool.threshold,
        upscale_delay=0.0 if pool.leaving else pool.upscale_delay,
        downscale_delay=0.0 if pool.leaving else pool.downscale_delay,
        version=pool.template.version,
        blue_green=pool.mode == "blue_green",
        may_launch=not paused,
    )


def _memory(pool: JobPool) -> Memory:
    return Memory(target=pool.target, above_since=pool.above_since, wanted=pool.wanted)


def _act(draft: PoolDraft, seats: list[PoolSeat], decision: Decision) -> list[PoolSeat]:
    """Take the decision into the draft: the seats that are given a worker."""
    before, memory = draft.pool.target, decision.memory
    if before is not None and before != decision.target:
        draft.say("PoolScaled", f"{before} -> {decision.target} workers: {decision.reason}")
    draft.change(
        target=decision.target,
        above_since=memory.above_since,
        wanted=memory.wanted,
        reason=decision.reason,
        waiting=sum(not seat.worker for seat in seats) - len(decision.assign),
        running=sum(bool(seat.worker) and not seat.ending for seat in seats) + len(decision.assign),
    )
    if decision.look_again_at is not None:
        draft.look_at(decision.look_again_at)
    for remove in decision.remove:
        draft.change_worker(
            remove.worker, status=ReplicaStatus.SHUTTING_DOWN, reason=remove.reason, until=draft.now
        )
        draft.say("PoolWorkerLeaving", f"worker {remove.worker} goes: {remove.reason}", worker=remove.worker)
    status = pool_status(draft.pool)
    if status is not draft.pool.status:
        draft.change(status=status, since=draft.now)
    by_id = {one.id: seat for one, seat in zip(policy_seats(seats), seats, strict=True)}
    return [_given(draft, by_id[one.seat], one) for one in decision.assign[:_ASSIGNMENTS]]


def _given(draft: PoolDraft, seat: PoolSeat, assign: Assign) -> PoolSeat:
    worker = next(one for one in draft.pool.workers if one.number == assign.worker)
    draft.look_at(draft.now + _TAKE_SECONDS)
    return seat.changed(worker=worker.number, cluster_id=worker.cluster_id, assigned_at=draft.now)


def _tell(draft: PoolDraft, seats: list[PoolSeat], assigned: list[PoolSeat]) -> None:
    """Jobs that were given a worker, those that have not taken theirs, and those whose worker is lost."""
    ready = {one.number for one in draft.pool.workers if one.status is ReplicaStatus.READY}
    numbers = {seat.job_id for seat in assigned}
    for seat in seats:
        if not seat.worker or seat.ending:
            continue
        late = not seat.taken and draft.now - seat.assigned_at >= _TAKE_SECONDS
        if not seat.taken:
            draft.look_at(max(seat.assigned_at + _TAKE_SECONDS, draft.now + 5.0))
        if late or seat.worker not in ready:
            numbers.add(seat.job_id)
    for number in sorted(numbers):
        nudge(draft.world, draft.pool.workspace, f"job/{number}")


def _end(draft: PoolDraft) -> float:
    world, pool = draft.world, draft.pool
    if pool.template.secrets_key:
        world.secrets.delete(pool.template.secrets_key)
    draft.change(
        status=PoolStatus.TERMINATED,
        since=draft.now,
        ended_at=draft.now,
        reason="taken down",
        expires_at=draft.now + world.limits.retention_seconds,
    )
    draft.say("PoolEnded", "it is gone")
    draft.commit()
    return draft.due_at


def record_pool_failure(world: World, workspace: str, name: str, failure: dict[str, Any]) -> dict[str, Any]:
    """A step went wrong, however often it was tried: say so, and look again later."""
    now = world.clock.now()
    reason = failure_reason(failure)

    def change(pool: JobPool) -> JobPool | None:
        if pool.ended:
            return None
        wait = min(_LONGEST_RETRY, _FIRST_RETRY * 2 ** min(pool.failures, 10))
        return pool.changed(
            failures=pool.failures + 1, due_at=now + wait, asked=False, reason=f"a step failed: {reason}"
        )

    pool = update(world, JobPool, pool_key(workspace, name), change)
    return {"outcome": "MOVED" if pool is None or pool.ended else "RECORDED"}
