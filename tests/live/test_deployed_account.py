"""The deployed system in a real AWS account: `make e2e-aws`. It costs money and has never run where this was
written; docs/operations/verification.md says what has."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from tests.live.account import Deployment, deployed
from tests.live.budget import Budget

pytestmark = pytest.mark.account

HOURS = 1.0
"""Every cluster ends itself after it, on its own machine's clock, whatever happens to this test."""


@pytest.fixture(scope="module")
def budget() -> Budget:
    return Budget(float(os.environ.get("STIX_E2E_MAX_USD", "2")))


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    if os.environ.get("STIX_E2E_AWS") != "yes":
        pytest.skip("set STIX_E2E_AWS=yes: this makes machines in your AWS account and costs money")
    with deployed() as made:
        yield made


def launch(deployment: Deployment, budget: Budget, name: str, nodes: int, *arguments: str) -> str:
    """What the launch printed. It is charged with the dearest place of its plan, on demand."""
    region = boto3.session.Session().region_name
    need = ("--infra", f"aws/{region}", "--cpus", "2", "--memory", "4+", "--num-nodes", str(nodes))
    planned = json.loads(deployment.stix("plan", *need, "--top", "10", "-o", "json").stdout)
    costs = [place["hourly_cost"] for task in planned["tasks"] for place in task["ranked"]]
    budget.pay(name, hourly=max(costs) / nodes, nodes=nodes, hours=HOURS)
    limits = ("--max-lifetime", f"{HOURS:g}h", "--max-cost", str(budget.cap))
    done = deployment.stix("launch", "-y", "-c", name, *need, *limits, *arguments)
    return done.stdout + done.stderr


def cluster(deployment: Deployment, name: str) -> dict[str, Any]:
    told = json.loads(deployment.stix("status", "-v", "-o", "json").stdout)["clusters"]
    return next((one for one in told if one["name"] == name), {})


def await_status(deployment: Deployment, name: str, status: str, minutes: float) -> dict[str, Any]:
    deadline = time.monotonic() + minutes * 60
    while True:
        found = cluster(deployment, name)
        if found.get("status") == status:
            return found
        assert time.monotonic() < deadline, (
            f"{name} is {found.get('status')}, not {status}: {found.get('reason')}"
        )
        time.sleep(10)


def test_two_nodes_run_a_task_and_stop_when_idle(deployment: Deployment, budget: Budget) -> None:
    said = launch(deployment, budget, "train", 2, "echo rank $STIX_NODE_RANK")
    assert "Job 1 SUCCEEDED." in said
    logs = deployment.stix("logs", "train", "1").stdout
    assert sorted(logs.splitlines()) == ["(head, rank=0) rank 0", "(worker1, rank=1) rank 1"]
    seconds = []
    for number in range(10):
        begun = time.monotonic()
        assert deployment.stix("exec", "train", f"echo {number}").stdout == f"{number}\n"
        seconds.append(time.monotonic() - begun)
    print(f"exec on an idle node: {statistics.median(seconds):.2f} s median of {len(seconds)}; at most 3")
    deployment.stix("autostop", "-y", "-i", "1", "train")
    await_status(deployment, "train", "STOPPED", minutes=15)
    deployment.stix("down", "-y", "train")
    assert cluster(deployment, "train") == {}


def test_lost_spot_machine_is_noticed(deployment: Deployment, budget: Budget) -> None:
    launch(deployment, budget, "cheap", 2, "--use-spot", "-d", "sleep 1800")
    found = cluster(deployment, "cheap")
    lost = found["nodes"][1]["machine_id"]
    boto3.client("ec2").terminate_instances(InstanceIds=[lost])
    deadline = time.monotonic() + 20 * 60
    while "a node was lost" not in cluster(deployment, "cheap").get("reason", ""):
        assert time.monotonic() < deadline, "nobody noticed the loss"
        time.sleep(10)
    deployment.stix("down", "-y", "cheap")


def test_nothing_is_left_when_every_cluster_is_down(deployment: Deployment, budget: Budget) -> None:
    tagged = [
        {"Name": "tag:stix-deployment", "Values": [deployment.outputs()["Deployment"]]},
        {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
    ]
    assert boto3.client("ec2").describe_instances(Filters=tagged)["Reservations"] == []
    assert (
        deployment.stix("deploy", "--destroy", "--deployment", "not-there", "-y", check=False).returncode != 0
    )
    print("\n".join(budget.launches))
