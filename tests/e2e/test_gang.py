"""Jobs on several nodes: they reach each other, and start and end together."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.embedded import EmbeddedHome, await_that, command_of

pytestmark = pytest.mark.xdist_group("e2e-gang")


@pytest.fixture(scope="module")
def gang(new_home: Callable[..., EmbeddedHome]) -> EmbeddedHome:
    """A home with the cluster ``gang`` of two nodes."""
    home = new_home()
    home.stix("launch", "-y", "-c", "gang", "--num-nodes", "2")
    return home


def test_ring_sums_up_when_two_nodes_pass_it_around(gang: EmbeddedHome) -> None:
    done = gang.stix("exec", "gang", "docs/examples/ring.yaml")
    assert "(head, rank=0) The ring of 2 nodes sums to 3, as it must." in done.stdout
    assert "(worker1, rank=1) Rank 1 got 1 and passed on 3." in done.stdout


def restart(home: EmbeddedHome, **settings: str) -> None:
    home.stix("api", "stop")
    home.stix("api", "start", **settings)


@pytest.mark.parametrize("failing", [0, 1])
def test_other_rank_is_cancelled_when_one_fails(gang: EmbeddedHome, out: Path, failing: int) -> None:
    command = (
        f'if [ "$STIX_NODE_RANK" = {failing} ]; then exit 9; fi; echo waiting; sleep 300; touch {out}/slept'
    )
    done = gang.stix("exec", "--num-nodes", "2", "gang", command, code=9)
    assert f"rank {failing}" in done.stderr
    with gang.client() as client:
        job = client.job("gang", "latest")
    assert (job["status"], job["exit_codes"][failing]) == ("FAILED", 9)
    assert job["exit_codes"][1 - failing] != 0
    await_no_sleep(gang)
    assert not (out / "slept").exists()


def test_job_fails_naming_the_node_when_a_rank_never_comes(gang: EmbeddedHome, out: Path) -> None:
    frozen = gang.agents()[1]
    frozen.send_signal(signal.SIGSTOP)
    try:
        # Only this job's ranks wait so shortly for each other.
        restart(gang, STIX_BARRIER_SECONDS="3")
        job_id = gang.exec("gang", f"touch {out}/ran-$STIX_NODE_RANK", "--num-nodes", "2")
        job = gang.await_job("gang", job_id)
    finally:
        frozen.send_signal(signal.SIGCONT)
        restart(gang)
    assert job["status"] == "FAILED_DRIVER"
    with gang.client() as client:
        [_, late] = client.cluster("gang")["nodes"] or []
    assert f"rank 1 ({late['address']}:" in job["reason"]
    assert "within 3 s, so the job did not start on any node" in job["reason"]
    # The reason is in the log too, where people look.
    assert "within 3 s" in gang.stix("logs", "gang", str(job_id), code=1).stderr
    # The rank that woke up does not run it after all, and the cluster works on.
    again = gang.stix("exec", "--num-nodes", "2", "gang", "echo rank $STIX_NODE_RANK")
    assert sorted(again.stdout.splitlines()) == ["(head, rank=0) rank 0", "(worker1, rank=1) rank 1"]
    assert list(out.iterdir()) == []


def test_cancel_ends_every_rank_when_a_gang_runs(gang: EmbeddedHome, out: Path) -> None:
    job_id = gang.exec("gang", f"touch {out}/begun-$STIX_NODE_RANK; sleep 300", "--num-nodes", "2")
    await_that("both ranks run", lambda: len(list(out.iterdir())) == 2)
    gang.stix("cancel", "-y", "gang", str(job_id))
    assert gang.await_job("gang", job_id)["status"] == "CANCELLED"
    await_no_sleep(gang)


def await_no_sleep(home: EmbeddedHome) -> None:
    """What was ended may take a moment to go."""
    await_that(
        "no sleep is left",
        lambda: not [process for process in home.processes() if command_of(process)[:1] == ["sleep"]],
    )
