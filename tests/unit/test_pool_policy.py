"""The policy of pools: fit, priority, back-fill, size and updates."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from stix.model.pool import Needs
from stix.pools.assign import assign, could_fit, fits, queue_order
from stix.pools.decide import decide
from stix.pools.situation import Memory, Room, Seat, Terms, Worker
from stix.pools.size import change_workers

NOW = 1000.0
SMALL, BIG = Room(4, 16), Room(16, 64, 4, "A100")
FIXED = Terms(least=2, most=2, threshold=1, upscale_delay=0, downscale_delay=0, version=1)


def part(cpus: float, **fields: float | str) -> Needs:
    return Needs(whole=False, cpus=cpus, **fields)


def worker(number: int, room: Room = SMALL, version: int = 1, *, ready: bool = True) -> Worker:
    return Worker(number, version, room, ready)


def seat(name: str, needs: Needs | None = None, **fields: object) -> Seat:
    return Seat(name, needs or Needs(), **{"asked_at": 0.0, **fields})


def seated(workers: list[Worker], seats: list[Seat]) -> dict[str, int]:
    return {one.seat: one.worker for one in assign(workers, seats, 1, NOW).assigned}


def test_job_gets_the_tightest_worker_that_fits():
    assert seated([worker(1, BIG), worker(2)], [seat("a", part(2))]) == {"a": 2}
    assert seated([worker(1, BIG), worker(2)], [seat("a", part(8))]) == {"a": 1}


def test_higher_priority_goes_first_then_the_older_job():
    seats = [seat("old"), seat("new", asked_at=5.0), seat("urgent", asked_at=9.0, priority=10)]
    assert seated([worker(1)], seats) == {"urgent": 1}
    assert [one.id for one in queue_order(seats)] == ["urgent", "old", "new"]


def test_jobs_share_a_worker_when_their_parts_fit():
    seats = [seat("a", part(2)), seat("b", part(2)), seat("c", part(1))]
    assert seated([worker(1)], seats) == {"a": 1, "b": 1}


def test_worker_is_not_shared_when_a_job_names_no_size():
    assert seated([worker(1)], [seat("a"), seat("b", part(1))]) == {"a": 1}


def test_gpus_of_another_kind_do_not_fit():
    needs = part(1, gpus=1.0, gpu_name="H100")
    assert seated([worker(1, BIG)], [seat("a", needs)]) == {}
    assert seated([worker(1, BIG)], [seat("a", needs.model_copy(update={"gpu_name": "a100"}))]) == {"a": 1}


def test_small_job_passes_a_big_one_when_there_is_another_worker():
    held = seat("held", part(3), worker=1)
    big = seat("big", part(4), priority=1)
    # The big one waits for worker 2, where nobody's end is known either, but nobody is: it takes it.
    assert seated([worker(1), worker(2)], [held, big, seat("small", part(1))]) == {"big": 2, "small": 1}


def test_small_job_does_not_pass_a_big_one_when_it_would_delay_it():
    held = seat("held", part(2), worker=1, began_at=NOW - 10, seconds=110.0)
    big = seat("big", part(4), priority=1)
    late, soon = seat("late", part(1), seconds=200.0), seat("soon", part(1), seconds=90.0)
    assert seated([worker(1)], [held, big, late]) == {}
    assert seated([worker(1)], [held, big, seat("unknown", part(1))]) == {}
    assert seated([worker(1)], [held, big, soon]) == {"soon": 1}


def test_small_job_passes_a_big_one_when_it_fits_beside_it():
    held = seat("held", part(3), worker=1)
    big = seat("big", part(2), priority=1)
    assert seated([worker(1)], [held, big, seat("a", part(1)), seat("b", part(1))]) == {"a": 1}


def test_job_goes_back_to_a_worker_it_failed_on_only_when_no_other_is_free():
    again = seat("again", avoid=1)
    assert seated([worker(1), worker(2)], [again]) == {"again": 2}
    assert seated([worker(1)], [again]) == {"again": 1}


def test_job_that_is_ending_holds_nothing_and_keeps_its_worker():
    ending = seat("ending", worker=1, ending=True)
    found = decide(replace(FIXED, least=0, most=0), Memory(), [worker(1)], [ending], NOW)
    assert found.remove == ()
    assert seated([worker(1)], [ending, seat("next")]) == {"next": 1}


def test_waiting_says_what_is_missing():
    waits = assign([worker(1)], [seat("a", part(9)), seat("b", part(2))], 1, NOW).waits
    assert waits == {"a": "no worker has 9 CPU"}
    assert assign([], [seat("a")], 1, NOW).waits == {"a": "there is no worker yet"}


def test_pool_of_fixed_size_launches_what_lacks_and_removes_what_is_idle():
    assert decide(FIXED, Memory(), [], [], NOW).launch == 2
    three = [worker(1), worker(2), worker(3)]
    found = decide(FIXED, Memory(), three, [seat("a", worker=3), seat("b", worker=1)], NOW)
    assert [one.worker for one in found.remove] == [2]


def test_busy_worker_is_kept_and_gets_no_more_jobs_when_it_is_one_too_many():
    found = decide(
        replace(FIXED, least=0, most=0), Memory(), [worker(1)], [seat("a", part(1), worker=1), seat("b")], NOW
    )
    assert (found.remove, found.assign, found.launch) == ((), (), 0)


GROWING = Terms(least=0, most=5, threshold=2, upscale_delay=60, downscale_delay=120, version=1)


def test_pool_grows_at_once_from_nothing_and_later_after_its_delay():
    queue = [seat(str(number)) for number in range(6)]
    first = decide(GROWING, Memory(), [], queue, NOW)
    assert (first.target, first.launch) == (3, 3)
    one = decide(GROWING, replace(Memory(), target=1), [worker(1)], queue, NOW)
    assert (one.target, one.look_again_at) == (1, NOW + 60)
    later = decide(GROWING, one.memory, [worker(1)], queue, NOW + 60)
    assert (later.target, later.launch) == (3, 2)


def test_pool_shrinks_after_its_delay_and_never_below_those_with_jobs():
    workers = [worker(1), worker(2), worker(3)]
    held = [seat("a", worker=2)]
    first = decide(GROWING, replace(Memory(), target=3), workers, held, NOW)
    assert (first.target, first.remove, first.look_again_at) == (3, (), NOW + 120)
    later = decide(GROWING, first.memory, workers, held, NOW + 120)
    assert later.target == 1
    assert [one.worker for one in later.remove] == [3, 1]


def test_rolling_update_replaces_workers_a_few_at_a_time():
    terms = replace(FIXED, least=4, most=4, version=2)
    old = [worker(number) for number in (1, 2, 3, 4)]
    assert change_workers(terms, old, [], 4).launch == 1
    coming = [*old, worker(5, version=2, ready=False)]
    assert change_workers(terms, coming, [], 4) == change_workers(terms, coming, [1], 4)
    assert change_workers(terms, coming, [], 4).launch == 0
    ready = [*old, worker(5, version=2)]
    found = change_workers(terms, ready, [4, 3, 2], 4)
    assert [one.worker for one in found.remove] == [1]
    assert found.launch == 1
    # All have jobs: one gets no more, and goes when they have ended.
    busy = change_workers(terms, ready, [1, 2, 3, 4], 4)
    assert (busy.remove, len(busy.closed), busy.launch) == ((), 1, 0)


def test_blue_green_update_switches_when_all_new_workers_are_ready():
    terms = replace(FIXED, version=2, blue_green=True)
    old = [worker(1), worker(2)]
    first = change_workers(terms, old, [1], 2)
    assert (first.launch, first.remove, first.closed) == (2, (), frozenset())
    half = [*old, worker(3, version=2), worker(4, version=2, ready=False)]
    assert change_workers(terms, half, [1], 2).remove == ()
    whole = [*old, worker(3, version=2), worker(4, version=2)]
    found = change_workers(terms, whole, [1], 2)
    assert [one.worker for one in found.remove] == [2]
    assert found.closed == {1}


ROOMS = st.sampled_from([SMALL, BIG, Room(8, 32, 2, "A100"), Room(4, 16, num_nodes=2)])
NEEDS = st.one_of(
    st.just(Needs()),
    st.builds(lambda n: Needs(num_nodes=n), st.integers(1, 3)),
    st.builds(lambda c, m: part(c, memory_gib=m), st.integers(1, 12), st.integers(0, 40)),
    st.builds(lambda g: part(1, gpus=g, gpu_name="A100"), st.sampled_from([0.5, 1.0, 2.0, 4.0])),
)


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[Worker], list[Seat]]:
    """Some workers, some with jobs that fit on them, and a queue."""
    workers = [
        worker(number, draw(ROOMS), draw(st.integers(1, 2)), ready=draw(st.integers(0, 4)) > 0)
        for number in range(1, draw(st.integers(0, 5)) + 1)
    ]
    seats: list[Seat] = []
    seconds = st.one_of(st.none(), st.floats(1, 500))
    for number in range(draw(st.integers(0, 14))):
        one = seat(
            f"{number:02d}",
            draw(NEEDS),
            asked_at=float(draw(st.integers(0, 3))),
            priority=draw(st.integers(-1, 1)),
            seconds=draw(seconds),
            avoid=draw(st.integers(0, 2)),
        )
        on = draw(st.integers(0, len(workers)))
        if on and workers[on - 1].ready:
            others = [other for other in seats if other.worker == on]
            if fits(one.needs, workers[on - 1].room, others):
                one = replace(one, worker=on, began_at=NOW - draw(st.floats(0, 300)))
        seats.append(one)
    return workers, seats


@given(situations())
@settings(max_examples=400)
def test_no_worker_is_given_more_than_it_has(given_):
    workers, seats = given_
    placed = {one.seat: one.worker for one in assign(workers, seats, 1, NOW).assigned}
    after = [replace(one, worker=placed.get(one.id, one.worker)) for one in seats]
    for one in workers:
        there = [other for other in after if other.worker == one.number]
        for index, last in enumerate(there):
            assert fits(last.needs, one.room, there[:index] + there[index + 1 :])
        assert one.ready or not there


@given(situations(), st.data())
@settings(max_examples=400)
def test_job_changes_nothing_for_those_before_it(given_, data):
    """What comes later in the queue never moves, delays or helps what comes earlier."""
    workers, seats = given_
    queue = queue_order(seats)
    if not queue:
        return
    cut = data.draw(st.integers(0, len(queue) - 1))
    later = {one.id for one in queue[cut:]}
    whole = assign(workers, seats, 1, NOW)
    part_ = assign(workers, [one for one in seats if one.id not in later], 1, NOW)
    assert [one for one in whole.assigned if one.seat not in later] == list(part_.assigned)
    for number, reservation in part_.reserved.items():
        assert whole.reserved[number] == reservation


@given(situations())
@settings(max_examples=400)
def test_reserved_job_begins_as_early_as_without_those_that_passed_it(given_):
    workers, seats = given_
    found = assign(workers, seats, 1, NOW)
    placed = {one.seat: one.worker for one in found.assigned}
    before = [one.id for one in queue_order(seats)]
    rooms = {one.number: one.room for one in workers}
    for number, held in found.reserved.items():
        passed = [
            replace(one, began_at=NOW)
            for one in seats
            if placed.get(one.id) == number and before.index(one.id) > before.index(held.seat.id)
        ]
        left = [one for one in passed if one.ends_at is None or one.ends_at > held.starts_at]
        if math.isinf(held.starts_at):
            left = passed
        assert fits(held.seat.needs, rooms[number], [*held.beside, *left])


@given(situations())
@settings(max_examples=400)
def test_job_waits_only_when_every_worker_that_fits_is_full_or_reserved(given_):
    workers, seats = given_
    found = assign(workers, seats, 1, NOW)
    placed = {one.seat: one.worker for one in found.assigned}
    after = [replace(one, worker=placed.get(one.id, one.worker)) for one in seats]
    for one in queue_order(seats):
        if one.id in placed:
            continue
        assert one.id in found.waits
        for there in workers:
            others = [other for other in after if other.worker == there.number]
            free = there.ready and there.number not in found.reserved
            assert not (free and fits(one.needs, there.room, others))


@given(situations(), st.integers(0, 6), st.integers(0, 6), st.booleans(), st.floats(0, 200))
@settings(max_examples=400)
def test_decision_removes_no_worker_with_a_job_and_keeps_its_bounds(given_, least, more, blue_green, delay):
    workers, seats = given_
    terms = Terms(least, least + more, 1, delay, delay, version=2, blue_green=blue_green)
    found = decide(terms, Memory(), workers, seats, NOW)
    held = {one.worker for one in seats if one.worker}
    removed = {one.worker for one in found.remove}
    assert not removed & held
    assert not removed & {one.worker for one in found.assign}
    assert terms.least <= found.target <= terms.most
    alive = len(workers) - len(removed) + found.launch
    most = found.target + max(1, math.ceil(found.target / 4))
    new = sum(one.version == 2 for one in workers if one.number not in removed) + found.launch
    assert new <= max(found.target, sum(one.version == 2 for one in workers))
    assert blue_green or alive <= max(most, len(workers))
    ready = {one.number for one in workers if one.ready} - removed
    assert blue_green or len(ready) >= min(found.target, sum(one.ready for one in workers))


@given(situations(), st.booleans())
@settings(max_examples=100)
def test_update_ends_with_workers_of_the_new_version_alone(given_, blue_green):
    """Every job ends sometime, every worker becomes ready sometime: then nothing old is left."""
    workers, _ = given_
    terms = Terms(3, 3, 1, 0, 0, version=2, blue_green=blue_green)
    memory = Memory()
    for _ in range(40):
        found = decide(terms, memory, workers, [], NOW)
        memory = found.memory
        gone = {one.worker for one in found.remove}
        top = max([one.number for one in workers], default=0)
        fresh = [worker(top + 1 + more, version=2, ready=False) for more in range(found.launch)]
        workers = [replace(one, ready=True) for one in workers if one.number not in gone] + fresh
    assert [one.version for one in workers] == [2, 2, 2]


def test_could_fit_says_whether_an_empty_worker_would_do():
    assert could_fit(Needs(num_nodes=2), Room(4, 16, num_nodes=2))
    assert not could_fit(Needs(num_nodes=2), SMALL)
