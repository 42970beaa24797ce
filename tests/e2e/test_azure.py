"""A task on Azure: real commands, control plane, SDK, boot script and agents; Azure is a server of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cloud_home import cloud_home
from tests.e2e.embedded import EmbeddedHome, await_that
from tests.providers.azure.server import AzureServer
from tests.providers.azure.state import SUBSCRIPTION

pytestmark = pytest.mark.xdist_group("e2e-azure")


@pytest.fixture
def arm(tmp_path: Path) -> Iterator[AzureServer]:
    server = AzureServer(tmp_path, hosts=tmp_path / "hosts")
    yield server
    server.close()
    assert server.violations == []


@pytest.fixture
def cloud(tmp_path: Path, arm: AzureServer) -> Iterator[EmbeddedHome]:
    prices = [("eastus", "", "Standard_D2s_v5", 0.096), ("westus3", "", "Standard_D2as_v5", 0.097)]
    home = cloud_home(tmp_path / "home", "azure", arm.config(), prices)
    yield home
    home.finish()


def test_task_runs_on_azure_and_nothing_is_left_when_its_cluster_is_down(
    cloud: EmbeddedHome, arm: AzureServer
) -> None:
    checks = json.loads(cloud.stix("check", "-o", "json").stdout)["clouds"]
    assert {one["cloud"]: one["enabled"] for one in checks}["azure"] is True
    assert f"subscription {SUBSCRIPTION}" in cloud.stix("check", "azure", "-v").stdout
    arm.refuse("SkuNotAvailable")
    done = cloud.stix(
        *("launch", "-y", "-c", "train", "--infra", "azure", "--cpus", "2", "--num-nodes", "2"),
        'echo "rank $STIX_NODE_RANK"',
    )
    assert "Job 1 SUCCEEDED." in done.stderr
    for rank in range(2):
        assert f"rank {rank}\n" in done.stdout
    assert len(arm.cloud.machines) == 2
    assert all(host.on for host in arm.cloud.machines.values())
    [cluster] = json.loads(cloud.stix("status", "-o", "json").stdout)["clusters"]
    assert (cluster["cloud"], cluster["region"], cluster["status"]) == ("azure", "westus3", "UP")
    told = cloud.stix("explain", "train").stdout
    assert "SkuNotAvailable" in told
    assert "chosen: azure/westus3" in told

    cloud.stix("down", "-y", "train")
    assert not any(host.on for host in arm.cloud.machines.values())
    assert arm.cloud.groups == {}
    [line] = json.loads(cloud.stix("cost-report", "-o", "json").stdout)["lines"]
    assert (line["cluster"], line["num_nodes"]) == ("train", 2)
    assert line["ended_at"] is not None
    assert line["cost"] > 0
    assert "azure" in cloud.stix("cost-report", "--by", "cloud").stdout


def test_next_offer_is_tried_when_azure_finds_no_room_later(cloud: EmbeddedHome, arm: AzureServer) -> None:
    arm.refuse("AllocationFailed")
    done = cloud.stix("launch", "-y", "-c", "late", "--infra", "azure", "--cpus", "2", "echo made it")
    assert "made it" in done.stdout
    assert "AllocationFailed" in cloud.stix("explain", "late").stdout
    [group] = arm.cloud.groups.values()
    assert group.location == "westus3"


def test_cluster_on_azure_stops_and_starts_with_its_disk(cloud: EmbeddedHome, arm: AzureServer) -> None:
    cloud.stix("launch", "-y", "-c", "box", "--infra", "azure", "--cpus", "2", "echo kept > $HOME/file")
    cloud.stix("stop", "-y", "box")
    assert not any(host.on for host in arm.cloud.machines.values())
    cloud.stix("start", "-y", "box")
    assert "kept" in cloud.stix("exec", "box", "cat $HOME/file").stdout


def test_eviction_is_seen_on_the_node_before_it_goes(cloud: EmbeddedHome, arm: AzureServer) -> None:
    cloud.stix("launch", "-y", "-c", "cheap", "--infra", "azure", "--cpus", "2", "--use-spot", "true")
    [machine] = arm.cloud.machines
    arm.announce_preemption(machine)

    def reason() -> str:
        [cluster] = json.loads(cloud.stix("status", "-v", "-o", "json").stdout)["clusters"]
        return str(cluster["nodes"][0]["reason"])

    await_that("the notice", lambda: "about to take it" in reason(), every=0.5)
