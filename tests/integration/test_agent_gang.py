"""Jobs over several nodes: together or not at all."""

from __future__ import annotations

from tests.integration.control_plane_double import cluster, processes_of
from tests.ports import free_port
from tests.waiting import eventually

RING = r"""
cat > ring.$STIX_NODE_RANK.py <<'PY'
import os, socket, time
rank, ips = int(os.environ["STIX_NODE_RANK"]), os.environ["STIX_NODE_IPS"].split("\n")
port = int(os.environ["RING_PORT"])
server = socket.create_server((ips[rank], port))
def send(value):
    for _ in range(3000):
        try:
            with socket.create_connection((ips[(rank + 1) % len(ips)], port)) as out:
                out.sendall(str(value).encode())
            return
        except ConnectionRefusedError:
            time.sleep(0.02)
def receive():
    return int(server.accept()[0].makefile().read())
if rank == 0:
    send(1)
    print("sum", receive())
else:
    send(receive() + rank + 1)
PY
python3 ring.$STIX_NODE_RANK.py
"""


def test_gang_of_three_passes_a_sum_round_the_ring_when_all_start_together(tmp_path):
    with cluster(tmp_path, 3) as (plane, _):
        envs = {"RING_PORT": str(free_port())}
        job = plane.submit(RING, num_nodes=3, setup="echo setup of $STIX_SETUP_NODE_RANK", envs=envs)
        ended = plane.wait_for(job)
        assert (ended["status"], ended["exit_codes"]) == ("SUCCEEDED", [0, 0, 0])
        assert plane.log(job, 0)[1] == b"sum 6\n"
        for rank in range(3):
            assert plane.log(job, rank)[3] == f"setup of {rank}\n".encode()


def test_gang_is_cancelled_when_one_rank_fails(tmp_path):
    with cluster(tmp_path, 3) as (plane, _):
        job = plane.submit(
            f'trap "" TERM; cd {tmp_path}; touch deaf-$STIX_NODE_RANK; while :; do sleep 0.05;'
            " [ $STIX_NODE_RANK = 2 ] && [ -e deaf-0 ] && [ -e deaf-1 ] && exit 5; done",
            num_nodes=3,
        )
        ended = plane.wait_for(job)
        assert ended["status"] == "FAILED"
        assert ended["exit_codes"] == [137, 137, 5]
        assert "rank 2" in ended["reason"]
        assert processes_of(f"STIX_JOB_KEY={plane.cluster_id}/{job}") == []
        assert "rank 2" in plane.notes(job, 0)


def test_gang_does_not_run_when_setup_fails_on_one_rank(tmp_path):
    with cluster(tmp_path, 2) as (plane, nodes):
        job = plane.submit("touch ~/ran", setup="exit $STIX_SETUP_NODE_RANK", num_nodes=2)
        ended = plane.wait_for(job)
        assert (ended["status"], ended["exit_codes"]) == ("FAILED_SETUP", [None, 1])
        assert not any((node.home / "ran").exists() for node in nodes)


def test_gang_fails_naming_the_rank_when_it_never_joins(tmp_path):
    with cluster(tmp_path, 3, started=2) as (plane, nodes):
        job = plane.submit("touch ~/ran", num_nodes=3, barrier_seconds=1)
        ended = plane.wait_for(job)
        assert ended["status"] == "FAILED_DRIVER"
        assert "rank 2" in ended["reason"]
        assert "not joined" in ended["reason"]
        assert "rank 2" in plane.notes(job, 0)
        assert not any((node.home / "ran").exists() for node in nodes)
        # The cluster is free for the next job, and the late rank may come.
        nodes[2].start()
        again = plane.submit("true", num_nodes=3)
        assert plane.wait_for(again)["status"] == "SUCCEEDED"


def test_gang_fails_naming_both_addresses_when_a_rank_cannot_be_reached(tmp_path):
    with cluster(tmp_path, 2, tunables={"probe_seconds": 0.2}) as (plane, nodes):
        first = plane.submit("true", num_nodes=2)
        plane.wait_for(first)
        nodes[1].kill()
        job = plane.submit("true", num_nodes=2)
        ended = plane.wait_for(job)
        assert ended["status"] == "FAILED_DRIVER"
        assert "127.77.1.1" in ended["reason"]
        assert "127.77.1.2" in ended["reason"]


def test_one_node_jobs_use_every_node_when_the_head_is_full(tmp_path):
    with cluster(tmp_path, 2) as (plane, _nodes):
        gate = tmp_path / "gate"
        script = f"echo $STIX_NODE_RANK $STIX_NODE_IPS; while [ ! -e {gate} ]; do sleep 0.02; done"
        jobs = [plane.submit(script, demand={"cpus": 2}) for _ in range(2)]
        for job in jobs:
            plane.wait_for(job, "RUNNING")
        gate.touch()
        outputs = set()
        for job in jobs:
            plane.wait_for(job, "SUCCEEDED")
            outputs.add(plane.log(job, 0)[1])
        assert outputs == {b"0 127.77.1.1\n", b"0 127.77.1.2\n"}


def test_all_ranks_end_when_a_gang_is_cancelled(tmp_path):
    with cluster(tmp_path, 2) as (plane, _):
        job = plane.submit("sleep 300", num_nodes=2)
        plane.wait_for(job, "RUNNING")
        eventually(lambda: len(processes_of(f"STIX_JOB_KEY={plane.cluster_id}/{job}")) >= 6, "both ranks run")
        plane.cancel(job)
        assert plane.wait_for(job)["status"] == "CANCELLED"
        assert processes_of(f"STIX_JOB_KEY={plane.cluster_id}/{job}") == []
        for rank in range(2):
            plane.log(job, rank)


def test_rank_is_idle_only_when_the_whole_cluster_is(tmp_path):
    with cluster(tmp_path, 2) as (plane, _):
        job = plane.submit("sleep 300", demand={"cpus": 2})

        def told(rank):
            return ([0.0] + [report["idle_since"] for who, report in plane.reports if who == rank])[-1]

        eventually(lambda: told(0) is None and told(1) is None, "both are busy")
        plane.cancel(job)
        eventually(lambda: told(0) and told(1), "both are idle")
