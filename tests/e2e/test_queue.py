"""A full queue: every job runs, and none of equal needs overtakes another."""

from __future__ import annotations

from pathlib import Path

import pytest

from stix.model.task import Task
from tests.e2e.embedded import EmbeddedHome, await_that

pytestmark = pytest.mark.xdist_group("e2e-queue")


@pytest.mark.parametrize(
    ("single", "double"), [(40, 10), pytest.param(400, 100, marks=pytest.mark.soak)], ids=["sample", "full"]
)
def test_all_jobs_succeed_in_order_when_many_are_submitted_at_once(
    home: EmbeddedHome, out: Path, single: int, double: int
) -> None:
    home.stix("launch", "-y", "-c", "queue", "--num-nodes", "2")
    total = single + double
    # Every fifth needs both nodes, so that small jobs and gangs wait for each other.
    sizes = [2 if n % (total // double) == 0 else 1 for n in range(total)]
    assert sizes.count(2) == double
    with home.client() as client:
        nodes = client.cluster("queue")["nodes"] or []
        ids = {}
        for number, nodes_needed in enumerate(sizes):
            run = f'[ "$STIX_NODE_RANK" != 0 ] || echo {number} >> {out}/started-{nodes_needed}'
            task = Task.from_yaml_config({"num_nodes": nodes_needed, "run": run})
            ids[client.exec("queue", {"task": task.to_yaml_config()})["job_id"]] = number
        await_that(
            "the queue is empty",
            lambda: not list(client.jobs("queue", skip_finished=True, limit=1)),
            seconds=500,
            every=0.5,
        )
        ended = [job for job in client.jobs("queue") if job["id"] in ids]
    assert [job["status"] for job in ended] == ["SUCCEEDED"] * total
    # Job numbers say in which order the server took them.
    assert [ids[number] for number in sorted(ids)] == list(range(total))
    # At 0.5 CPU a job, this many are under way together, and may write in any order.
    together = sum(int((node["vcpus"] or 1) / 0.5) for node in nodes)
    for size in (1, 2):
        submitted = [number for number in range(total) if sizes[number] == size]
        started = [int(line) for line in (out / f"started-{size}").read_text().split()]
        assert sorted(started) == submitted
        for place, number in enumerate(started):
            # Whoever is placed finds all earlier ones placed, and all but the last few of them ended.
            written = sum(earlier < number for earlier in started[:place])
            assert submitted.index(number) - written < together
    home.stix("down", "-y", "queue")
