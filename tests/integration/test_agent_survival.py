"""What an agent outlives: its own death, a silent control plane, lost tokens; and when it ends for good."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess

import psutil
import pytest

from stix.agent.archive import build_archive
from tests.integration.control_plane_double import (
    ControlPlane,
    Node,
    cluster,
    kill_processes_of,
    processes_of,
)
from tests.waiting import eventually


def test_agent_joins_when_the_machine_becomes_known_later(tmp_path):
    with cluster(tmp_path, started=0) as (plane, nodes):
        plane.not_ready = 5
        nodes[0].start()
        assert plane.wait_for(plane.submit("true"))["status"] == "SUCCEEDED"
        assert plane.calls.count("join") == 6
        assert (nodes[0].state / "identity.json").stat().st_mode & 0o777 == 0o600
        facts = next(report["facts"] for _, report in plane.reports if "facts" in report)
        assert (facts["cpus"], facts["memory_gib"], facts["gpus"]) == (2.0, 4.0, [])


@pytest.mark.parametrize("gateway", [False, True], ids=["embedded", "API Gateway"])
def test_agent_joins_again_when_its_token_is_rotated(tmp_path, gateway):
    with cluster(tmp_path) as (plane, _):
        plane.refuses_as_gateway = gateway
        plane.tokens.clear()
        plane.set(autostop=None)
        assert plane.wait_for(plane.submit("true"))["status"] == "SUCCEEDED"
        assert plane.calls.count("join") == 2
        assert list(plane.tokens.values()) == [0]


def test_agent_gives_up_when_its_join_token_stays_refused(tmp_path):
    with cluster(tmp_path, started=0) as (plane, nodes):
        plane.join_token = "another"
        assert nodes[0].start().wait() == 66


def test_running_job_goes_on_when_the_agent_is_killed(tmp_path):
    with cluster(tmp_path) as (plane, nodes):
        gate = tmp_path / "gate"
        script = f"echo before; while [ ! -e {gate} ]; do sleep 0.02; done; echo after; exit 9"
        job = plane.submit(script, demand={"cpus": 2}, setup="echo once >> ~/setups")
        waiting = plane.submit("echo second", demand={"cpus": 2})
        plane.wait_for(job, "RUNNING")
        eventually(lambda: plane.chunks.get((job, 0)), "the first output has arrived")
        reports = plane.calls.count("report")
        nodes[0].kill()
        nodes[0].start()
        eventually(lambda: plane.calls.count("report") > reports, "it is back")
        gate.touch()
        ended = plane.wait_for(job)
        assert (ended["status"], ended["exit_codes"]) == ("FAILED", [9])
        assert plane.log(job)[1] == b"before\nafter\n"
        assert plane.rewritten == []
        assert plane.wait_for(waiting)["status"] == "SUCCEEDED"
        assert (nodes[0].home / "setups").read_text() == "once\n"
        assert plane.calls.count("join") == 1


def test_setup_goes_on_and_can_be_cancelled_when_the_next_agent_gets_no_secrets(tmp_path):
    with cluster(tmp_path) as (plane, nodes):
        job = plane.submit("true", setup="echo begun; sleep 300", has_secrets=True)
        plane.wait_for(job, "SETTING_UP")
        marker = f"STIX_JOB_KEY={plane.cluster_id}/{job}"
        eventually(lambda: processes_of(marker), "the setup runs")
        plane.busy.add("secrets")
        nodes[0].kill()
        reports = plane.calls.count("report")
        nodes[0].start()
        eventually(lambda: plane.calls.count("report") > reports, "it is back")
        plane.cancel(job)
        assert plane.wait_for(job)["status"] == "CANCELLED"
        assert processes_of(marker) == []


def test_result_is_found_when_the_job_ends_while_the_agent_is_dead(tmp_path):
    with cluster(tmp_path) as (plane, nodes):
        gate = tmp_path / "gate"
        job = plane.submit(f"while [ ! -e {gate} ]; do sleep 0.02; done; head -c 2000000 /dev/zero; exit 6")
        plane.wait_for(job, "RUNNING")
        nodes[0].kill()
        gate.touch()
        marker = f"STIX_JOB_KEY={plane.cluster_id}/{job}"
        eventually(lambda: not processes_of(marker), "the job has ended alone")
        nodes[0].start()
        ended = plane.wait_for(job)
        assert (ended["status"], ended["exit_codes"]) == ("FAILED", [6])
        assert plane.log(job)[1] == b"\0" * 2_000_000


def test_job_is_failed_when_it_vanished_while_the_agent_was_dead(tmp_path):
    with cluster(tmp_path) as (plane, nodes):
        job = plane.submit("sleep 300")
        plane.wait_for(job, "RUNNING")
        nodes[0].kill()
        kill_processes_of(f"STIX_JOB_KEY={plane.cluster_id}/{job}")
        nodes[0].start()
        ended = plane.wait_for(job)
        assert (ended["status"], ended["exit_codes"]) == ("FAILED", [137])


@pytest.mark.parametrize("killed", [0, 1])
def test_gang_goes_on_when_one_agent_is_killed(tmp_path, killed):
    with cluster(tmp_path, 2) as (plane, nodes):
        gate = tmp_path / "gate"
        job = plane.submit(
            f"while [ ! -e {gate} ]; do sleep 0.02; done; echo $STIX_NODE_RANK; exit $STIX_NODE_RANK",
            num_nodes=2,
        )
        plane.wait_for(job, "RUNNING")
        nodes[killed].kill()
        nodes[killed].start()
        gate.touch()
        ended = plane.wait_for(job)
        assert ended["status"] == "FAILED"
        assert ended["exit_codes"][1] == 1
        assert plane.log(job, 1)[1] == b"1\n"


def test_everything_arrives_later_when_the_control_plane_is_down(tmp_path):
    with cluster(tmp_path) as (plane, nodes):
        gate = tmp_path / "gate"
        job = plane.submit(
            f"echo a; while [ ! -e {gate} ]; do sleep 0.02; done; head -c 3000000 /dev/zero; echo b"
        )
        queued = plane.submit("echo queued", demand={"cpus": 2})
        plane.wait_for(job, "RUNNING")
        eventually(lambda: plane.acknowledged == 2, "both commands are acknowledged")
        plane.stop()
        gate.touch()
        outcome = nodes[0].state / "jobs" / f"{queued}-0" / "outcome.json"
        eventually(outcome.exists, "both jobs end without the control plane")
        plane.start()  # Somewhere else, as an embedded one may.
        nodes[0].point_at_plane()
        assert plane.wait_for(job)["status"] == "SUCCEEDED"
        assert plane.log(job)[1] == b"a\n" + b"\0" * 3_000_000 + b"b\n"
        assert plane.wait_for(queued)["status"] == "SUCCEEDED"
        assert plane.log(queued)[1] == b"queued\n"


def test_node_ends_with_its_jobs_when_it_is_wanted_absent(tmp_path):
    with cluster(tmp_path) as (plane, nodes):
        job = plane.submit("echo started; sleep 300")
        plane.wait_for(job, "RUNNING")
        plane.set(wanted="ABSENT")
        assert nodes[0].wait() == 0
        assert processes_of(f"STIX_JOB_KEY={plane.cluster_id}/{job}") == []
        assert plane.log(job)[1] == b"started\n"


def test_node_ends_when_the_cluster_is_gone(tmp_path):
    with cluster(tmp_path) as (plane, nodes):
        job = plane.submit("sleep 300")
        plane.wait_for(job, "RUNNING")
        with plane.changed:
            plane.gone = True
            plane.changed.notify_all()
        assert nodes[0].wait() == 0
        assert processes_of(f"STIX_JOB_KEY={plane.cluster_id}/{job}") == []


def test_idle_node_ends_alone_when_the_control_plane_stays_silent(tmp_path):
    with cluster(tmp_path) as (plane, nodes):
        plane.set(autostop={"idle_minutes": 0, "down": True, "wait_for": "jobs"}, dead_man_seconds=1)
        eventually(
            lambda: (
                (nodes[0].state / "settings.json").exists()
                and '"version":2' in (nodes[0].state / "settings.json").read_text()
            ),
            "the settings have arrived",
        )
        plane.stop()
        assert nodes[0].wait() == 0


def test_machine_restarts_the_agent_when_it_dies_and_ends_all_when_it_is_stopped(tmp_path):
    def agents() -> list[psutil.Process]:
        return [child for child, words in _alive_children(machine) if "agent" in words]

    with cluster(tmp_path, started=0) as (plane, nodes):
        node = nodes[0].start("machine")
        job = plane.submit("setsid -f sleep 300; echo $$ > ~/pid; sleep 301")
        plane.wait_for(job, "RUNNING")
        machine = psutil.Process(node.pid)
        (agent,) = agents()
        reports = plane.calls.count("report")
        agent.kill()
        eventually(lambda: [new for new in agents() if new != agent], "a new agent")
        eventually(lambda: plane.calls.count("report") > reports, "it reports")
        assert plane.status(job) == "RUNNING"
        eventually(lambda: len(processes_of(f"HOME={node.home}")) >= 4, "the job's processes are there")
        assert machine.memory_info().rss < 16 << 20
        node.process.send_signal(signal.SIGTERM)
        assert node.wait() == 0
        assert processes_of(f"HOME={node.home}") == []


def test_machine_ends_when_its_agent_powers_off(tmp_path):
    with cluster(tmp_path, started=0) as (plane, nodes):
        node = nodes[0].start("machine")
        eventually(lambda: 0 in plane.peers, "it joins")
        plane.set(wanted="ABSENT")
        assert node.wait() == 0


def test_machine_ends_with_its_jobs_when_its_folder_is_deleted(tmp_path):
    with cluster(tmp_path, started=0, tunables={"folder_check_seconds": 0.1}) as (plane, nodes):
        node = nodes[0].start("machine")
        eventually(lambda: 0 in plane.peers, "it joins")
        plane.wait_for(plane.submit("sleep 300"), "RUNNING")
        node.config.unlink()
        assert node.wait() == 0
        assert processes_of(f"HOME={node.home}") == []


def test_job_runs_when_python_is_the_oldest_supported(tmp_path):
    python = _oldest_python()
    if python is None:
        pytest.skip("no python3.8 that runs is on the PATH")
    with cluster(tmp_path, 2, started=0) as (plane, nodes):
        for node in nodes:
            node.start("machine", python=python)
        workdir = plane.upload(_tree())
        job = plane.submit("cat file; exit $STIX_NODE_RANK", num_nodes=2, setup="echo ready", workdir=workdir)
        ended = plane.wait_for(job)
        assert ended["status"] == "FAILED"
        assert ended["exit_codes"][1] == 1
        assert plane.log(job, 1)[1] == b"content"
        facts = next(report["facts"] for _, report in plane.reports if "facts" in report)
        assert facts["python"].startswith("3.8.")


def _tree() -> bytes:
    from tests.integration.control_plane_double import tar_gz

    return tar_gz({"file": b"content"})


def _oldest_python() -> str | None:
    found = shutil.which("python3.8")
    candidates = [found] if found else []
    root = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    versions = os.path.join(root, "versions")
    if os.path.isdir(versions):
        candidates += [
            os.path.join(versions, name, "bin", "python3.8")
            for name in os.listdir(versions)
            if name[:4] == "3.8."
        ]
    for python in candidates:
        try:
            if (
                subprocess.run([python, "-c", "import sqlite3"], capture_output=True, check=False).returncode
                == 0
            ):
                return python
        except OSError:
            continue
    return None


def _alive_children(process: psutil.Process) -> list[tuple[psutil.Process, list[str]]]:
    """Each with its command line."""
    found = []
    for child in process.children():
        try:
            if child.status() != psutil.STATUS_ZOMBIE:
                found.append((child, child.cmdline()))
        except psutil.Error:
            continue
    return found


def test_fatal_code_is_returned_when_the_config_is_unusable(tmp_path):
    plane = ControlPlane()
    build_archive(tmp_path / "agent.pyz")
    node = Node(plane, tmp_path / "agent.pyz", tmp_path / "n", 0)
    node.config.write_text('{"state_dir": "%s"}' % (tmp_path / "state"))
    assert node.start("machine").wait() == 65
