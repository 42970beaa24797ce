"""What a pool does next: one pure function of its workers and of the jobs that wait for one or have one."""

from __future__ import annotations

from collections.abc import Sequence

from stix.pools.assign import assign
from stix.pools.situation import Decision, Memory, Seat, Terms, Worker
from stix.pools.size import change_workers, settle_target

__all__ = ["decide"]


def decide(
    terms: Terms, memory: Memory, workers: Sequence[Worker], seats: Sequence[Seat], now: float
) -> Decision:
    """``workers``: those that live or are on their way. Jobs whose worker is not among them are not waiting:
    they learn of their loss themselves.

    No job is taken from a worker, no worker with a job is removed, and none is given more than it has.
    """
    busy = {seat.worker for seat in seats if seat.worker} & {one.number for one in workers}
    waiting = sum(not seat.worker for seat in seats)
    settled, reason = settle_target(terms, memory, len(busy), waiting, now)
    change = change_workers(terms, workers, busy, settled.target)
    gone = {one.worker for one in change.remove} | change.closed
    seating = assign([one for one in workers if one.number not in gone], seats, terms.version, now)
    return Decision(
        target=settled.target,
        reason=reason,
        memory=settled.memory,
        assign=seating.assigned,
        waits=seating.waits,
        launch=change.launch,
        remove=change.remove,
        look_again_at=settled.due,
    )
