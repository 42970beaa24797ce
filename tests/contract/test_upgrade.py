"""Tables of an earlier release: read, acted on, brought up to date item by item; and the way back."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from stix.adapters.dynamodb import DynamoStateStore
from stix.adapters.sqlite import SqliteStateStore
from stix.application import agents, settle_cluster, sweep, views
from stix.application.records import child_records, cluster_by_name, load, save
from stix.application.tokens import UserPrincipal, authenticate
from stix.model.cluster import Cluster, Intent, Node
from stix.model.errors import UnavailableError
from stix.model.job import Job
from stix.model.record import Record
from stix.model.status import ClusterStatus, JobStatus
from stix.ports.compute import MachineState
from stix.ports.state_store import Item, Key
from tests.unit.fake_compute import FakeMachine
from tests.unit.world import WORKSPACE, ControlPlane

FOLDER = Path(__file__).parent / "upgrade"
ROOT = Path(__file__).resolve().parents[2]
RELEASES = sorted(path.name for path in FOLDER.iterdir() if (path / "state.sql").is_file())


def _sqlite_file(release: str, path: Path) -> Path:
    database = sqlite3.connect(path)
    database.executescript((FOLDER / release / "state.sql").read_text())
    database.close()
    return path


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["sqlite", "dynamodb"])
def plane(request: pytest.FixtureRequest, release: str, tmp_path: Path) -> Iterator[ControlPlane]:
    """A control plane of this release over the table of another, whose machines still run."""
    made = ControlPlane(tmp_path)
    made.store.close()
    store: Any
    if request.param == "sqlite":
        store = SqliteStateStore(_sqlite_file(release, tmp_path / "old.db"), clock=made.clock.now)
    else:
        name, client = request.getfixturevalue("dynamodb_table")()
        for item in json.loads((FOLDER / release / "table.json").read_text()):
            client.put_item(TableName=name, Item=item)
        store = DynamoStateStore(name, client, clock=made.clock.now)
    made.store = store
    object.__setattr__(made.world, "store", store)
    for name in ("up", "stopping", "going"):
        cluster = made.cluster(name)
        for intent in child_records(made.world, Intent, WORKSPACE, cluster.id):
            made.compute.gangs[intent.token] = list(intent.machine_ids)
            for machine in intent.machine_ids:
                running = MachineState.RUNNING
                tags = {"stix-intent": intent.token, "stix-deployment": "test"}
                made.compute.machines[machine] = FakeMachine(machine, tags, "", running, running, 0.0)
    yield made
    if request.param == "sqlite":
        store.close()


def test_people_see_all_of_an_older_table(plane):
    listed = {one["name"]: one for one in views.list_clusters(plane.world, WORKSPACE)["clusters"]}
    assert {name: one["status"] for name, one in listed.items()} == {
        "up": "UP",
        "starting": "INIT",
        "stopping": "UP",
        "going": "UP",
    }
    assert listed["up"]["addresses"] == ["10.0.0.0"]
    jobs = views.list_jobs(plane.world, plane.cluster("up"))["jobs"]
    assert [(job["id"], job["status"]) for job in jobs] == [(2, "PENDING"), (1, "RUNNING")]
    assert authenticate(plane.world, "ann-token") == UserPrincipal(WORKSPACE, "ann")


def test_agents_of_an_older_table_go_on_reporting(plane):
    up = plane.cluster("up")
    head = plane.node_principal(up, 0)
    plane.report(up, 0, jobs=[{"id": 1, "status": "SUCCEEDED"}], address="10.7.7.7")
    assert plane.job(up, 1).status is JobStatus.SUCCEEDED
    assert agents.report(plane.world, head, {})["wanted"] == "UP"
    assert plane.cluster("up").head_address == "10.7.7.7"


def test_what_an_older_release_began_is_finished(plane):
    starting = plane.cluster("starting")
    assert plane.rank(starting) == "RANKED"
    assert plane.create(starting) == "CREATED"
    plane.await_join(plane.cluster("starting"))
    plane.join(starting)
    assert plane.hand_over(starting) == "UP"
    for name, ending in (("going", None), ("stopping", ClusterStatus.STOPPED)):
        cluster = plane.cluster(name)
        settle_cluster.settle(plane.world, WORKSPACE, cluster.id)
        plane.pass_time(60)
        settle_cluster.confirm(plane.world, WORKSPACE, cluster.id)
        settle_cluster.settle(plane.world, WORKSPACE, cluster.id)
        found = cluster_by_name(plane.world, WORKSPACE, name)
        assert (found.status if found else None) == ending


def test_sweep_handles_every_item_of_an_older_table(plane, caplog):
    plane.pass_time(7200)
    result = sweep.sweep(plane.world)
    assert result["looked_at"]["cluster"] == 4
    assert (result["skipped"], caplog.records) == (0, [])


class Thing(Record):
    """Two releases renamed a field, then split it."""

    kind: ClassVar[str] = "thing"
    schema_version: ClassVar[int] = 3

    first: str
    last: str

    @classmethod
    def read_older(cls, body: dict[str, Any], schema_version: int) -> dict[str, Any]:
        if schema_version < 2:
            body["full_name"] = body.pop("name")
        first, _, last = body.pop("full_name").partition(" ")
        return {**body, "first": first, "last": last}


@pytest.mark.parametrize(("version", "body"), [(1, {"name": "Ann Lee"}), (2, {"full_name": "Ann Lee"})])
def test_older_shape_is_read_when_its_schema_version_is_older(version, body):
    item = Item(Key.top("w", "thing", "t"), body, version=4, schema_version=version)
    thing = load(Thing, item)
    assert (thing.first, thing.last, thing.version) == ("Ann", "Lee", 4)
    assert dict(item.body) == body
    with pytest.raises(UnavailableError) as refused:
        load(Thing, item.changed(schema_version=4))
    assert refused.value.code == "newer_schema"


def test_list_shows_the_others_when_a_newer_release_wrote_one(plane):
    cluster = plane.cluster("up")
    key = Key.top(WORKSPACE, "cluster", cluster.id)
    newer = plane.store.get(key).changed(schema_version=99, body={"name": "up", "shape": "of tomorrow"})
    plane.store.put(newer)
    listed = {one["name"]: one for one in views.list_clusters(plane.world, WORKSPACE)["clusters"]}
    assert set(listed) == {"up", "starting", "stopping", "going"}
    assert "newer release" in listed["up"]["reason"]


def _archive(commit: str, folder: Path) -> Path:
    """That commit's packages. Skips where the clone does not reach so far back."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("no clone with a history here")
    archived = subprocess.run(
        ["git", "archive", "--format=tar", "-o", str(folder / "old.tar"), commit, "shared", "tests"],
        cwd=ROOT,
        capture_output=True,
    )
    if archived.returncode:
        pytest.skip(f"the clone does not hold commit {commit}")
    with tarfile.open(folder / "old.tar") as tar:
        tar.extractall(folder / "old", filter="data")
    return folder / "old"


def test_older_release_leaves_newer_items_alone_after_a_rollback(release, tmp_path):
    """What this release wrote, swept and listed by the older release's own code."""
    old = _archive(release, tmp_path)
    path = _sqlite_file(release, tmp_path / "state.db")
    made = ControlPlane(tmp_path / "plane")
    store = SqliteStateStore(path, clock=made.clock.now)
    object.__setattr__(made.world, "store", store)
    clusters = {item.body["name"]: load(Cluster, item) for item in store.list(WORKSPACE, "cluster").items}
    for cluster in clusters.values():
        save(made.world, cluster.changed(head_address="10.0.0.0"))
    for model in (Node, Job):
        for record in child_records(made.world, model, WORKSPACE, clusters["up"].id):
            save(made.world, record)
    key = Key.top(WORKSPACE, "cluster", clusters["going"].id)
    newer = store.put(store.get(key).changed(schema_version=Cluster.schema_version + 1))
    store.close()

    now = made.clock.now() + 7200
    environ = {**os.environ, "PYTHONPATH": f"{old / 'shared'}:{old}"}
    ran = subprocess.run(
        [sys.executable, str(FOLDER / "read_table.py"), str(path), str(now)],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert said["clusters"] == {
        "up": "read",
        "starting": "read",
        "stopping": "read",
        "going": "newer_schema",
    }
    assert said["skipped"] >= 1

    after = SqliteStateStore(path, clock=lambda: now)
    left = after.get(key)
    assert (left.schema_version, left.body, left.status) == (newer.schema_version, newer.body, newer.status)
    after.close()
    made.close()
