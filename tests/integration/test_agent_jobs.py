"""Jobs on one node: real agents (the zipapp), real processes, real HTTP."""

from __future__ import annotations

import io
import json
import tarfile
import time

import pytest

from tests.integration.control_plane_double import cluster, processes_of, tar_gz
from tests.waiting import eventually


def test_job_reports_status_and_environment_when_it_ends(tmp_path):
    with cluster(tmp_path) as (plane, nodes):
        plane.secrets = {"TOKEN": "hush"}
        job = plane.submit(
            'printf "%s|" "$SKYPILOT_NODE_RANK" "$STIX_NUM_NODES" "$STIX_TASK_ID" "$GREETING" "$TOKEN";'
            ' printf "%s|" "$HOME" "$PWD"; echo; echo "$STIX_CLUSTER_INFO"; echo oops >&2; exit 7',
            setup='echo "preparing $STIX_SETUP_NODE_RANK $GREETING"',
            envs={"GREETING": "hello"},
            has_secrets=True,
        )
        ended = plane.wait_for(job)
        assert (ended["status"], ended["exit_codes"]) == ("FAILED", [7])
        assert "exited with code 7" in ended["reason"]
        assert ended["started_at"] <= ended["ended_at"]
        streams = plane.log(job)
        home = str(nodes[0].home)
        first, info = streams[1].decode().splitlines()
        assert first == f"0|1|stix-test_1|hello|hush|{home}|{home}/sky_workdir|"
        assert json.loads(info) == {"cluster_name": "test", "cloud": "local", "region": "here", "zone": "a"}
        assert streams[2] == b"oops\n"
        assert streams[3] == b"preparing 0 hello\n"
        assert "hush" not in json.dumps([report for _, report in plane.reports])
        assert not any(b"hush" in path.read_bytes() for path in nodes[0].state.rglob("*.json"))


def test_first_output_is_shipped_while_it_runs_when_somebody_begins_to_follow(tmp_path):
    slow = {"chunk_seconds": 600.0}
    with cluster(tmp_path, tunables=slow) as (plane, _):
        job = plane.submit("echo early; sleep 300", follow_until=None)
        plane.wait_for(job, "RUNNING")
        plane.follow_log(job)
        eventually(lambda: plane.chunks.get((job, 0)), "a chunk of the running job")
        assert plane.status(job) == "RUNNING"
        plane.cancel(job)
        plane.wait_for(job)


def test_job_succeeds_when_it_has_no_run(tmp_path):
    with cluster(tmp_path) as (plane, _):
        job = plane.submit(None, setup="echo only this")
        assert plane.wait_for(job)["status"] == "SUCCEEDED"
        assert plane.log(job)[3] == b"only this\n"


def test_job_is_failed_setup_when_setup_fails(tmp_path):
    with cluster(tmp_path) as (plane, _):
        job = plane.submit("echo never", setup="echo no >&2; exit 4")
        ended = plane.wait_for(job)
        assert (ended["status"], ended["exit_codes"]) == ("FAILED_SETUP", [4])
        streams = plane.log(job)
        assert (streams[1], streams[4]) == (b"", b"no\n")


def test_exit_code_is_128_plus_n_when_signal_n_kills_the_script(tmp_path):
    with cluster(tmp_path) as (plane, _):
        job = plane.submit("kill -9 $$")
        ended = plane.wait_for(job)
        assert (ended["status"], ended["exit_codes"]) == ("FAILED", [137])


def test_cancel_leaves_no_process_when_a_grandchild_became_a_daemon(tmp_path):
    with cluster(tmp_path) as (plane, _):
        job = plane.submit(
            "setsid bash -c 'trap \"\" TERM; while :; do sleep 300; done' &"
            " (trap '' TERM; sleep 301) & echo up; sleep 302"
        )
        plane.wait_for(job, "RUNNING")
        marker = f"STIX_JOB_KEY={plane.cluster_id}/{job}"
        eventually(lambda: len(processes_of(marker)) >= 6, "the whole tree runs")
        eventually(lambda: plane.chunks.get((job, 0)), "its word has arrived")
        plane.cancel(job)
        ended = plane.wait_for(job)
        assert ended["status"] == "CANCELLED"
        assert processes_of(marker) == []
        assert plane.log(job)[1] == b"up\n"


def test_cancel_is_immediate_when_the_job_is_still_queued(tmp_path):
    with cluster(tmp_path) as (plane, _):
        running = plane.submit("sleep 300", demand={"cpus": 2})
        queued = plane.submit("echo never", demand={"cpus": 2})
        plane.wait_for(running, "RUNNING")
        plane.cancel(queued)
        assert plane.wait_for(queued)["status"] == "CANCELLED"
        assert plane.status(running) == "RUNNING"
        plane.cancel(running)
        plane.wait_for(running, "CANCELLED")


def test_sixty_jobs_start_in_submit_order_when_one_runs_at_a_time(tmp_path):
    with cluster(tmp_path) as (plane, nodes):
        order = nodes[0].folder / "order"
        jobs = [
            plane.submit(f"echo {n} >> {order}", demand={"cpus": 2}, follow_until=None) for n in range(60)
        ]
        for job in jobs:
            assert plane.wait_for(job)["status"] == "SUCCEEDED"
        assert order.read_text().split() == [str(n) for n in range(60)]
        for job in jobs:
            plane.log(job)
        folders = [path.name for path in (nodes[0].state / "jobs").iterdir()]
        assert len(folders) <= 50 + 25


def test_two_jobs_share_a_gpu_when_each_needs_half(tmp_path):
    gpus = [{"index": 4, "name": "A100", "memory_gib": 80}]
    with cluster(tmp_path, gpus=gpus) as (plane, nodes):
        gate = nodes[0].folder / "gate"
        half = {"cpus": 0.1, "gpus": 0.5, "gpu_name": "A100"}
        script = f"echo $CUDA_VISIBLE_DEVICES; while [ ! -e {gate} ]; do sleep 0.02; done"
        first, second, third = (plane.submit(script, demand=half) for _ in range(3))
        plane.wait_for(first, "RUNNING")
        plane.wait_for(second, "RUNNING")
        assert plane.status(third) in ("", "PENDING")
        gate.touch()
        for job in (first, second, third):
            assert plane.wait_for(job)["status"] == "SUCCEEDED"
            assert plane.log(job)[1] == b"4\n"


@pytest.mark.parametrize(
    ("demand", "num_nodes", "words"),
    [
        ({"cpus": 64}, 1, "64 CPUs"),
        ({"cpus": 1, "gpus": 1, "gpu_name": "H100"}, 1, "H100"),
        ({"cpus": 1}, 3, "3 nodes"),
    ],
)
def test_job_fails_with_the_reason_when_no_node_can_ever_run_it(tmp_path, demand, num_nodes, words):
    with cluster(tmp_path) as (plane, _):
        job = plane.submit("echo never", demand=demand, num_nodes=num_nodes)
        ended = plane.wait_for(job)
        assert ended["status"] == "FAILED_DRIVER"
        assert words in ended["reason"]
        assert words in plane.notes(job)


def test_log_is_complete_when_both_streams_are_megabytes(tmp_path):
    with cluster(tmp_path) as (plane, _):
        plane.refuse_puts_once = {1, 3}
        job = plane.submit("head -c 3500000 /dev/urandom & head -c 2500000 /dev/urandom >&2; wait")
        assert plane.wait_for(job)["status"] == "SUCCEEDED"
        streams = plane.log(job)
        assert (len(streams[1]), len(streams[2])) == (3_500_000, 2_500_000)
        assert all(len(chunk) <= 1 << 20 for chunk in plane.chunks[(job, 0)].values())
        assert plane.rewritten == []


def test_job_runs_once_when_its_command_comes_twice(tmp_path):
    with cluster(tmp_path) as (plane, nodes):
        plane.redeliver = True
        job = plane.submit("echo once >> ~/count")
        plane.wait_for(job)
        plane.redeliver = True
        other = plane.submit("true")
        plane.wait_for(other)
        eventually(lambda: plane.acknowledged == 2, "both commands are acknowledged")
        assert (nodes[0].home / "count").read_text() == "once\n"


def test_workdir_is_fetched_once_when_its_hash_is_the_same(tmp_path):
    with cluster(tmp_path) as (plane, _nodes):
        first = plane.upload(tar_gz({"hello.sh": b"echo one\n", "sub/data": b"1"}))
        second = plane.upload(tar_gz({"hello.sh": b"echo two\n"}))
        outputs = []
        for workdir in (first, first, second, first):
            job = plane.submit("bash hello.sh; cat sub/data", workdir=workdir)
            assert plane.wait_for(job)["status"] == "SUCCEEDED"
            outputs.append(plane.log(job)[1])
        assert outputs == [b"one\n1", b"one\n1", b"two\n1", b"one\n1"]
        assert plane.downloads == [first["key"], second["key"], first["key"]]


def test_file_mounts_arrive_when_they_are_below_home(tmp_path):
    with cluster(tmp_path) as (plane, _):
        folder = plane.upload(tar_gz({"a/b": b"deep"}))
        single = plane.upload(tar_gz({"conf.txt": b"text"}))
        job = plane.submit(
            "cat ~/data/a/b ~/etc/renamed here/conf.txt",
            file_mounts=[
                {"dst": "~/data", "kind": "dir", **folder},
                {"dst": "~/etc/renamed", "kind": "file", **single},
                {"dst": "here/", "kind": "file", **single},
            ],
        )
        assert plane.wait_for(job)["status"] == "SUCCEEDED"
        assert plane.log(job)[1] == b"deeptexttext"


def test_file_mount_is_refused_when_it_is_absolute(tmp_path):
    with cluster(tmp_path) as (plane, _):
        single = plane.upload(tar_gz({"x": b"x"}))
        job = plane.submit("true", file_mounts=[{"dst": str(tmp_path / "out"), "kind": "file", **single}])
        ended = plane.wait_for(job)
        assert ended["status"] == "FAILED_SETUP"
        assert str(tmp_path / "out") in ended["reason"]
        assert not (tmp_path / "out").exists()


def test_hostile_workdir_writes_nothing_when_it_climbs_out(tmp_path):
    with cluster(tmp_path) as (plane, _nodes):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            entry = tarfile.TarInfo("../../owned")
            archive.addfile(entry, io.BytesIO(b""))
        job = plane.submit("echo never", workdir=plane.upload(buffer.getvalue()))
        ended = plane.wait_for(job)
        assert ended["status"] == "FAILED_SETUP"
        assert "../../owned" in ended["reason"]
        assert "../../owned" in plane.notes(job)
        assert list(tmp_path.rglob("owned")) == []


def test_job_fails_when_the_download_is_not_what_was_promised(tmp_path):
    with cluster(tmp_path) as (plane, _):
        workdir = plane.upload(tar_gz({"x": b"x"}))
        plane.uploads[workdir["key"]] = tar_gz({"x": b"y"})
        ended = plane.wait_for(plane.submit("true", workdir=workdir))
        assert ended["status"] == "FAILED_SETUP"
        assert workdir["sha256"] in ended["reason"]


def test_idle_since_is_told_when_the_last_job_ends(tmp_path):
    with cluster(tmp_path) as (plane, _):
        eventually(lambda: plane.reports and plane.reports[-1][1]["idle_since"], "idle at first")
        job = plane.submit("sleep 300")
        eventually(lambda: plane.reports[-1][1]["idle_since"] is None, "busy")
        plane.cancel(job)
        idle = eventually(lambda: plane.reports[-1][1]["idle_since"], "idle again")
        assert idle <= time.time()


def test_job_runs_in_the_given_cgroup_files_when_it_is_confined(tmp_path):
    procs = tmp_path / "cgroup.procs"
    with cluster(tmp_path, confine=[str(procs)]) as (plane, _):
        job = plane.submit("echo $PPID")
        plane.wait_for(job)
        assert plane.log(job)[1] == procs.read_bytes()


@pytest.mark.parametrize("agent", ["stays", "is killed meanwhile"])
def test_newer_run_of_a_managed_task_begins_only_when_the_older_one_has_ended(tmp_path, agent):
    """As where the head that could have ended it was lost with its machine."""
    managed = {
        "job": 3,
        "name": "train",
        "task": 0,
        "task_ids": ["one"],
        "recoveries": 0,
        "grace_seconds": 20,
    }
    order, told, gate = tmp_path / "order", tmp_path / "told", tmp_path / "gate"
    with cluster(tmp_path) as (plane, nodes):
        plane._on_checkpoints = lambda rank, body: {}
        at_end = f"touch {told}; while [ ! -e {gate} ]; do sleep 0.02; done; echo old ends >> {order}; exit 0"
        old = plane.submit(
            f"trap '{at_end}' TERM; echo old runs >> {order}; sleep 300 & wait $!",
            managed={**managed, "run": 4},
        )
        eventually(order.exists, "the old run is on its way")
        new = plane.submit(f"echo new runs >> {order}", managed={**managed, "run": 5})
        eventually(told.exists, "the old run is to end")
        if agent != "stays":
            nodes[0].kill()
            reports = plane.calls.count("report")
            nodes[0].start()
            eventually(lambda: plane.calls.count("report") > reports, "the next agent is there")
        gate.touch()
        assert plane.wait_for(new)["status"] == "SUCCEEDED"
        assert order.read_text().splitlines() == ["old runs", "old ends", "new runs"]
        assert "a newer run of the task begins" in plane.notes(old)
