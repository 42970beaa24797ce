"""Pools as a person has them: real commands, control plane and agents on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.embedded import EmbeddedHome, await_that

POOL = """
name: warm
resources: {infra: local, cpus: 1}
pool: {workers: 2}
setup: echo "set up once" && echo warm > $HOME/ready
"""
JOB = """
name: sweep
resources: {cpus: 1}
run: echo "rank $SKYPILOT_JOB_RANK of $STIX_NUM_JOBS finds $(cat $HOME/ready)"
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[EmbeddedHome]:
    made = EmbeddedHome(tmp_path / "home")
    yield made
    made.stix("jobs", "pool", "down", "-y", "-a")
    made.finish()


def pools(home: EmbeddedHome) -> dict[str, dict[str, Any]]:
    told = json.loads(home.stix("jobs", "pool", "status", "-o", "json").stdout)["pools"]
    return {pool["name"]: pool for pool in told}


def test_jobs_run_on_warm_workers_and_nothing_is_left(home: EmbeddedHome, tmp_path: Path) -> None:
    (tmp_path / "pool.yaml").write_text(POOL)
    (tmp_path / "job.yaml").write_text(JOB)
    applied = home.stix("jobs", "pool", "apply", "-y", str(tmp_path / "pool.yaml"))
    assert "Pool warm is being made." in applied.stderr
    launched = home.stix("jobs", "launch", "-y", "-p", "warm", "--num-jobs", "4", str(tmp_path / "job.yaml"))
    assert "Managed jobs 1 to 4 (sweep)." in launched.stderr
    for number in range(1, 5):
        assert "SUCCEEDED" in home.stix("jobs", "wait", str(number)).stderr
    said = sorted(home.stix("jobs", "logs", str(number)).stdout for number in range(1, 5))
    assert said == [f"rank {rank} of 4 finds warm\n" for rank in range(4)]
    shown = json.loads(home.stix("jobs", "queue", "-o", "json").stdout)["jobs"]
    assert {(job["pool"], job["status"]) for job in shown} == {("warm", "SUCCEEDED")}

    await_that("both workers are ready", lambda: pools(home)["warm"]["ready"] == 2, every=0.3)
    # They are warm: none came for a job.
    assert [worker["number"] for worker in pools(home)["warm"]["workers"]] == [1, 2]
    refused = home.stix("down", "-y", pools(home)["warm"]["workers"][0]["cluster"], code=2)
    assert "of pool 'warm'" in refused.stderr
    setup = ("jobs", "pool", "logs", "warm", "1", "--no-follow")
    await_that("its setup is told", lambda: home.stix(*setup).stdout == "(setup) set up once\n")
    assert "PoolWorkerReady" not in home.stix("jobs", "pool", "status", "-v", "warm").stdout

    home.stix("jobs", "pool", "down", "-y", "warm")
    await_that("the pool is gone", lambda: not pools(home), every=0.3)
    await_that(
        "its workers are gone",
        lambda: not json.loads(home.stix("status", "-o", "json").stdout)["clusters"],
        every=0.3,
    )
    gone = home.stix("jobs", "launch", "-y", "-p", "warm", "true", code=2)
    assert "There is no pool 'warm'." in gone.stderr
