"""What people get wrong before anything runs: one paragraph, a fix, an exit code, and never a traceback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from stix.local.daemon import ensure_running, stop
from stix.model.errors import UnavailableError
from tests.e2e.embedded import STIX
from tests.ports import free_port

BAD_INPUT, FAILURE = 2, 1
PROGRESS = ("Starting the local control plane...",)


def stix(home: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("STIX_", "PYTEST"))}
    return subprocess.run(
        [STIX, *arguments],
        env=kept | {"STIX_HOME": str(home), "COLUMNS": "80"} | environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=home.parent,
    )


def assert_refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """An error for a person: a line a problem, the fix at its end or below, nothing on standard output."""
    assert "Traceback" not in done.stderr
    said = [line for line in done.stderr.splitlines() if line not in PROGRESS]
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert said, "not a word"
    assert said[0].startswith("stix: error: "), done.stderr
    assert all(line.startswith(("  ", "task.yaml:")) for line in said[1:]), done.stderr
    assert len(said) <= 3, done.stderr
    assert [word for word in words if word not in done.stderr] == []


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "home"
    yield folder
    if folder.is_dir():
        stop(folder)


YAML = {
    "an unknown field": ("runn: echo hi\n", ["task.yaml:1:", "runn", "run"]),
    "a wrong type": ("name: t\nnum_nodes: two\n", ["task.yaml:2:", "num_nodes", "two"]),
    "a wrong field of resources": ("resources:\n  cpu: 4\n", ["task.yaml:2:", "resources.cpu", "cpus"]),
    "no YAML": ("run: [unclosed\n", ["task.yaml:2:"]),
    "a list": ("- run: echo hi\n", ["task.yaml"]),
    "a binary file": ("\0\1\2", ["task.yaml"]),
    "bad memory": ("resources:\n  memory: lots\n", ["task.yaml:2:", "resources.memory", "lots"]),
    "a name with a blank": ("name: my task\n", ["task.yaml:1:", "name", "my task"]),
    "no nodes": ("num_nodes: 0\n", ["task.yaml:1:", "num_nodes", "0"]),
    "an env without a value": ("envs:\n  TOKEN:\nrun: echo\n", ["TOKEN", "--env"]),
    "a workdir that is not there": ("workdir: ./absent\nrun: ls\n", ["workdir", "absent"]),
    "a mount that is not there": ("file_mounts:\n  ~/data: ./absent\nrun: ls\n", ["file_mounts", "absent"]),
    "a bad port": ("resources:\n  ports: 99999\n", ["resources.ports", "99999"]),
    "bad accelerators": ("resources:\n  accelerators: A100:none\n", ["task.yaml:2:", "A100:none"]),
    "an unknown cloud": ("resources:\n  infra: moon\n", ["task.yaml:2:", "infra", "moon"]),
}


@pytest.mark.parametrize("case", YAML)
def test_task_file_is_refused_before_anything_starts_when_it_has(home: Path, case: str) -> None:
    text, words = YAML[case]
    (home.parent / "task.yaml").write_text(text)
    assert_refused(stix(home, "launch", "-y", "-c", "c", "task.yaml"), BAD_INPUT, *words)
    assert not home.exists(), "nothing had to be started to see this"


FLAGS = {
    "a missing file": (["launch", "-y", "absent.yaml"], ["absent.yaml"]),
    "a folder as a file": (["launch", "-y", "folder.yaml"], ["folder.yaml"]),
    "zero nodes": (["launch", "-y", "--num-nodes", "0", "true"], ["--num-nodes", "0"]),
    "words as nodes": (["launch", "-y", "--num-nodes", "many", "true"], ["--num-nodes", "many"]),
    "bad memory": (["launch", "-y", "--memory", "16GX", "true"], ["--memory", "16GX"]),
    "bad cpus": (["launch", "-y", "--cpus", "-3", "true"], ["--cpus", "-3"]),
    "bad gpus": (["launch", "-y", "--gpus", "A100:x", "true"], ["--gpus", "A100:x"]),
    "an env without a name": (["launch", "-y", "--env", "=x", "true"], ["--env"]),
    "an env that is not set": (["launch", "-y", "--env", "NOT_SET_HERE", "true"], ["NOT_SET_HERE"]),
    "a missing env file": (["launch", "-y", "--env-file", "absent.env", "true"], ["absent.env"]),
    "an unknown flag": (["launch", "--cluster-name", "x"], ["--cluster-name"]),
    "an unknown command": (["lanch", "task.yaml"], ["lanch", "launch"]),
    "wait-for without minutes": (["launch", "-y", "--wait-for", "jobs", "true"], ["--wait-for", "-i"]),
    "neither names nor all": (["down", "-y"], ["--all"]),
    "names and all": (["stop", "-y", "-a", "x"], ["--all"]),
    "no command for exec": (["exec", "c"], ["ENTRYPOINT"]),
    "job ids and all": (["cancel", "-y", "-a", "c", "1"], ["--all"]),
    "a word as a job id": (["logs", "c", "one"], ["one"]),
    "a port that is none": (["api", "start", "--port", "70000"], ["--port", "70000"]),
    "no address to log in to": (["api", "login", "-e", "nonsense", "-t", "x"], ["nonsense"]),
}


@pytest.mark.parametrize("case", FLAGS)
def test_command_is_refused_before_anything_starts_when_it_has(home: Path, case: str) -> None:
    arguments, words = FLAGS[case]
    (home.parent / "folder.yaml").mkdir()
    done = stix(home, *arguments)
    assert_refused(done, BAD_INPUT, *words)
    assert not home.exists(), "nothing had to be started to see this"


def test_unreachable_server_is_named_when_the_environment_points_to_it(home: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    done = stix(home, "status", STIX_API_URL=url, STIX_API_TOKEN="t")
    assert_refused(done, FAILURE, url, "STIX_API_URL")


def test_half_an_endpoint_is_refused_when_the_token_is_missing(home: Path) -> None:
    assert_refused(stix(home, "status", STIX_API_URL="http://127.0.0.1:1"), BAD_INPUT, "STIX_API_TOKEN")


def test_address_is_refused_when_it_is_none(home: Path) -> None:
    done = stix(home, "status", STIX_API_URL="nonsense", STIX_API_TOKEN="t")
    assert_refused(done, BAD_INPUT, "STIX_API_URL", "nonsense")


def test_server_is_named_when_it_speaks_something_else(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        url = f"http://127.0.0.1:{other.getsockname()[1]}"

        def answer() -> None:
            while True:
                try:
                    connection, _ = other.accept()
                except OSError:
                    return
                with connection, suppress(ConnectionError):
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        done = stix(home, "status", STIX_API_URL=url, STIX_API_TOKEN="t")
        other.shutdown(socket.SHUT_RDWR)
    thread.join(10)
    assert_refused(done, FAILURE, url)


def test_port_is_refused_when_another_program_has_it(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = stix(home, "api", "start", "--port", str(port))
    assert_refused(done, BAD_INPUT, f"port {port} is in use", f"process {os.getpid()}", "--port")


@pytest.mark.parametrize("below", [False, True])
def test_home_is_named_when_a_file_is_in_its_place(home: Path, below: bool) -> None:
    home.write_text("not a folder")
    place = home / "deeper" if below else home
    assert_refused(stix(home, "launch", "-y", "true", STIX_HOME=str(place)), FAILURE, str(home))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_home_is_named_when_it_is_not_writable(home: Path) -> None:
    home.mkdir(mode=0o500)
    assert_refused(stix(home, "status"), FAILURE, str(home))


def test_home_is_refused_when_others_may_write_to_it(home: Path) -> None:
    home.mkdir()
    home.chmod(0o777)
    assert_refused(stix(home, "launch", "-y", "true"), FAILURE, str(home), "chmod 700")


@pytest.mark.parametrize("content", [b"this is not a database, and long enough to be read as one" * 9, b""])
def test_state_file_is_named_when_it_is_damaged(home: Path, content: bytes) -> None:
    assert stix(home, "api", "start").returncode == 0
    assert stix(home, "api", "stop").returncode == 0
    for rest in ("state.db-wal", "state.db-shm"):
        (home / rest).unlink(missing_ok=True)
    state = home / "state.db"
    state.write_bytes(content or state.read_bytes()[:5000])
    assert_refused(stix(home, "status"), FAILURE, str(state))
    # The way out that the documentation gives.
    state.rename(home / "state.db.damaged")
    assert stix(home, "status").returncode == 0


def test_last_word_is_told_without_a_traceback_when_the_server_crashes(home: Path) -> None:
    crash = (sys.executable, "-c", "def start(): raise RuntimeError('the disk is on fire')\nstart()")
    with pytest.raises(UnavailableError, match="RuntimeError: the disk is on fire") as told:
        ensure_running(home, command=crash)
    assert "Traceback" not in str(told.value)
    assert str(home / "server.log") in told.value.hint


def test_setting_is_refused_when_it_is_no_number(home: Path) -> None:
    done = stix(home, "api", "start", STIX_BARRIER_SECONDS="soon")
    assert_refused(done, BAD_INPUT, "STIX_BARRIER_SECONDS", "soon")


def test_login_is_named_when_its_file_is_damaged(home: Path) -> None:
    home.mkdir(mode=0o700)
    (home / "endpoint.json").write_text("{")
    assert_refused(stix(home, "status"), BAD_INPUT, "endpoint.json", "stix api logout")


def test_server_stops_and_starts_when_its_file_is_damaged(home: Path) -> None:
    assert stix(home, "api", "start").returncode == 0
    (home / "server.json").write_text(json.dumps({"url": 7}))
    assert stix(home, "api", "stop").returncode == 0
    assert stix(home, "status").returncode == 0
