"""A task on AWS: real commands, control plane, SDK, boot script and agents; EC2 is a server of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cloud_home import aws_home
from tests.e2e.embedded import EmbeddedHome, await_that
from tests.providers.aws.server import AwsServer
from tests.providers.faults import Kind

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


def test_task_runs_on_aws_and_nothing_is_left_when_its_cluster_is_down(
    cloud: EmbeddedHome, ec2: AwsServer
) -> None:
    ec2.faults.add(Kind.REFUSE, "CreateFleet", code="InsufficientInstanceCapacity")
    checks = json.loads(cloud.stix("check", "-o", "json").stdout)["clouds"]
    assert {one["cloud"] for one in checks if one["enabled"]} == {"aws", "local"}
    done = cloud.stix(
        *("launch", "-y", "-c", "train", "--infra", "aws", "--cpus", "2", "--num-nodes", "2"),
        *("--max-cost", "10", "--max-lifetime", "8h", 'echo "rank $STIX_NODE_RANK on $STIX_CLOUD"'),
    )
    assert "Job 1 SUCCEEDED." in done.stderr
    assert len(ec2.machines) == 2
    assert all(host.on for host in ec2.machines.values())
    [cluster] = json.loads(cloud.stix("status", "-o", "json").stdout)["clusters"]
    assert (cluster["cloud"], cluster["status"]) == ("aws", "UP")
    assert cluster["hourly_price"] > 0

    told = cloud.stix("explain", "train").stdout
    assert "InsufficientInstanceCapacity" in told
    assert "chosen: aws/" in told
    assert "(max_" in told
    assert max(map(len, told.splitlines())) <= 80

    instances = ec2.client("ec2", cluster["region"]).describe_instances()["Reservations"]
    tags = {tag["Key"]: tag["Value"] for tag in instances[0]["Instances"][0]["Tags"]}
    assert tags["stix-name"] == "train"
    assert int(tags["stix-delete-at"]) > 0

    cloud.stix("down", "-y", "train")
    assert not any(host.on for host in ec2.machines.values())
    await_that("everything is released", lambda: _templates(ec2, cluster["region"]) == [])
    report = json.loads(cloud.stix("cost-report", "-o", "json").stdout)
    [line] = report["lines"]
    assert (line["cluster"], line["num_nodes"]) == ("train", 2)
    assert line["ended_at"] is not None
    assert line["cost"] > 0
    assert "train" in cloud.stix("cost-report").stdout
    assert "aws" in cloud.stix("cost-report", "--by", "cloud").stdout


def test_cluster_on_aws_stops_and_starts_with_its_disk(cloud: EmbeddedHome, ec2: AwsServer) -> None:
    flags = ("launch", "-y", "-c", "box", "--infra", "aws", "--cpus", "2")
    cloud.stix(*flags, "echo kept > $HOME/file")
    cloud.stix("stop", "-y", "box")
    assert not any(host.on for host in ec2.machines.values())
    cloud.stix("start", "-y", "box")
    done = cloud.stix("exec", "box", "cat $HOME/file")
    assert "kept" in done.stdout
    lines = json.loads(cloud.stix("cost-report", "-o", "json").stdout)["lines"]
    assert sorted(line["ended_at"] is None for line in lines) == [False, True]


def test_preemption_is_seen_on_the_node_before_it_goes(cloud: EmbeddedHome, ec2: AwsServer) -> None:
    cloud.stix("launch", "-y", "-c", "cheap", "--infra", "aws", "--cpus", "2", "--use-spot", "true")
    [machine] = ec2.machines
    refused = cloud.stix("stop", "-y", "cheap", code=None)
    assert "spot machines" in refused.stderr
    ec2.announce_preemption(machine)

    def reason() -> str:
        [cluster] = json.loads(cloud.stix("status", "-v", "-o", "json").stdout)["clusters"]
        return str(cluster["nodes"][0]["reason"])

    await_that("the notice", lambda: "about to take it" in reason(), every=0.5)


def test_aws_is_refused_with_the_way_out_when_its_machines_cannot_call(
    tmp_path: Path, ec2: AwsServer
) -> None:
    home = EmbeddedHome(tmp_path / "laptop", AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test")
    try:
        refused = home.stix("launch", "-y", "--infra", "aws", "--cpus", "2", "echo hi", code=None)
        assert refused.returncode == 2
        assert "--public-url" in refused.stderr
        assert "stix deploy" in refused.stderr
    finally:
        home.finish()


def test_one_gang_is_left_when_two_places_were_raced(cloud: EmbeddedHome, ec2: AwsServer) -> None:
    done = cloud.stix(
        "launch", "-y", "-c", "fast", "--infra", "aws", "--cpus", "2", "--race", "2", "echo ran"
    )
    assert "Job 1 SUCCEEDED." in done.stderr
    assert len(ec2.machines) == 2
    # The other one powers itself off as soon as its agent hears that it came second.
    await_that("one machine is left", lambda: sum(host.on for host in ec2.machines.values()) == 1)
    assert cloud.stix("exec", "fast", "echo still there").stdout == "still there\n"
    cloud.stix("down", "-y", "fast")
    assert not any(host.on for host in ec2.machines.values())
    await_that("everything is released", lambda: _templates(ec2, "us-east-1") == [])
    lines = json.loads(cloud.stix("cost-report", "-o", "json").stdout)["lines"]
    assert len(lines) == 2
    assert all(line["ended_at"] is not None for line in lines)


def _templates(ec2: AwsServer, region: str) -> list[str]:
    found = ec2.client("ec2", region).describe_launch_templates()["LaunchTemplates"]
    return [template["LaunchTemplateName"] for template in found]
