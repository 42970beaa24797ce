"""Which job gets which worker: by priority, then by age, the tightest fit first, with back-fill.

A job that does not fit now reserves a worker. Jobs after it may use that worker only where the reserved one
starts as early as it would have without them: beside it, or before it where estimates say so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from stix.model.pool import Needs
from stix.model.quantities import number_text
from stix.pools.situation import Assign, Room, Seat, Worker

__all__ = ["Reservation", "Seating", "assign", "could_fit", "fits", "needs_text", "queue_order"]

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Reservation:
    """``starts_at``: when the job can begin there by the estimates of those that have it; inf where nobody
    knows. ``beside``: those that need not end for it."""

    seat: Seat
    worker: int
    starts_at: float
    beside: tuple[Seat, ...]


@dataclass(frozen=True, slots=True)
class Seating:
    assigned: tuple[Assign, ...] = ()
    waits: Mapping[str, str] = field(default_factory=dict)
    reserved: Mapping[int, Reservation] = field(default_factory=dict)


def queue_order(seats: Iterable[Seat]) -> list[Seat]:
    """Those that wait, in the order in which they are looked at."""
    waiting = [seat for seat in seats if not seat.worker]
    return sorted(waiting, key=lambda seat: (-seat.priority, seat.asked_at, seat.id))


def could_fit(needs: Needs, room: Room) -> bool:
    """Whether an empty worker would do."""
    return (
        needs.num_nodes <= room.num_nodes
        and needs.cpus <= room.vcpus + _ROUNDING
        and needs.memory_gib <= room.memory_gib + _ROUNDING
        and needs.gpus <= room.gpus + _ROUNDING
        and (not needs.gpus or needs.gpu_name.upper() == room.gpu_name.upper())
    )


def fits(needs: Needs, room: Room, others: Sequence[Seat]) -> bool:
    """Whether there is room beside ``others``. Only workers of one node are shared."""
    if not others:
        return could_fit(needs, room)
    if needs.whole or room.num_nodes > 1 or any(one.needs.whole for one in others):
        return False
    left = replace(
        room,
        vcpus=room.vcpus - sum(one.needs.cpus for one in others),
        memory_gib=room.memory_gib - sum(one.needs.memory_gib for one in others),
        gpus=room.gpus - sum(one.needs.gpus for one in others),
    )
    return could_fit(needs, left)


def assign(workers: Sequence[Worker], seats: Sequence[Seat], version: int, now: float) -> Seating:
    """``workers`` are those that may get jobs, or will: one that is not ready can only be reserved. Those of
    ``version`` are preferred."""
    holders: dict[int, list[Seat]] = {worker.number: [] for worker in workers}
    for seat in seats:
        if seat.worker in holders and not seat.ending:
            holders[seat.worker].append(seat)
    assigned: list[Assign] = []
    waits: dict[str, str] = {}
    reserved: dict[int, Reservation] = {}
    present: dict[int, list[Seat]] = {}
    for ahead, seat in enumerate(queue_order(seats)):
        trial = replace(seat, began_at=now)
        free = [
            worker
            for worker in workers
            if worker.ready
            and fits(seat.needs, worker.room, holders[worker.number])
            and _delays_nobody(trial, worker, reserved.get(worker.number), present.get(worker.number, ()))
        ]
        if free:
            chosen = min(free, key=lambda one: _preference(seat, one, holders[one.number], version))
            passed = f", before {len(waits)} that wait for more" if waits else ""
            assigned.append(Assign(seat.id, chosen.number, f"{needs_text(seat.needs)} fits{passed}"))
            holders[chosen.number].append(trial)
            held = reserved.get(chosen.number)
            if held is not None and not _is_over(trial, held):
                present[chosen.number].append(trial)
            continue
        waits[seat.id] = _why(seat, workers, ahead - len(assigned))
        reservation = _reserve(seat, workers, holders, reserved, now)
        if reservation is not None:
            reserved[reservation.worker] = reservation
            present[reservation.worker] = list(reservation.beside)
    return Seating(tuple(assigned), waits, reserved)


def _delays_nobody(
    trial: Seat, worker: Worker, reservation: Reservation | None, present: Sequence[Seat]
) -> bool:
    """``present``: who will be there when the reserved one begins."""
    if reservation is None or _is_over(trial, reservation):
        return True
    return fits(reservation.seat.needs, worker.room, [*present, trial])


def _is_over(trial: Seat, reservation: Reservation) -> bool:
    """Whether it has ended by the time at which the reserved one can begin, by estimates of both."""
    ends_at = trial.ends_at
    return ends_at is not None and ends_at <= reservation.starts_at < math.inf


def _preference(seat: Seat, worker: Worker, others: Sequence[Seat], version: int) -> tuple[float, ...]:
    room = worker.room
    left = room.gpus - sum(one.needs.gpus for one in others), room.vcpus - sum(o.needs.cpus for o in others)
    return (worker.number == seat.avoid, worker.version != version, *left, room.memory_gib, worker.number)


def _reserve(
    seat: Seat,
    workers: Sequence[Worker],
    holders: Mapping[int, Sequence[Seat]],
    reserved: Mapping[int, Reservation],
    now: float,
) -> Reservation | None:
    """On the worker that can be had first, of those that nobody before it has reserved."""
    found = [
        _wait(seat, worker, holders[worker.number], now)
        for worker in workers
        if worker.number not in reserved and could_fit(seat.needs, worker.room)
    ]
    if not found:
        return None
    return min(found, key=lambda one: one[0])[1]


def _wait(
    seat: Seat, worker: Worker, others: Sequence[Seat], now: float
) -> tuple[tuple[float, ...], Reservation]:
    """When the worker has room by the estimates. One whose end nobody knows comes last; one that takes longer
    than was estimated may end at any moment."""
    staying = sorted(others, key=lambda one: (_end(one, now), one.id))
    starts_at, gone = now if worker.ready else math.inf, 0
    while staying and not fits(seat.needs, worker.room, staying):
        starts_at = max(starts_at, _end(staying.pop(0), now))
        gone += 1
    order = (starts_at, float(gone), float(worker.number == seat.avoid), float(worker.number))
    return order, Reservation(seat, worker.number, starts_at, tuple(staying))


def _end(one: Seat, now: float) -> float:
    return math.inf if one.ends_at is None else max(one.ends_at, now)


def _why(seat: Seat, workers: Sequence[Worker], ahead: int) -> str:
    before = f", {ahead} before it" if ahead else ""
    if not workers:
        return f"there is no worker yet{before}"
    if not any(could_fit(seat.needs, worker.room) for worker in workers):
        known = [one for one in workers if one.room.vcpus]
        if known and not seat.needs.whole:
            return f"no worker has {needs_text(seat.needs)}{before}"
        return f"no worker that fits is there yet{before}"
    return f"every worker that fits is taken{before}"


def needs_text(needs: Needs) -> str:
    """``2x [4 CPU, A100:1]``, or ``a whole worker``."""
    parts = [
        f"{number_text(needs.cpus)} CPU" if needs.cpus else "",
        f"{number_text(needs.memory_gib)} GiB" if needs.memory_gib else "",
        f"{needs.gpu_name}:{number_text(needs.gpus)}" if needs.gpus else "",
    ]
    text = ", ".join(filter(None, parts)) or "a whole worker"
    return text if needs.num_nodes == 1 else f"{needs.num_nodes}x [{text}]"
