"""The newcomer's first minute: the example of the documentation, from nothing to nothing left."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.e2e.embedded import EmbeddedHome, await_that

pytestmark = pytest.mark.xdist_group("e2e-hello")


def test_hello_runs_on_two_nodes_and_leaves_nothing_when_taken_down(
    new_home: Callable[..., EmbeddedHome],
) -> None:
    home = new_home()
    done = home.stix("launch", "-y", "-c", "hello", "docs/examples/hello.yaml", "--env", "GREETING=Good day")
    lines = done.stdout.splitlines()
    for rank, who in ((0, "head, rank=0"), (1, "worker1, rank=1")):
        assert f"(setup, rank={rank}) Setting up node {rank} of 2" in lines
        assert f"({who}) Good day from rank {rank} of 2: two machines, one command." in lines
    assert "Job 1 SUCCEEDED." in done.stderr
    [cluster] = json.loads(home.stix("status", "-o", "json").stdout)["clusters"]
    assert (cluster["name"], cluster["status"], cluster["num_nodes"]) == ("hello", "UP", 2)
    assert len(home.agents()) == 2
    # The log can be read again after the fact, byte for byte the same lines.
    assert sorted(home.stix("logs", "hello", "1").stdout.splitlines()) == sorted(lines)

    home.stix("down", "-y", "hello")
    assert json.loads(home.stix("status", "-o", "json").stdout)["clusters"] == []
    # The run that took it down ends after its last word to the command.
    await_that("nothing is left to do", lambda: not home.live_items() and not home.live_runs())
    assert not list((home.folder / "nodes").glob("local-*"))
    home.stix("api", "stop")
    home.await_no_process()


def test_second_launch_reuses_the_cluster_and_runs_setup_again(home: EmbeddedHome) -> None:
    first = home.stix("launch", "-y", "-c", "again", "docs/examples/hello.yaml")
    second = home.stix("launch", "-y", "-c", "again", "docs/examples/hello.yaml")
    assert "Using cluster again." in second.stderr
    assert "(setup, rank=1) Setting up node 1 of 2" in second.stdout
    assert sorted(first.stdout.splitlines()) == sorted(second.stdout.splitlines())
    assert len(home.agents()) == 2


def test_launch_makes_a_cluster_and_no_job_when_there_is_no_task(home: EmbeddedHome) -> None:
    home.stix("launch", "-y", "-c", "bare")
    with home.client() as client:
        assert client.cluster("bare")["status"] == "UP"
        assert list(client.jobs("bare")) == []
    # It is no mistake to ask again, and the first job is the first.
    home.stix("launch", "-y", "-c", "bare")
    assert home.exec("bare", "true") == 1
    home.stix("down", "-y", "bare")
