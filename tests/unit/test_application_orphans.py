"""Machines that the table does not know: marked, then ended; never more than few at once."""

from __future__ import annotations

import pytest

from stix.application import want
from stix.application.settle_cluster import settle
from stix.application.sweep import sweep
from stix.application.sweep_orphans import list_places, sweep_place
from stix.ports.compute import GangRequest
from tests.unit.world import ANN, WORKSPACE, offer


def foreign(plane, number, **tags):
    """Machines tagged with this deployment that no intent made."""
    for n in range(number):
        request = GangRequest(
            token=f"unknown-{n}-{tags}",
            count=1,
            offer=offer(),
            tags={"stix-deployment": "test"} | tags,
            join_token="",
            api_url="",
            boot_seconds=1,
        )
        plane.compute.create(request)


def place(plane):
    return sweep_place(plane.world, "fake", "north")


def test_machine_is_marked_then_ended_when_the_table_does_not_know_it(plane):
    foreign(plane, 1)
    assert place(plane) == {"marked": 1, "ended": 0, "machines": 1}
    plane.pass_time(299)
    assert place(plane)["ended"] == 0
    plane.pass_time(2)
    assert place(plane)["ended"] == 1
    assert plane.compute.alive() == []
    assert "OrphansEnded" in plane.events.names()


@pytest.mark.parametrize(
    "tags",
    [{"protected": "true"}, {"protected": "Yes"}, {"stix-deployment": "another"}],
)
def test_machine_lives_when_it_is_protected_or_of_another_deployment(plane, tags):
    foreign(plane, 1, **tags)
    for _ in range(4):
        place(plane)
        plane.pass_time(400)
    assert len(plane.compute.alive()) == 1


def test_machines_of_known_clusters_live_when_they_run_or_are_stopped_or_being_made(plane, monkeypatch):
    plane.bring_up("one")
    plane.boot("two")
    cluster = plane.bring_up("three")
    want.stop_cluster(plane.world, ANN, "three", key=None)
    settle(plane.world, WORKSPACE, cluster.id)
    plane.launch("four")
    plane.rank(plane.cluster("four"))
    real = plane.compute.create

    def lost(request):
        real(request)
        raise TimeoutError

    monkeypatch.setattr(plane.compute, "create", lost)
    with pytest.raises(TimeoutError):
        plane.create(plane.cluster("four"))
    for _ in range(4):
        assert place(plane) == {"marked": 0, "ended": 0, "machines": 4}
        plane.pass_time(400)


def test_machine_is_ended_when_it_pretends_to_be_of_a_known_attempt(plane):
    cluster = plane.bring_up()
    tags = {"stix-workspace": WORKSPACE, "stix-cluster": cluster.id, "stix-attempt": "0", "stix-intent": "x"}
    foreign(plane, 1, **tags)
    place(plane)
    plane.pass_time(301)
    assert place(plane)["ended"] == 1
    assert len(plane.compute.alive()) == 1


@pytest.mark.parametrize(("number", "ended"), [(2, 2), (10, 3), (100, 5)])
def test_few_machines_are_ended_at_once_when_many_are_unknown(plane, number, ended):
    foreign(plane, number)
    place(plane)
    plane.pass_time(301)
    assert place(plane)["ended"] == ended
    assert len(plane.compute.alive()) == number - ended


def test_places_are_listed_when_something_was_created_there_in_thirty_days(plane):
    assert list_places(plane.world) == {"places": []}
    plane.boot()
    assert list_places(plane.world) == {"places": [{"cloud": "fake", "region": "north"}]}
    plane.pass_time(31 * 86400)
    assert list_places(plane.world) == {"places": []}


def test_orphan_sweep_is_started_at_its_pace_when_the_place_is_in_use(plane):
    assert not sweep(plane.world)["orphan_sweep"]
    cluster = plane.boot()
    assert sweep(plane.world)["orphan_sweep"]
    plane.pass_time(599)
    plane.report(cluster)
    assert not sweep(plane.world)["orphan_sweep"]
    plane.pass_time(2)
    assert sweep(plane.world)["orphan_sweep"]
