"""A task on Google Cloud: real commands, control plane, SDK, boot script and agents; Compute Engine is a
server of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.world_gcp import private_key
from tests.e2e.cloud_home import cloud_home
from tests.e2e.embedded import EmbeddedHome, await_that
from tests.providers.faults import Kind
from tests.providers.gcp.server import PROJECT, GcpServer

pytestmark = pytest.mark.xdist_group("e2e-gcp")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[GcpServer]:
    server = GcpServer(hosts=tmp_path / "hosts")
    yield server
    server.close()
    assert server.violations == []


@pytest.fixture
def cloud(tmp_path: Path, engine: GcpServer) -> Iterator[EmbeddedHome]:
    """With a service account's key."""
    key = engine.credentials(tmp_path, private_key())
    home = cloud_home(
        tmp_path / "home",
        "gcp",
        {"endpoint_url": engine.url},
        [("us-central1", "", "n2-standard-2", 0.096), ("europe-west4", "", "n2-standard-2", 0.107)],
        GOOGLE_APPLICATION_CREDENTIALS=str(key),
    )
    yield home
    home.finish()


def test_task_runs_on_gcp_and_nothing_is_left_when_its_cluster_is_down(
    cloud: EmbeddedHome, engine: GcpServer
) -> None:
    engine.faults.add(Kind.REFUSE, "bulkInsert", code="ZONE_RESOURCE_POOL_EXHAUSTED")
    checks = json.loads(cloud.stix("check", "-o", "json").stdout)["clouds"]
    assert {one["cloud"]: one["enabled"] for one in checks}["gcp"] is True
    assert PROJECT in cloud.stix("check", "gcp", "-v").stdout
    done = cloud.stix(
        *("launch", "-y", "-c", "train", "--infra", "gcp", "--cpus", "2", "--num-nodes", "2"),
        *("--ports", "8080", 'echo "rank $STIX_NODE_RANK"'),
    )
    assert "Job 1 SUCCEEDED." in done.stderr
    said = {line.partition(") ")[2] for line in done.stdout.splitlines()}
    assert {"rank 0", "rank 1"} <= said
    assert len([host for host in engine.machines.values() if host.on]) == 2
    [cluster] = json.loads(cloud.stix("status", "-o", "json").stdout)["clusters"]
    assert (cluster["cloud"], cluster["region"], cluster["status"]) == ("gcp", "europe-west4", "UP")
    assert "rank 0" in cloud.stix("logs", "train", "1").stdout

    told = cloud.stix("explain", "train").stdout
    assert "ZONE_RESOURCE_POOL_EXHAUSTED" in told
    assert "chosen: gcp/europe-west4" in told

    cloud.stix("down", "-y", "train")
    assert not any(host.on for host in engine.machines.values())
    assert engine.state.machines == {}
    # What is left costs nothing, and the next gang needs it.
    [rule] = engine.state.firewalls
    assert rule.endswith("-inside")
    lines = json.loads(cloud.stix("cost-report", "-o", "json").stdout)["lines"]
    assert {(line["cluster"], line["num_nodes"]) for line in lines} == {("train", 2)}
    assert all(line["ended_at"] is not None for line in lines)
    assert sum(line["cost"] for line in lines) > 0
    assert "gcp" in cloud.stix("cost-report", "--by", "cloud").stdout


def test_launch_fails_with_googles_words_when_no_place_has_room(
    cloud: EmbeddedHome, engine: GcpServer
) -> None:
    engine.state.room = 0
    engine.instant_refusals = True
    failed = cloud.stix("launch", "-y", "-c", "big", "--infra", "gcp", "--cpus", "2", "true", code=None)
    assert failed.returncode != 0
    assert "does not have enough resources" in failed.stderr
    assert engine.state.machines == {}


def test_cluster_on_gcp_stops_and_starts_with_its_disk(cloud: EmbeddedHome, engine: GcpServer) -> None:
    cloud.stix("launch", "-y", "-c", "box", "--infra", "gcp", "--cpus", "2", "echo kept > $HOME/file")
    cloud.stix("stop", "-y", "box")
    assert not any(host.on for host in engine.machines.values())
    cloud.stix("start", "-y", "box")
    assert "kept" in cloud.stix("exec", "box", "cat $HOME/file").stdout


def test_preemption_is_seen_on_the_node_before_it_goes(cloud: EmbeddedHome, engine: GcpServer) -> None:
    cloud.stix("launch", "-y", "-c", "cheap", "--infra", "gcp", "--cpus", "2", "--use-spot", "true")
    [machine] = engine.machines
    engine.announce_preemption(machine)

    def reason() -> str:
        [cluster] = json.loads(cloud.stix("status", "-v", "-o", "json").stdout)["clusters"]
        return str(cluster["nodes"][0]["reason"])

    await_that("the notice", lambda: "about to take it" in reason(), every=0.5)
