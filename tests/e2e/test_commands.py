"""Commands against a running cluster: exit codes, variables, secrets, cancelling, detaching, tables."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.embedded import ENDED, GENEROUS, EmbeddedHome, await_that, command_of, read_below

pytestmark = pytest.mark.xdist_group("e2e-commands")

CLUSTER = "training-llama-8b"


@pytest.fixture(scope="module")
def up(new_home: Callable[..., EmbeddedHome]) -> EmbeddedHome:
    """A home with a cluster of two nodes."""
    home = new_home()
    home.stix("launch", "-y", "-c", CLUSTER, "--num-nodes", "2")
    return home


@pytest.mark.parametrize(("command", "code"), [("true", 0), ("exit 3", 3), ("exit 255", 255)])
def test_exec_ends_with_the_exit_code_of_the_job(up: EmbeddedHome, command: str, code: int) -> None:
    up.stix("exec", CLUSTER, command, code=code)
    assert up.stix("logs", CLUSTER, code=code).returncode == code


def test_exec_ends_with_128_and_the_signal_when_the_job_is_killed(up: EmbeddedHome) -> None:
    done = up.stix("exec", CLUSTER, "kill -9 $$", code=137)
    assert "signal 9" in done.stderr


def test_setup_failure_is_told_when_a_launch_fails_in_it(up: EmbeddedHome, tmp_path: Path) -> None:
    task = tmp_path / "task.yaml"
    task.write_text("setup: exit 4\nrun: echo never\n")
    done = up.stix("launch", "-y", "-c", CLUSTER, str(task), code=None)
    assert done.returncode in (1, 4)
    assert "FAILED_SETUP" in done.stderr
    assert "never" not in done.stdout


def test_env_reaches_the_job_when_given_as_a_value_a_name_or_a_file(up: EmbeddedHome, tmp_path: Path) -> None:
    file = tmp_path / "some.env"
    file.write_text("# a comment\nexport FROM_FILE='two words'\n")
    flags = ("--env", "GIVEN=a=b", "--env", "TAKEN", "--env-file", str(file))
    done = up.stix("exec", *flags, CLUSTER, 'echo "$GIVEN|$TAKEN|$FROM_FILE"', TAKEN="mine")
    assert done.stdout == "a=b|mine|two words\n"


def files_holding(folder: Path, text: str) -> list[Path]:
    """Every file below ``folder`` with ``text`` in it."""
    return [path.relative_to(folder) for path, data in read_below(folder) if text.encode() in data]


def test_secret_is_only_where_it_must_be_and_nowhere_once_the_job_has_ended(
    up: EmbeddedHome, out: Path
) -> None:
    value = "correct-horse-battery-staple"
    command = f'touch {out}/begun; while [ ! -e {out}/go ]; do sleep 0.1; done; echo "${{#TOKEN}}"'
    job = up.exec(CLUSTER, command, "--secret", f"TOKEN={value}")
    await_that("the job begins", (out / "begun").exists)
    held = files_holding(up.folder, value)
    assert held
    assert {path.parts[0] for path in held} == {"secrets"}
    # No command line shows it; the environment of the job's own processes must hold it.
    assert not [process for process in up.processes() if value in " ".join(command_of(process))]
    (out / "go").touch()
    assert up.stix("logs", CLUSTER, str(job)).stdout == f"{len(value)}\n"
    assert up.await_job(CLUSTER, job)["status"] == "SUCCEEDED"
    assert files_holding(up.folder, value) == []


def test_cancel_ends_a_running_and_a_queued_job(up: EmbeddedHome, out: Path) -> None:
    whole = ("--cpus", f"{node_cpus(up):g}")
    running = [up.exec(CLUSTER, f"touch {out}/{n}; sleep 300", *whole) for n in range(2)]
    await_that("both nodes are busy", lambda: len(list(out.iterdir())) == 2)
    await_that(
        "it is known that they are",
        lambda: all(up.job(CLUSTER, job)["status"] == "RUNNING" for job in running),
    )
    queued = up.exec(CLUSTER, f"touch {out}/never", *whole)
    assert up.job(CLUSTER, queued)["status"] == "PENDING"
    up.stix("cancel", "-y", CLUSTER, str(queued))
    assert up.await_job(CLUSTER, queued)["status"] == "CANCELLED"
    assert up.job(CLUSTER, running[0])["status"] == "RUNNING"
    up.stix("cancel", "-y", "-a", CLUSTER)
    for job in running:
        assert up.await_job(CLUSTER, job)["status"] == "CANCELLED"
    assert not (out / "never").exists()
    assert "none to cancel" in up.stix("cancel", "-y", "-a", CLUSTER).stderr


def node_cpus(home: EmbeddedHome) -> float:
    with home.client() as client:
        return client.cluster(CLUSTER)["vcpus"] or 1.0


def test_interrupt_detaches_and_the_job_goes_on(up: EmbeddedHome, out: Path) -> None:
    follower = up.spawn(
        "exec",
        CLUSTER,
        f"echo hi; while [ ! -e {out}/go ]; do sleep 0.1; done; touch {out}/end",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert follower.stdout is not None
    assert follower.stdout.readline() == b"hi\n"
    follower.send_signal(signal.SIGINT)
    _, said = follower.communicate(timeout=GENEROUS)
    assert follower.returncode == 130
    assert b"Detached; the job goes on." in said
    assert b"Traceback" not in said
    with up.client() as client:
        job = client.job(CLUSTER, "latest")
    assert job["status"] not in ENDED
    (out / "go").touch()
    assert up.await_job(CLUSTER, job["id"])["status"] == "SUCCEEDED"
    assert (out / "end").exists()


def test_detached_exec_returns_at_once_and_logs_has_the_output(up: EmbeddedHome) -> None:
    done = up.stix("exec", "-d", CLUSTER, "echo later")
    assert done.stdout == ""
    assert "stix logs" in done.stderr
    assert up.stix("logs", CLUSTER).stdout == "later\n"


def test_status_option_tells_success_by_the_exit_code(up: EmbeddedHome) -> None:
    good, bad = up.exec(CLUSTER, "true"), up.exec(CLUSTER, "false")
    for job in (good, bad):
        up.await_job(CLUSTER, job)
    assert up.stix("logs", CLUSTER, str(good), "--status").stdout == "SUCCEEDED\n"
    assert up.stix("logs", CLUSTER, str(bad), "--status", code=1).stdout == "FAILED\n"


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["queue"],
        ["queue", "-s"],
        ["check"],
        ["check", "-v"],
        ["api", "info"],
        ["api", "status", "-a"],
        ["launch", "--dryrun", "--num-nodes", "2", "true"],
    ],
    ids=" ".join,
)
def test_tables_fit_80_columns_with_realistic_names(up: EmbeddedHome, command: list[str]) -> None:
    named = "evaluate-checkpoint-000200"
    up.stix("autostop", "-y", "-i", "600", "--down", CLUSTER)
    up.stix("exec", "-d", "-n", named, "--num-nodes", "2", CLUSTER, "true")
    done = up.stix(*command)
    assert done.stdout
    assert [line for line in done.stdout.splitlines() if len(line) > 80 and "home" not in line] == []


def test_json_output_is_one_document(up: EmbeddedHome) -> None:
    for command in (["status"], ["queue"], ["check"], ["api", "info"], ["api", "status", "-a"]):
        assert isinstance(json.loads(up.stix(*command, "-o", "json").stdout), dict)
