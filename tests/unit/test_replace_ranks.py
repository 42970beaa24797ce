"""``replace: failed``: of a gang that loses machines only those are replaced, or it moves and says why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stix.adapters.sqlite import SqliteStateStore
from stix.application import agents, join_nodes, logs, sweep, undo_attempt
from stix.application.end_machines import end_replaced
from stix.application.join_nodes import GoneError
from stix.application.rebuild import start_rebuild
from stix.application.records import child_records
from stix.application.sweep_orphans import sweep_place
from stix.application.tokens import authenticate
from stix.model.cluster import Cluster
from stix.model.errors import ForbiddenError, NoCapacityError
from stix.model.ledger import LedgerEntry
from stix.model.managed_job import JobEvent
from stix.model.status import ClusterStatus, IntentStatus, ManagedJobStatus, Wanted
from stix.ports.compute import MachineState
from stix.recovery.replacement import Gang, decide_replacement
from stix.recovery.situation import Candidate, Observations, Policy, Terms
from tests.unit.managed_jobs import JobsPlane
from tests.unit.world import ANN, FAKE_FACTS, WORKSPACE, offer

S = ManagedJobStatus
HERE = offer("a", 1.0, spot=True)
GANG = {"num_nodes": 2, "resources": {"use_spot": True, "job_recovery": {"replace": "failed"}}}


@pytest.fixture
def plane(tmp_path):
    made = JobsPlane(tmp_path)
    yield made
    made.close()


def machines(plane: JobsPlane, cluster: Cluster) -> list[str]:
    """Those of its nodes, by rank."""
    return [node.machine_id for node in plane.nodes(cluster)]


def lose(plane: JobsPlane, cluster: Cluster, rank: int = 1) -> str:
    """A machine is gone without a word, and the run with it."""
    machine = machines(plane, cluster)[rank]
    plane.compute.become(machine, MachineState.TERMINATED, "reclaimed", ended_at=plane.clock.now())
    plane.tell(cluster, "FAILED_DRIVER")
    return machine


def tell_log(plane: JobsPlane, cluster: Cluster, job: int = 1) -> None:
    """Rank 1 has told all of a run's log, as rank 0 has with its end."""
    end = {"job": job, "rank": 1, "chunks": 0, "bytes": {}, "sha256": {}}
    logs.ship(plane.world, plane.node_principal(cluster, 1), {"finished": [end]})
    plane.settle()


def notice(plane: JobsPlane, cluster: Cluster, rank: int = 1, seconds: float = 120.0) -> None:
    told = {"kind": "preemption", "at": plane.clock.now() + seconds}
    agents.take_notice(plane.world, WORKSPACE, cluster.id, rank, told)
    plane.settle()


def come_up(plane: JobsPlane, cluster: Cluster, *ranks: int) -> Cluster:
    """The machines of the ranks are made, join, and the run begins on all."""
    assert plane.rank(cluster) == "RANKED"
    assert plane.create(cluster) == "CREATED"
    plane.await_join(cluster, f"token-{len(plane.compute.requests)}")
    for number, rank in enumerate(ranks):
        assert not plane.workflows.answers.get(f"token-{len(plane.compute.requests)}")
        assert plane.join(cluster, number, address=f"10.9.0.{rank}")["rank"] == rank
    assert plane.workflows.answers[f"token-{len(plane.compute.requests)}"] == ("succeeded", "")
    assert plane.hand_over(cluster) == "UP"
    plane.settle()
    plane.tell(cluster, "RUNNING")
    return plane.by_id(cluster)


def reasons(plane: JobsPlane, name: str) -> list[str]:
    events = child_records(plane.world, JobEvent, WORKSPACE, f"{1:010d}")
    return [event.reason for event in events if event.name == name]


def machine_seconds(plane: JobsPlane, cluster: Cluster) -> float:
    entries = child_records(plane.world, LedgerEntry, WORKSPACE, cluster.id)
    now = plane.clock.now()
    return sum(entry.count * ((entry.ended_at or now) - entry.started_at) for entry in entries)


@pytest.mark.parametrize("rank", [0, 1])
def test_only_the_lost_rank_gets_a_machine_when_it_is_gone(plane, rank):
    first = plane.run_job(GANG)
    before, task_id = machines(plane, first), plane.task().task_id
    plane.pass_time(100)
    lost = lose(plane, first, rank)
    task = plane.task()
    assert (task.status, task.cluster_id, task.recoveries) == (S.RECOVERING, first.id, 1)
    assert plane.by_id(first).status is ClusterStatus.INIT
    here = "fake/north/a"
    assert reasons(plane, "JobRecovering") == [
        f"rank {rank} is replaced in {here}: 1 of its 2 machines stays"
    ]
    plane.pass_time(50)
    cluster = come_up(plane, first, rank)
    [_, asked] = plane.compute.requests
    assert (asked.count, asked.offer.zone, asked.offer.spot) == (1, "a", True)
    after = machines(plane, cluster)
    assert after[1 - rank] == before[1 - rank]
    assert after[rank] not in before
    task = plane.task()
    assert (task.status, task.launches, task.runs, task.task_id) == (S.RUNNING, 1, 2, task_id)
    assert task.replacing == ()
    assert reasons(plane, "JobRecovered") == [f"replaced rank {rank} in {here}; it runs on spot machines"]
    # The head hears of the new run alone, and everybody of the new address.
    told = plane.commands(cluster)
    assert [one["job"]["id"] for one in told["commands"] if one["type"] == "run"] == [2]
    assert told["peers"][rank]["address"] == f"10.9.0.{rank}"
    # 100 s of two machines, then one; 50 s later another.
    plane.pass_time(200)
    assert machine_seconds(plane, cluster) == 200 + 250 + 200
    plane.tell(cluster, "SUCCEEDED", exit_codes=[0, 0])
    tell_log(plane, cluster, 2)
    assert plane.managed().status is S.SUCCEEDED
    assert lost not in plane.compute.alive()


def test_run_is_ended_on_all_machines_before_a_noticed_one_is_replaced(plane):
    first = plane.run_job(GANG)
    old = machines(plane, first)
    notice(plane, first)
    assert plane.job(first).cancel_requested
    assert plane.by_id(first).status is ClusterStatus.UP
    assert plane.task().replace_by == plane.clock.now() + 120
    plane.tell(first, "CANCELLED")
    # Rank 0 has told all of its log; the machine that goes has not.
    assert plane.by_id(first).status is ClusterStatus.UP
    assert plane.nodes(first)[1].token_hash
    tell_log(plane, first)
    cluster = plane.by_id(first)
    assert (cluster.status, cluster.replacing) == (ClusterStatus.INIT, (1,))
    assert plane.nodes(cluster)[1].token_hash == ""
    assert plane.compute.state(old[1]) is MachineState.TERMINATED
    assert plane.compute.state(old[0]) is MachineState.RUNNING
    come_up(plane, cluster, 1)
    assert plane.task().status is S.RUNNING
    assert reasons(plane, "JobPreempted") == [f"the cloud takes {old[1]}"]


def test_machine_is_replaced_at_the_end_of_its_notice_when_its_run_tells_nothing(plane):
    first = plane.run_job(GANG)
    notice(plane, first, seconds=60)
    plane.pass_time(61)
    plane.sweep()
    plane.sweep()
    assert plane.by_id(first).replacing == (1,)
    assert str(plane.job(first).status) == "FAILED_DRIVER"


def test_job_has_succeeded_when_its_run_gets_done_within_the_notice(plane):
    first = plane.run_job(GANG)
    notice(plane, first)
    plane.tell(first, "SUCCEEDED", exit_codes=[0, 0])
    assert plane.managed().tasks[0].status is S.SUCCEEDED
    assert len(plane.compute.requests) == 1


def test_old_machine_is_gone_for_the_table_when_another_has_its_rank(plane):
    first = plane.run_job(GANG)
    plane.compute.lag = 30.0
    old, gang = machines(plane, first), plane.compute.requests[-1]
    notice(plane, first, seconds=1)
    plane.pass_time(2)
    plane.sweep()
    plane.sweep()
    cluster = plane.by_id(first)
    assert (cluster.replacing, cluster.dropping) == ((1,), True)
    request = {"machine_id": old[1], "address": "10.0.0.1", "peer_port": 7001}
    with pytest.raises(GoneError):
        join_nodes.join(plane.world, gang.join_token, request)
    # The one that stays may join again, as after a restart of its agent.
    again = join_nodes.join(plane.world, gang.join_token, request | {"machine_id": old[0]})
    assert again["rank"] == 0
    assert authenticate(plane.world, again["node_token"]) is not None
    come_up(plane, cluster, 1)
    assert plane.by_id(cluster).dropping
    plane.pass_time(31)
    sweep.sweep(plane.world)
    assert not plane.by_id(cluster).dropping
    [before, _] = plane.intents(cluster)
    assert (before.machine_ids, before.ranks, before.dropped) == ((old[0],), (0,), ())


def test_creation_ends_when_none_of_its_machines_is_left(plane):
    first = plane.run_job(GANG)
    lose(plane, first, 1)
    second = come_up(plane, first, 1)
    plane.pass_time(10)
    end_replaced(plane.world, second)
    lose(plane, second, 1)
    third = come_up(plane, second, 1)
    end_replaced(plane.world, third)
    assert [one.status for one in plane.intents(third)] == [
        IntentStatus.CREATED,
        IntentStatus.ENDED,
        IntentStatus.CREATED,
    ]
    assert plane.task().recoveries == 2


def test_gang_moves_whole_when_the_place_has_no_room_for_the_rank(plane):
    first = plane.run_job(GANG)
    lose(plane, first)
    plane.compute.refusals = [NoCapacityError("full")]
    assert plane.rank(first) == "RANKED"
    assert plane.create(first) == "REFUSED"
    assert plane.create(plane.by_id(first)) == "EXHAUSTED"
    assert undo_attempt.give_up(plane.world, WORKSPACE, first.id)["outcome"] == "GAVE_UP"
    plane.settle()
    words = "rank 1 could not be replaced in fake/north/a: full: the gang moves whole"
    assert reasons(plane, "JobMoving") == [words]
    task = plane.task()
    assert (task.cluster_id == first.id, task.launches, plane.place()) == (False, 2, "b")
    assert (task.refusals, task.recoveries, task.replacing) == (0, 1, ())
    assert plane.by_id(first).wanted is Wanted.ABSENT
    plane.start_cluster()
    assert plane.compute.requests[-1].count == 2
    assert plane.task().status is S.RUNNING


def test_gang_moves_whole_when_the_new_machine_does_not_join(plane):
    first = plane.run_job(GANG)
    lose(plane, first)
    assert plane.rank(first) == "RANKED"
    assert plane.create(first) == "CREATED"
    failure = {"Error": "States.Timeout"}
    undone = undo_attempt.undo(plane.world, WORKSPACE, first.id, failure, attempt=1)
    assert undone["outcome"] == "UNDONE"
    assert [node.rank for node in plane.nodes(first)] == [0]
    assert plane.create(plane.by_id(first)) == "EXHAUSTED"
    undo_attempt.give_up(plane.world, WORKSPACE, first.id)
    plane.settle()
    assert "did not join" in reasons(plane, "JobMoving")[0]
    assert plane.place() == "b"


def test_gang_moves_whole_when_another_machine_is_lost_meanwhile(plane):
    first = plane.run_job(GANG)
    lose(plane, first, 1)
    notice(plane, first, 0)
    words = "a machine was lost while rank 1 had to be replaced: the gang moves whole"
    assert reasons(plane, "JobMoving") == [words]
    assert plane.place() == "b"


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"job_recovery": {"replace": "failed"}}, "no machine of it is left in fake/north/a"),
        ({"job_recovery": {"replace": "failed", "strategy": "none"}}, "its strategy is none"),
    ],
)
def test_gang_moves_whole_when_nothing_can_stay(plane, task, words):
    first = plane.run_job(GANG | {"resources": {"use_spot": True} | task})
    if "none" not in words:
        plane.compute.become(machines(plane, first)[0], MachineState.TERMINATED, "reclaimed")
    lose(plane, first)
    assert reasons(plane, "JobMoving") == [f"{words}: the gang moves whole"]
    assert plane.task().cluster_id != first.id


def test_gang_moves_whole_when_its_cloud_keeps_gangs_apart(plane):
    first = plane.run_job(GANG)
    plane.world = replace(plane.world, clouds={"fake": replace(FAKE_FACTS, connects_clusters=False)})
    lose(plane, first)
    assert "do not reach each other" in reasons(plane, "JobMoving")[0]
    assert plane.place() == "b"


def test_gang_moves_whole_when_it_was_not_asked_to_stay(plane):
    first = plane.run_job(GANG | {"resources": {"use_spot": True}})
    lose(plane, first)
    assert (plane.task().launches, reasons(plane, "JobMoving")) == (2, [])


def test_everything_ends_when_the_job_is_cancelled_while_a_rank_is_replaced(plane):
    first = plane.run_job(GANG)
    lose(plane, first)
    assert plane.rank(first) == "RANKED"
    assert plane.create(first) == "CREATED"
    plane.cancel(1)
    assert plane.managed().status is S.CANCELLED
    assert plane.by_id(first).wanted is Wanted.ABSENT


def test_gang_with_a_deadline_leaves_when_only_on_demand_can_meet_it(plane):
    first = plane.run_job(GANG | {"deadline": "9h", "estimated_duration": "8h"})
    assert plane.task().spot
    plane.pass_time(40 * 60)
    lose(plane, first)
    assert reasons(plane, "JobMoving")[0].startswith("only on-demand is sure to meet the deadline")
    assert not plane.task().spot


def test_gang_with_a_deadline_stays_when_its_policy_wants_spot(plane):
    first = plane.run_job(GANG | {"deadline": "30h", "estimated_duration": "2h"})
    lose(plane, first)
    assert plane.by_id(first).replacing == (1,)
    come_up(plane, first, 1)
    assert plane.task().status is S.RUNNING


def test_members_of_a_group_hear_the_new_address_when_a_rank_is_replaced(plane):
    header = {"name": "rl", "execution": "parallel"}
    plane.submit(GANG | {"name": "train"}, {"name": "serve"}, header=header)
    first = plane.boot_cluster(0)
    other = plane.boot_cluster(1)
    plane.tell(first, "RUNNING", job=1)
    plane.tell(other, "RUNNING", job=1)
    machine = machines(plane, first)[1]
    plane.compute.become(machine, MachineState.TERMINATED, "reclaimed")
    plane.tell(first, "FAILED_DRIVER", job=1)
    come_up(plane, first, 1)
    assert ("train-1.rl", "10.9.0.1") in plane.by_id(other).hosts


def test_every_rank_is_found_again_when_the_table_was_lost(plane, tmp_path):
    first = plane.run_job(GANG | {"num_nodes": 3})
    lose(plane, first, 1)
    come_up(plane, first, 1)
    before = machines(plane, first)
    gangs = plane.compute.requests
    plane.store.close()
    plane.store = SqliteStateStore(tmp_path / "new.db", clock=plane.clock.now)
    plane.world = replace(plane.world, store=plane.store)
    start_rebuild(plane.world, ANN, ["fake/north"])
    sweep_place(plane.world, "fake", "north", "rebuild")
    found = plane.by_id(first)
    assert (found.num_nodes, found.attempt) == (3, 1)
    assert machines(plane, found) == before
    for gang, machine, rank in ((gangs[1], before[1], 1), (gangs[0], before[2], 2), (gangs[0], before[0], 0)):
        told = {"machine_id": machine, "address": "10.0.0.9", "peer_port": 7000, "rank": rank}
        assert join_nodes.join(plane.world, gang.join_token, told)["rank"] == rank
    assert machines(plane, found) == before


def test_budget_that_is_spent_keeps_the_gang_from_replacing(plane, monkeypatch):
    first = plane.run_job(GANG)

    def spent(*_):
        raise ForbiddenError("The budget is spent.")

    monkeypatch.setattr("stix.application.replace_ranks.check_budget", spent)
    lose(plane, first)
    assert reasons(plane, "JobMoving") == ["The budget is spent: the gang moves whole"]


def test_notice_says_nothing_when_the_machine_has_been_replaced(plane):
    first = plane.run_job(GANG)
    lose(plane, first)
    notice(plane, first, 1)
    assert plane.nodes(first)[1].notice == ""
    assert plane.by_id(first).replacing == (1,)


@pytest.mark.parametrize(
    ("gang", "blocked", "reason"),
    [
        (Gang(HERE, 3, (2,)), 0.0, "rank 2 is replaced in fake/north/a: 2 of its 3 machines stay"),
        (Gang(HERE, 4, (1, 2)), 0.0, "ranks 1, 2 are replaced in fake/north/a: 2 of its 4 machines stay"),
        (Gang(HERE, 2, (0, 1)), 0.0, "no machine of it is left in fake/north/a"),
        (Gang(HERE, 2, (1,)), 11.0, "fake/north/a refused lately, so rank 1 cannot be replaced there"),
        (Gang(HERE, 99, tuple(range(41))), 0.0, "more than 40 of its machines in fake/north/a were lost"),
        (Gang(offer("c", 1.0), 2, (1,)), 0.0, "fake/north/c does not fit it any more"),
    ],
)
def test_replacement_is_decided_by_what_is_left_and_what_its_place_said(gang, blocked, reason):
    dearer = HERE.model_copy(update={"price": 2.0})
    offers = [Candidate(offer("b", 0.5)), Candidate(dearer, blocked_until=blocked)]
    verdict = decide_replacement(Terms(Policy.EAGER_NEXT_REGION), Observations(lost=True), gang, offers, 10.0)
    assert verdict.reason == reason
    # At what a machine there costs now.
    assert (verdict.ranks, verdict.offer) == ((gang.lost, dearer) if "replaced in" in reason else ((), None))
