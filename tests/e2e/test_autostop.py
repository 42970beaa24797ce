"""Clusters that stop or go by themselves, and what outlives a stop."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.embedded import EmbeddedHome, await_that

pytestmark = pytest.mark.xdist_group("e2e-autostop")


def status_of(home: EmbeddedHome, name: str) -> str:
    """Empty for a cluster that is gone."""
    with home.client() as client:
        return next((cluster["status"] for cluster in client.clusters([name])), "")


def test_cluster_stops_and_keeps_its_files_when_idle_for_zero_minutes(home: EmbeddedHome, out: Path) -> None:
    home.stix("launch", "-y", "-c", "lazy", "--num-nodes", "2", "echo kept > ~/note; pwd")
    home.stix("autostop", "-y", "-i", "0", "lazy")
    await_that("lazy stops", lambda: status_of(home, "lazy") == "STOPPED")
    assert home.agents() == {}
    assert "STOPPED" in home.stix("status").stdout
    refused = home.stix("exec", "lazy", "true", code=2)
    assert "stix start lazy" in refused.stderr

    home.stix("autostop", "-y", "--cancel", "lazy")
    home.stix("start", "-y", "lazy")
    assert status_of(home, "lazy") == "UP"
    assert len(home.agents()) == 2
    done = home.stix("exec", "--num-nodes", "2", "lazy", "cat ~/note")
    assert "(head, rank=0) kept" in done.stdout
    # Old logs need no machine.
    assert "kept" not in home.stix("logs", "lazy", "1").stdout
    assert "nodes" in home.stix("logs", "lazy", "1").stdout
    home.stix("down", "-y", "lazy")


def test_cluster_is_gone_when_idle_for_zero_minutes_with_down(home: EmbeddedHome) -> None:
    home.stix("launch", "-y", "-c", "shortlived", "echo done")
    home.stix("autostop", "-y", "-i", "0", "--down", "shortlived")
    await_that("shortlived goes", lambda: status_of(home, "shortlived") == "")
    assert home.agents() == {}
    await_that("nothing is left to do", lambda: not home.live_items())


def test_launch_with_down_deletes_the_cluster_when_its_job_has_ended(home: EmbeddedHome, out: Path) -> None:
    home.stix("launch", "-y", "-d", "-c", "once", "--down", f"sleep 0.5; echo done > {out}/result")
    await_that("once goes", lambda: status_of(home, "once") == "")
    assert (out / "result").read_text() == "done\n"


def test_stop_and_start_bring_the_queue_to_an_end_when_a_job_runs(home: EmbeddedHome, out: Path) -> None:
    home.stix("launch", "-y", "-c", "paused")
    job_id = home.exec("paused", f"touch {out}/begun; sleep 300")
    await_that("the job begins", (out / "begun").exists)
    home.stix("stop", "-y", "paused")
    job = home.job("paused", job_id)
    assert job["status"] == "CANCELLED"
    assert "stopped" in job["reason"]
    home.stix("start", "-y", "paused")
    assert home.stix("exec", "paused", "echo up again").stdout == "up again\n"
    home.stix("down", "-y", "paused")
