"""The head's scheduler: never over-commits, fair among equals, and nobody starves."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from stix.agent.plan import Demand, Gpu, Room, impossible, plan

PATIENCE = 60.0

rooms = st.lists(
    st.builds(
        lambda cpus, gpus, answers: (cpus, gpus, answers),
        st.sampled_from([0.5, 1.0, 2.0, 8.0]),
        st.integers(0, 4),
        st.booleans(),
    ),
    min_size=1,
    max_size=5,
).map(
    lambda nodes: [
        Room(rank, cpus, tuple(Gpu(i, "A100") for i in range(gpus)), answers)
        for rank, (cpus, gpus, answers) in enumerate(nodes)
    ]
)
demands = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0, 8.0]),
        st.sampled_from([0.0, 0.0, 0.1, 0.3, 0.5, 1.0, 2.0]),
        st.sampled_from([0.0, 59.0, 61.0]),
    ),
    max_size=20,
).map(
    lambda entries: [
        Demand(i, n, cpus, gpus, "", waited) for i, (n, cpus, gpus, waited) in enumerate(entries)
    ]
)


def take(
    rooms: list[Room], demand: Demand, ranks: tuple[int, ...], gpus: tuple[tuple[int, ...], ...]
) -> list[Room]:
    """The rooms after a grant, counted independently of the planner."""
    left = {room.rank: room for room in rooms}
    for rank, indices in zip(ranks, gpus, strict=True):
        room = left[rank]
        share = min(demand.gpus, 1.0)
        left[rank] = replace(
            room,
            cpus=room.cpus - demand.cpus,
            gpus=tuple(replace(g, free=g.free - share) if g.index in indices else g for g in room.gpus),
        )
    return list(left.values())


@given(demands, rooms)
def test_plan_never_gives_more_than_there_is(queue, nodes):
    by_id = {demand.job: demand for demand in queue}
    left = nodes
    for assignment in plan(queue, nodes, PATIENCE):
        demand = by_id[assignment.job]
        assert len(set(assignment.ranks)) == demand.num_nodes
        for indices in assignment.gpus:
            assert len(set(indices)) == (0 if demand.gpus == 0 else max(1, int(demand.gpus)))
        left = take(left, demand, assignment.ranks, assignment.gpus)
    for room in left:
        assert room.cpus >= -1e-6
        assert all(gpu.free >= -1e-6 for gpu in room.gpus)


@given(demands, rooms)
def test_equal_jobs_start_in_submit_order(queue, nodes):
    started = {assignment.job for assignment in plan(queue, nodes, PATIENCE)}
    waiting = set()
    for demand in queue:
        shape = (demand.num_nodes, demand.cpus, demand.gpus)
        if demand.job not in started:
            waiting.add(shape)
        else:
            assert shape not in waiting


@given(demands, rooms)
def test_nothing_passes_a_job_that_has_waited_its_patience(queue, nodes):
    started = {assignment.job for assignment in plan(queue, nodes, PATIENCE)}
    for position, demand in enumerate(queue):
        if demand.job not in started and demand.waited >= PATIENCE:
            assert not started & {later.job for later in queue[position:]}
            break


@given(demands, rooms)
@settings(max_examples=60)
def test_every_possible_job_starts_in_the_end_when_running_jobs_finish(queue, nodes):
    nodes = [replace(room, answers=True) for room in nodes]
    queue = [replace(d, waited=0.0) for d in queue if not impossible(d, nodes, len(nodes))]
    waiting, running, now = list(queue), [], 0.0
    for _ in range(len(queue) * 3 + 1):
        left = nodes
        by_id = {demand.job: demand for demand in queue}
        for assignment in running:
            left = take(left, by_id[assignment.job], assignment.ranks, assignment.gpus)
        new = plan([replace(d, waited=now) for d in waiting], left, PATIENCE)
        running += new
        waiting = [d for d in waiting if d.job not in {a.job for a in new}]
        running = running[1:]
        now += 61.0
    assert waiting == []


def test_smaller_job_passes_when_the_bigger_one_is_blocked_for_a_short_time():
    room = [Room(0, 1.0)]
    big, small = Demand(1, 1, 2.0, 0.0, waited=59), Demand(2, 1, 0.5, 0.0)
    assert [a.job for a in plan([big, small], room, PATIENCE)] == [2]
    assert plan([replace(big, waited=60), small], room, PATIENCE) == []


def test_halves_share_one_gpu_when_another_is_free():
    room = [Room(0, 8.0, (Gpu(0, "A100"), Gpu(1, "A100")))]
    halves = [Demand(i, 1, 1.0, 0.5) for i in range(3)]
    granted = [a.gpus[0] for a in plan(halves, room, PATIENCE)]
    assert granted == [(0,), (0,), (1,)]


def test_silent_node_is_used_only_when_the_answering_ones_are_too_few():
    nodes = [Room(0, 1.0, answers=False), Room(1, 1.0)]
    one, two = Demand(1, 1, 1.0, 0.0), Demand(2, 2, 1.0, 0.0)
    assert plan([one, replace(one, job=3)], nodes, PATIENCE)[0].ranks == (1,)
    assert len(plan([one, replace(one, job=3)], nodes, PATIENCE)) == 1
    assert plan([two], nodes, PATIENCE)[0].ranks == (0, 1)


def test_reason_names_the_need_when_a_job_can_never_run():
    nodes = [Room(0, 2.0, (Gpu(0, "NVIDIA A100-SXM4-80GB"),))]
    assert impossible(Demand(1, 1, 2.0, 1.0, "A100"), nodes, 1) == ""
    assert "1.5 GPUs" in impossible(Demand(1, 1, 1.0, 1.5), nodes, 1)
    assert "H100" in impossible(Demand(1, 1, 1.0, 1.0, "H100"), nodes, 1)
    assert "2 nodes" in impossible(Demand(1, 2, 1.0, 0.0), nodes, 1)
    assert impossible(Demand(1, 2, 1.0, 0.0), nodes, 2) == ""
