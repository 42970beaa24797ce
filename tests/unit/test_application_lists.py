"""Lists of clusters: one read of the table for a page."""

from __future__ import annotations

from dataclasses import replace

from stix.application.records import cluster_key, save
from stix.application.views import list_clusters
from stix.model.status import ClusterStatus
from tests.unit.world import WORKSPACE


class CountingStore:
    def __init__(self, store) -> None:
        self._store = store
        self.calls: list[str] = []

    def __getattr__(self, name: str):
        def call(*arguments, **options):
            self.calls.append(name)
            return getattr(self._store, name)(*arguments, **options)

        return call


def _listed(plane) -> tuple[list[str], list[dict]]:
    """The calls of the store, and the clusters."""
    store = CountingStore(plane.world.store)
    page = list_clusters(replace(plane.world, store=store), WORKSPACE)
    return store.calls, page["clusters"]


def test_list_is_one_read_when_clusters_have_many_nodes(plane):
    for name in ("one", "two", "three"):
        plane.bring_up(name, task={"num_nodes": 2})
    calls, clusters = _listed(plane)
    assert calls == ["list"]
    assert [(one["status"], one["addresses"]) for one in clusters] == [("UP", ["10.0.0.0"])] * 3


def test_head_address_follows_when_the_head_reports_another(plane):
    cluster = plane.bring_up(task={"num_nodes": 2})
    plane.report(cluster, 1, address="10.9.9.1")
    assert _listed(plane)[1][0]["addresses"] == ["10.0.0.0"]
    plane.report(cluster, 0, address="10.9.9.0")
    assert _listed(plane)[1][0]["addresses"] == ["10.9.9.0"]


def test_head_address_is_looked_up_when_an_earlier_release_brought_the_cluster_up(plane):
    cluster = plane.bring_up(task={"num_nodes": 2})
    item = plane.world.store.get(cluster_key(WORKSPACE, cluster.id))
    body = {name: value for name, value in item.body.items() if name != "head_address"}
    plane.world.store.put(item.changed(body=body))
    calls, clusters = _listed(plane)
    assert calls == ["list", "get_many"]
    assert clusters[0]["addresses"] == ["10.0.0.0"]


def test_address_of_an_earlier_machine_is_not_shown_when_a_cluster_starts_again(plane):
    cluster = plane.bring_up()
    save(plane.world, plane.by_id(cluster).changed(status=ClusterStatus.INIT))
    assert _listed(plane)[1][0]["addresses"] == []
