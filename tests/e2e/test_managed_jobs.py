"""Managed jobs as a person has them: real commands, control plane, agents; EC2 is a server of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.embedded import EmbeddedHome, await_that, read_below
from tests.e2e.test_aws import cloud, ec2  # noqa: F401 - fixtures
from tests.providers.aws.server import AwsServer

pytestmark = pytest.mark.xdist_group("e2e-aws")

# Counts to twelve, a step a second, and keeps where it is; told to end, it writes that down too. Job 1 goes
# on until it is told.
COUNTER = """
cd $STIX_CHECKPOINT_DIR
trap 'echo "told at $(cat step)" >> words; exit 0' TERM
step=$(cat step 2>/dev/null || echo 0)
echo "from $step as $SKYPILOT_TASK_ID on $STIX_MANAGED_JOB_ID after $STIX_MANAGED_JOB_RECOVERIES"
while [ $step -lt 12 ] || [ $STIX_MANAGED_JOB_ID/$STIX_MANAGED_JOB_RECOVERIES = 1/0 ]; do
  step=$((step + 1))
  echo $step > step.new && mv step.new step
  echo "step $step"
  sleep 1 & wait $!
done
cat words 2>/dev/null || true
"""


def queue(home: EmbeddedHome) -> dict[int, dict[str, Any]]:
    jobs = json.loads(home.stix("jobs", "queue", "-o", "json").stdout)["jobs"]
    return {job["id"]: job for job in jobs}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[EmbeddedHome]:
    made = EmbeddedHome(tmp_path / "home")
    yield made
    made.finish()


def _events_of_server(home: EmbeddedHome) -> list[dict[str, Any]]:
    """What the embedded bus has carried, from the server's log."""
    lines = (home.folder / "server.log").read_text().splitlines()
    return [
        json.loads(line[line.index('{"at"') :]) for line in lines if '{"at"' in line and '"event"' in line
    ]


def test_two_jobs_end_well_when_the_machine_of_one_is_taken(
    cloud: EmbeddedHome,  # noqa: F811
    ec2: AwsServer,  # noqa: F811
    tmp_path: Path,
) -> None:
    task = {
        "name": "count",
        "resources": {
            "infra": "aws",
            "cpus": 2,
            "use_spot": True,
            "job_recovery": {
                "strategy": "EAGER_NEXT_REGION",
                "checkpoint_interval": "2s",
                "preemption": 'echo "hook at $(cat "$STIX_CHECKPOINT_DIR/step"), $STIX_PREEMPTION_SECONDS s"',
            },
        },
        "run": COUNTER,
    }
    file = tmp_path / "count.yaml"
    file.write_text(json.dumps(task))
    for _ in range(2):
        cloud.stix("jobs", "launch", "-y", "-d", str(file))

    def steps() -> bool:
        shown = cloud.stix("jobs", "logs", "1", "--no-follow").stdout
        return "step 4" in shown

    await_that("job 1 is on its way", steps, every=0.5)
    before = queue(cloud)
    lost = before[1]["tasks"][0]["place"]
    cluster = next(
        one
        for one in json.loads(cloud.stix("status", "-v", "-o", "json").stdout)["clusters"]
        if one["name"] == before[1]["tasks"][0]["cluster"]
    )
    assert cluster["owner"] == "job/1"
    refused = cloud.stix("down", "-y", cluster["name"], code=2)
    assert "belongs to managed job 1" in refused.stderr
    ec2.announce_preemption(cluster["nodes"][0]["machine_id"])

    waited = cloud.stix("jobs", "wait", "1")
    assert "SUCCEEDED after 1 recovery" in waited.stderr
    cloud.stix("jobs", "wait", "2")
    after = queue(cloud)
    assert {job["status"] for job in after.values()} == {"SUCCEEDED"}
    assert after[1]["tasks"][0]["place"] != lost
    assert (after[1]["recoveries"], after[2]["recoveries"]) == (1, 0)

    # Followed, as the last of it may come after the job's end.
    logs = cloud.stix("jobs", "logs", "1")
    shown = logs.stdout.splitlines()
    starts = [line.split() for line in shown if line.startswith("from ")]
    assert [line[5] for line in starts] == ["1", "1"]
    assert [line[7] for line in starts] == ["0", "1"]
    assert len({line[3] for line in starts}) == 1, "the task's id stays"
    # The task was told, and its last step before that is where the next run went on.
    told = next(line for line in shown if line.startswith("told at "))
    reached = int(told.split()[-1])
    assert int(starts[1][1]) == reached >= 4
    assert [line for line in shown if line == "step 12"] == ["step 12"]

    # The hook ran before the task was told.
    noted = logs.stderr.splitlines()
    hooked = next(line for line in noted if "hook at " in line)
    assert int(hooked.partition("hook at ")[2].partition(",")[0]) <= reached
    assert any("the preemption hook exited with code 0" in line for line in noted)
    events = json.loads(cloud.stix("jobs", "events", "1", "-o", "json").stdout)["events"]
    names = [event["name"] for event in events]
    assert names[0] == "ManagedJobSubmitted"
    assert names[-1] == "ManagedJobSucceeded"
    lost_at = names.index("JobPreempted")
    assert names[lost_at + 1] == "JobRecovering"
    assert lost in events[lost_at + 1]["reason"]
    said = _events_of_server(cloud)
    notice = next(one for one in said if one["event"] == "NodeNoticed")
    decided = next(one for one in said if one["event"] == "JobRecovering" and one["at"] >= notice["at"])
    print(f"from the notice to the decision where to go on: {decided['at'] - notice['at']:.3f} s")
    told = json.loads(cloud.stix("explain", "1", "-o", "json").stdout)
    assert told["cost"] > 0
    await_that("every machine ends", lambda: not any(host.on for host in ec2.machines.values()), every=0.5)
    checkpoints = cloud.folder / "objects" / "checkpoints"
    await_that(
        "its checkpoints are gone",
        lambda: not [path for path, _ in read_below(checkpoints) if path.suffix == ".json"],
    )


# Each rank keeps what it has counted; it counts until its gang has lost a machine, and two steps more.
GANG = """
cd $STIX_CHECKPOINT_DIR
trap 'exit 0' TERM
step=$(cat step 2>/dev/null || echo 0)
echo "rank $SKYPILOT_NODE_RANK from $step as $SKYPILOT_TASK_ID beside $(echo $SKYPILOT_NODE_IPS | wc -w)"
end=$((step + 2))
while [ $STIX_MANAGED_JOB_RECOVERIES = 0 ] || [ $step -lt $end ]; do
  step=$((step + 1))
  echo $step > step.new && mv step.new step
  echo "step $step"
  sleep 1 & wait $!
done
"""


@pytest.mark.parametrize("rank", [0, pytest.param(1, marks=pytest.mark.soak)])
def test_one_machine_of_a_gang_is_replaced_when_it_is_taken(
    rank: int,
    cloud: EmbeddedHome,  # noqa: F811
    ec2: AwsServer,  # noqa: F811
    tmp_path: Path,
) -> None:
    recovery = {"replace": "failed", "checkpoint_interval": "2s"}
    resources = {"infra": "aws", "cpus": 2, "use_spot": True, "job_recovery": recovery}
    file = tmp_path / "gang.yaml"
    file.write_text(json.dumps({"name": "gang", "num_nodes": 2, "resources": resources, "run": GANG}))
    cloud.stix("jobs", "launch", "-y", "-d", str(file))

    def nodes() -> list[Any]:
        with cloud.client() as client:
            [one] = client.clusters(verbose=True)
            return list(one["nodes"] or [])

    def counts() -> bool:
        found = read_below(tmp_path / "hosts")
        kept = [int(data or 0) for path, data in found if path.name == "step"]
        return len(kept) == 2 and min(kept) >= 2

    await_that("both ranks count", counts)
    before = [node["machine_id"] for node in nodes()]
    ec2.announce_preemption(before[rank])

    def replaced() -> bool:
        return nodes()[rank]["machine_id"] not in ("", before[rank])

    await_that("the rank has another machine", replaced)
    assert nodes()[1 - rank]["machine_id"] == before[1 - rank]
    assert "SUCCEEDED after 1 recovery" in cloud.stix("jobs", "wait", "1").stderr

    shown = cloud.stix("jobs", "logs", "1").stdout.splitlines()
    starts = [line.partition("rank ")[2].split() for line in shown if " from " in line]
    assert sorted(line[0] for line in starts) == ["0", "0", "1", "1"]
    assert len({line[4] for line in starts}) == 1, "the task's id stays"
    assert {line[6] for line in starts} == {"2"}
    assert all(int(line[2]) >= 2 for line in starts[2:]), "both go on where they were"
    events = json.loads(cloud.stix("jobs", "events", "1", "-o", "json").stdout)["events"]
    told = [event["reason"] for event in events if event["name"] in ("JobRecovering", "JobRecovered")]
    place = events[-2]["place"]
    assert told[0] == f"rank {rank} is replaced in {place}: 1 of its 2 machines stays"
    assert told[1].startswith(f"replaced rank {rank} in {place}; ")
    assert f"rank {rank} is replaced" in cloud.stix("explain", "1").stdout
    assert len(ec2.machines) == 3
    await_that("every machine ends", lambda: not any(host.on for host in ec2.machines.values()), every=0.5)

    def entered() -> bool:
        entries = json.loads(cloud.stix("cost-report", "-o", "json").stdout)["lines"]
        return bool(entries) and all(line["ended_at"] is not None for line in entries)

    # What is entered is what the provider says afterwards.
    await_that("their ends are in the ledger", entered, every=0.5)


def test_pipeline_fails_with_the_code_of_its_task_and_leaves_nothing(
    home: EmbeddedHome, tmp_path: Path
) -> None:
    file = tmp_path / "pipe.yaml"
    file.write_text(
        "name: pipe\n---\nname: one\nrun: echo first\n---\nname: two\nrun: echo second; exit 7\n"
        "---\nname: three\nrun: echo never\n"
    )
    done = home.stix("jobs", "launch", "-y", str(file), code=7)
    assert done.stdout == "first\nsecond\n"
    assert "Job 1 FAILED: two: run exited with code 7." in done.stderr
    [job] = queue(home).values()
    assert [task["status"] for task in job["tasks"]] == ["SUCCEEDED", "FAILED", "CANCELLED"]
    home.stix("jobs", "launch", "-y", "-d", "sleep 600")
    await_that("job 2 runs", lambda: queue(home)[2]["status"] == "RUNNING")
    home.stix("jobs", "cancel", "-y", "2")
    assert "CANCELLED" in home.stix("jobs", "wait", "2", code=1).stderr
    await_that("no cluster is left", lambda: "No clusters" in home.stix("status").stdout, every=0.5)
    # What still has to be looked at ends by itself; no job is among it.
    assert not [item for item in home.live_items() if item.key.kind == "managed_job"]


def test_job_goes_on_when_the_server_is_killed(home: EmbeddedHome, out: Path) -> None:
    wait = f"until [ -e {out}/go ]; do sleep 0.1; done"
    home.stix("jobs", "launch", "-y", "-d", f"seq 3; {wait}; for i in 4 5 6; do echo $i; sleep 0.5; done")
    await_that("job 1 runs", lambda: queue(home)[1]["status"] == "RUNNING")
    assert home.kill_server()
    (out / "go").touch()
    assert "SUCCEEDED" in home.stix("jobs", "wait", "1").stderr
    assert home.stix("jobs", "logs", "1").stdout.split() == list("123456")


GROUP = """
name: talk
execution: parallel
primary_tasks: [client]
termination_delay: 1s
---
name: server
run: |
  trap 'echo told to end; exit 0' TERM
  at=$(grep server-0 "$STIX_JOBGROUP_HOSTS" | cut -d" " -f1)
  python3 -m http.server 18765 --bind "$at" --directory . >/dev/null 2>&1 &
  wait $!
---
name: client
run: |
  for i in $(seq 100); do
    python3 - <<'CODE' && exit 0
  import os, urllib.request
  name = "server-0." + os.environ["SKYPILOT_JOBGROUP_NAME"]
  opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
  print(name, opener.open(f"http://{name}:18765/", timeout=5).status)
  CODE
    sleep 0.2
  done 2>/dev/null
  exit 1
"""


def test_tasks_of_a_group_reach_each_other_by_name_and_end_together(
    home: EmbeddedHome, tmp_path: Path
) -> None:
    file = tmp_path / "group.yaml"
    file.write_text(GROUP)
    home.stix("jobs", "launch", "-y", "-d", str(file))
    assert "SUCCEEDED" in home.stix("jobs", "wait", "1").stderr
    [job] = queue(home).values()
    assert [(task["name"], task["status"]) for task in job["tasks"]] == [
        ("server", "CANCELLED"),
        ("client", "SUCCEEDED"),
    ]
    assert home.stix("jobs", "logs", "1", "client").stdout == "server-0.talk 200\n"
    assert "told to end" in home.stix("jobs", "logs", "1", "server", code=None).stdout
    await_that("no cluster is left", lambda: "No clusters" in home.stix("status").stdout, every=0.5)
