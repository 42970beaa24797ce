"""A table that was restored, replaced or shared judges no machine that it does not know."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace

import pytest

from stix.adapters.sqlite import SqliteStateStore
from stix.application import join_nodes, want
from stix.application.machine_tags import DELETE_AT, machine_tags, read_tags
from stix.application.rebuild import guard_view, start_rebuild
from stix.application.settle_cluster import confirm, settle
from stix.application.sweep import sweep
from stix.application.sweep_guard import disarmed
from stix.application.sweep_orphans import list_places, sweep_place
from stix.model.errors import InvalidInputError
from stix.model.status import ClusterStatus, Wanted
from stix.ports.compute import Machine, MachineState, Place
from tests.unit.test_application_orphans import foreign
from tests.unit.world import ANN, WORKSPACE, offer


@pytest.fixture
def backup(plane, tmp_path):
    """Restores the table to what it was when this fixture was first called."""
    plane.bring_up("old")
    copy = tmp_path / "backup.db"
    connection = plane.store._database.connection()
    connection.execute(f"VACUUM INTO '{copy}'")

    def restore() -> None:
        plane.store.close()
        for leftover in tmp_path.glob("state.db*"):
            leftover.unlink()
        shutil.copy(copy, tmp_path / "state.db")
        plane.store = SqliteStateStore(tmp_path / "state.db", clock=plane.clock.now)
        plane.world = replace(plane.world, store=plane.store)

    return restore


def sweep_often(plane, times=4):
    for _ in range(times):
        sweep_place(plane.world, "fake", "north")
        plane.pass_time(400)


def run_rebuild(plane, places=()):
    start_rebuild(plane.world, ANN, places)
    machine, _, payload = plane.workflows.runs[-1]
    assert machine == "sweep"
    for place in list_places(plane.world, payload["mode"])["places"]:
        sweep_place(plane.world, place["cloud"], place["region"], payload["mode"])


def test_restored_table_ends_nothing_when_machines_came_since(plane, backup):
    plane.bring_up("new", task={"num_nodes": 2})
    plane.pass_time(3600)
    backup()
    sweep_often(plane)
    assert len(plane.compute.alive()) == 3
    assert "restored" in disarmed(plane.world)
    assert plane.events.names().count("OrphanSweepDisarmed") == 1


def test_table_judges_again_when_it_was_rebuilt(plane, backup):
    plane.bring_up("new", task={"num_nodes": 2})
    plane.pass_time(3600)
    backup()
    sweep_often(plane, 1)
    run_rebuild(plane)
    view = guard_view(plane.world)
    assert view == {
        "armed": True, "reason": "", "waiting": [], "visited": ["fake/north"], "clusters": ["new"]
    }  # fmt: skip
    foreign(plane, 1)
    sweep_often(plane)
    assert len(plane.compute.alive()) == 3


def test_cluster_comes_back_whole_when_it_was_found_by_a_rebuild(plane, backup):
    made = plane.bring_up("new", autostop={"idle_minutes": 7, "down": True}, task={"num_nodes": 2})
    gang = plane.compute.requests[-1]
    backup()
    run_rebuild(plane)
    found = plane.cluster("new")
    assert (found.id, found.user, found.num_nodes) == (made.id, "ann", 2)
    assert (found.autostop, found.offer.price) == (made.autostop, made.offer.price)
    assert len(plane.intents(found)[0].machine_ids) == 2
    # Its agents know the join token, and use it as soon as their own tokens are refused.
    plane.pass_time(10)
    sweep(plane.world)
    assert "terminate" in plane.workflows.machines()
    settle(plane.world, WORKSPACE, found.id)
    assert confirm(plane.world, WORKSPACE, found.id) == {"wanted": "UP"}
    plane.await_join(found)
    for rank in range(2):
        plane.join(found, rank, token=gang.join_token)
    assert plane.hand_over(found) == "UP"
    assert plane.cluster("new").status is ClusterStatus.UP


def rejoin(plane, machine, had):
    """The rank of a machine of the last gang, whose agent says which one it had."""
    gang = plane.compute.requests[-1]
    request = {"machine_id": plane.compute.gangs[gang.token][machine], "rank": had}
    return join_nodes.join(plane.world, gang.join_token, request)["rank"]


@pytest.mark.parametrize("ranks", list(itertools.permutations(range(3))))
def test_agents_keep_their_ranks_when_their_cluster_was_found_by_a_rebuild(plane, backup, ranks):
    """Of each machine the rank that it had, whichever a rebuild takes it for and whoever joins first."""
    plane.bring_up("new", task={"num_nodes": 3})
    gang = plane.compute.requests[-1]
    backup()
    run_rebuild(plane)
    found = plane.cluster("new")
    machine_ids = plane.compute.gangs[gang.token]
    for machine, rank in enumerate(ranks):
        for _ in range(2):
            assert rejoin(plane, machine, rank) == rank
    in_order = [machine_ids[ranks.index(rank)] for rank in range(3)]
    assert [node.machine_id for node in plane.nodes(found)] == in_order
    assert list(plane.intents(found)[0].machine_ids) == in_order


def test_machine_takes_the_rank_it_is_given_when_the_one_it_had_is_taken_or_none(plane, backup):
    plane.bring_up("new", task={"num_nodes": 2})
    backup()
    run_rebuild(plane)
    assert plane.join(plane.cluster("new"), 0)["rank"] == 0
    assert [rejoin(plane, 1, had) for had in (0, 2, -1)] == [1, 1, 1]


def test_rebuilt_cluster_can_be_taken_down(plane, backup):
    plane.bring_up("new")
    backup()
    run_rebuild(plane)
    cluster = plane.cluster("new")
    want.take_down(plane.world, ANN, "new", purge=False, key=None)
    plane.run_terminate(cluster)
    assert len(plane.compute.alive()) == 1


def test_stopped_machines_stay_stopped_when_they_are_found(plane, backup):
    cluster = plane.bring_up("new")
    want.stop_cluster(plane.world, ANN, "new", key=None)
    settle(plane.world, WORKSPACE, cluster.id)
    backup()
    run_rebuild(plane)
    found = plane.cluster("new")
    assert (found.status, found.wanted) == (ClusterStatus.STOPPED, Wanted.STOPPED)


def test_rebuild_changes_nothing_when_the_table_knows_all(plane):
    before = plane.bring_up("one")
    run_rebuild(plane)
    run_rebuild(plane)
    assert plane.cluster("one") == before
    assert guard_view(plane.world)["clusters"] == []


def test_name_is_changed_when_another_cluster_holds_it_now(plane, backup):
    plane.bring_up("new")
    backup()
    taken = plane.bring_up("new")
    run_rebuild(plane)
    (name,) = guard_view(plane.world)["clusters"]
    assert name.startswith("new-")
    assert plane.cluster("new").id == taken.id


def test_sweep_stays_disarmed_when_a_place_was_not_visited(plane, backup):
    plane.bring_up("new")
    backup()
    start_rebuild(plane.world, ANN, ["fake/south"])
    sweep_place(plane.world, "fake", "north", "rebuild")
    assert guard_view(plane.world)["waiting"] == ["fake/south"]
    foreign(plane, 1)
    sweep_often(plane)
    assert len(plane.compute.alive()) == 3


@pytest.mark.parametrize("place", ["fake", "", "elsewhere/north", "/north"])
def test_rebuild_refuses_what_is_no_place(plane, place):
    with pytest.raises(InvalidInputError, match="places"):
        start_rebuild(plane.world, ANN, [place])


def test_new_table_ends_nothing_when_the_bucket_knows_of_machines(plane, tmp_path):
    plane.bring_up("old")
    empty = SqliteStateStore(tmp_path / "new.db", clock=plane.clock.now)
    other = replace(plane.world, store=empty)
    for _ in range(4):
        assert sweep_place(other, "fake", "north")["ended"] == 0
        plane.pass_time(400)
    assert len(plane.compute.alive()) == 1
    empty.close()


def test_two_deployments_of_one_account_end_nothing_of_each_other(plane, tmp_path):
    plane.bring_up("mine")
    foreign(plane, 3, **{"stix-deployment": "other"})
    sweep_often(plane)
    assert len(plane.compute.alive()) == 4


def test_machine_ends_when_its_own_tag_says_so_and_the_table_does_not_know_it(plane, backup):
    plane.bring_up("new", lifetime={"max_lifetime_seconds": 3600})
    backup()
    sweep_often(plane)
    assert len(plane.compute.alive()) == 2
    plane.pass_time(3600)
    sweep_often(plane, 1)
    assert len(plane.compute.alive()) == 1


def test_tags_say_again_what_they_were_written_from(plane):
    shape = {"accelerator": "A100-80GB", "accelerator_count": 8, "spot": True, "zone": "a"}
    cluster = plane.bring_up("one", autostop={"idle_minutes": 0, "wait_for": "none"})
    (intent,) = plane.intents(cluster)
    intent = intent.changed(offer=offer(**{**shape, "price": 12.3456}))
    tags = machine_tags(plane.world, cluster, intent)
    assert all(len(value) <= 256 for value in tags.values())
    machine = Machine("m-1", MachineState.RUNNING, {**tags, DELETE_AT: "1800009999"})
    story = read_tags(machine, Place("fake", "north"))
    assert story is not None
    assert story.offer == intent.offer
    assert story.autostop == cluster.autostop
    assert story.delete_at == 1800009999
    assert (story.token, story.join_hash) == (intent.token, intent.join_hash)


@pytest.mark.parametrize(
    "name", ["stix-workspace", "stix-cluster", "stix-intent", "stix-attempt", "stix-offer"]
)
@pytest.mark.parametrize("value", ["", None, "nonsense"])
def test_tags_tell_nothing_when_one_is_missing_or_wrong(plane, name, value):
    cluster = plane.bring_up("one")
    tags = machine_tags(plane.world, cluster, plane.intents(cluster)[0])
    if value == "nonsense" and name not in ("stix-attempt", "stix-offer"):
        pytest.skip("any text can be an id")
    tags = {key: text for key, text in {**tags, name: value}.items() if text is not None}
    assert read_tags(Machine("m-1", MachineState.RUNNING, tags), Place("fake", "north")) is None
