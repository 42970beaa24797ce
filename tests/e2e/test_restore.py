"""A control plane whose table was restored from a backup finds the machines that were launched since."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from stix.local.daemon import read_endpoint
from tests.e2e.cloud_home import aws_home
from tests.e2e.embedded import EmbeddedHome, await_that
from tests.providers.aws.server import AwsServer

pytestmark = pytest.mark.xdist_group("e2e-aws")


@pytest.fixture
def ec2(tmp_path: Path) -> Iterator[AwsServer]:
    server = AwsServer(hosts=tmp_path / "hosts")
    yield server
    server.close()


@pytest.fixture
def cloud(tmp_path: Path, ec2: AwsServer) -> Iterator[EmbeddedHome]:
    home = aws_home(tmp_path / "home", ec2)
    yield home
    home.finish()


def test_clusters_come_back_when_the_table_was_restored(
    cloud: EmbeddedHome, ec2: AwsServer, tmp_path: Path
) -> None:
    launch = ("launch", "-y", "--infra", "aws", "--cpus", "2", "-c")
    cloud.stix(*launch, "old", "echo ran")
    backup, state = tmp_path / "backup.db", cloud.folder / "state.db"
    with sqlite3.connect(state) as connection:
        connection.execute("VACUUM INTO ?", (str(backup),))
    cloud.stix(*launch, "new", "--num-nodes", "2", "-i", "50", "echo ran")

    found = read_endpoint(cloud.folder)
    assert found is not None
    port = found.url.rpartition(":")[2]
    cloud.stix("api", "stop")
    for leftover in cloud.folder.glob("state.db*"):
        leftover.unlink()
    shutil.copy(backup, state)
    # The address that the machines know.
    cloud.stix("api", "start", "--port", port, "--public-url", f"http://127.0.0.1:{port}")
    assert _names(cloud) == {"old"}

    assert "Found 1 cluster: new." in cloud.stix("admin", "rebuild").stdout
    # Its agents join again by themselves, each as soon as its token is refused.
    await_that("the cluster is up again", lambda: _status(cloud, "new") == "UP")
    assert cloud.stix("exec", "new", "echo again").stdout == "again\n"
    [new] = [one for one in _clusters(cloud) if one["name"] == "new"]
    assert (new["num_nodes"], new["autostop"]["idle_minutes"]) == (2, 50)
    assert cloud.stix("exec", "old", "echo too").stdout == "too\n"

    cloud.stix("down", "-y", "-a")
    assert not any(host.on for host in ec2.machines.values())


def _clusters(cloud: EmbeddedHome) -> list[dict]:
    return json.loads(cloud.stix("status", "-o", "json").stdout)["clusters"]


def _names(cloud: EmbeddedHome) -> set[str]:
    return {cluster["name"] for cluster in _clusters(cloud)}


def _status(cloud: EmbeddedHome, name: str) -> str:
    return next((one["status"] for one in _clusters(cloud) if one["name"] == name), "")
