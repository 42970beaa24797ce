"""How the embedded control plane starts, ends, dies and comes back."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from stix.local.daemon import Endpoint, ensure_running, read_endpoint, status, stop
from stix.local.home import Home
from stix.model.errors import ConflictError, ForbiddenError, InvalidInputError, UnavailableError
from tests.ports import free_port
from tests.waiting import PATIENCE, eventually

DOUBLES = (sys.executable, str(Path(__file__).with_name("embedded_doubles.py")))


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "home"
    yield folder
    stop(folder)


def start(home: Path, **options: Any) -> Endpoint:
    return ensure_running(home, command=DOUBLES, **options)


def get(endpoint: Endpoint, target: str) -> Any:
    parts = urlsplit(endpoint.url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=PATIENCE)
    try:
        connection.request("GET", target, headers={"Authorization": f"Bearer {endpoint.token}"})
        answer = connection.getresponse()
        assert answer.status == 200
        return json.loads(answer.read())
    finally:
        connection.close()


def kill(home: Path) -> int:
    """End the server as a power cut would."""
    found = status(home)
    assert found is not None
    os.kill(found.pid, signal.SIGKILL)
    os.waitpid(found.pid, 0)
    return found.pid


def words(home: Path, name: str) -> list[str]:
    path = home / "doubles" / name
    return path.read_text().split() if path.exists() else []


def recorded(home: Path) -> int:
    """How many schedules have their next due time on the disk."""
    with closing(sqlite3.connect(home / "state.db")) as connection:
        return int(connection.execute("SELECT count(*) FROM schedules").fetchone()[0])


def test_server_is_the_same_when_asked_for_again(home: Path) -> None:
    first = start(home)
    assert start(home) == first == read_endpoint(home)
    found = status(home)
    assert found is not None
    assert found.url == first.url
    assert Home(home).token() == first.token
    assert (home / "api_url").read_text().strip() == first.url


def test_one_server_is_started_when_many_commands_ask_at_once(home: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from stix.local.daemon import ensure_running\n"
        f"print(ensure_running(Path({str(home)!r}), command={DOUBLES!r}))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}

    def command(_: int) -> str:
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
        ).stdout

    with ThreadPoolExecutor(4) as pool:
        outputs = set(pool.map(command, range(4)))
    assert len(outputs) == 1
    # A second start would have moved the first one's log aside.
    assert not (home / "server.log.1").exists()


def test_second_server_is_refused_when_one_runs_in_the_folder(home: Path) -> None:
    start(home)
    second = subprocess.run(
        [*DOUBLES, "--home", str(home)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    found = status(home)
    assert found is not None
    assert second.returncode == 1
    assert f"process {found.pid}" in second.stderr
    assert "Traceback" not in second.stderr


def test_work_in_progress_is_finished_when_the_server_is_stopped(home: Path) -> None:
    endpoint = start(home)
    assert get(endpoint, "/v1/start?name=a") is True
    eventually(lambda: words(home, "provision") == ["a"])
    found = status(home)
    assert found is not None
    os.kill(found.pid, signal.SIGTERM)
    eventually(lambda: status(home) is None or not Home(home).server_file.exists())
    (home / "doubles" / "finish").write_text("")
    eventually(lambda: Home(home).running_pid() is None)
    os.waitpid(found.pid, 0)
    assert words(home, "provisioned") == ["a"]
    assert status(home) is None
    assert not (home / "server.json").exists()


def test_parked_requests_are_let_go_when_the_server_is_stopped(home: Path) -> None:
    endpoint = start(home)
    parts = urlsplit(endpoint.url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=PATIENCE)
    connection.request(
        "POST",
        "/agent/v1/commands",
        body="20",
        headers={"Authorization": "Bearer a", "Content-Type": "text/plain"},
    )
    eventually(lambda: words(home, "agent"))
    assert stop(home) is True
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b'{"word": ""}')
    connection.close()
    assert stop(home) is False


def test_server_goes_on_where_it_was_when_it_was_killed(home: Path) -> None:
    endpoint = start(home)
    assert get(endpoint, "/v1/start?name=a") is True
    eventually(lambda: words(home, "provision") == ["a"])
    kill(home)
    assert read_endpoint(home) is None
    assert (home / "server.json").exists()
    again = start(home)
    assert again == endpoint  # same port, same token: agents find it
    eventually(lambda: words(home, "provision") == ["a", "a"])
    (home / "doubles" / "finish").write_text("")
    eventually(lambda: words(home, "provisioned") == ["a"])
    assert get(again, "/v1/start?name=a") is False


def test_schedules_fire_once_at_the_first_start_and_not_again_within_the_minute(home: Path) -> None:
    start(home)
    eventually(lambda: words(home, "monitor"))
    eventually(lambda: recorded(home))  # a kill before that fires once more
    kill(home)
    endpoint = start(home)
    get(endpoint, "/v1/health")
    assert (home / "doubles" / "monitor").read_text().count('"sweep"') == 1


def test_another_port_is_taken_when_a_stranger_has_the_remembered_one(home: Path) -> None:
    endpoint = start(home)
    stop(home)
    port = int(endpoint.url.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):
        moved = start(home)
    assert moved.url != endpoint.url
    assert (home / "api_url").read_text().strip() == moved.url
    get(moved, "/v1/health")
    stop(home)
    assert start(home).url == moved.url


def test_start_fails_with_one_paragraph_when_the_asked_port_is_taken(home: Path) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)), pytest.raises(InvalidInputError) as caught:
        start(home, port=port)
    assert str(caught.value).startswith(f"port {port} is in use by ")
    assert "--port" in str(caught.value)
    assert start(home, port=port).url.endswith(f":{port}")
    with pytest.raises(InvalidInputError, match=f"runs on port {port} already"):
        start(home, port=port - 1)


def test_public_host_is_served_and_remembered_when_one_is_given(home: Path) -> None:
    def health(host: str) -> int:
        endpoint = read_endpoint(home)
        assert endpoint is not None
        parts = urlsplit(endpoint.url)
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=PATIENCE)
        connection.request("GET", "/v1/health", headers={"Host": host})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status

    with pytest.raises(InvalidInputError, match=r"public_url is 'stix\.example\.org'"):
        start(home, public_url="stix.example.org")
    start(home, public_url="https://stix.example.org/")
    assert (health("stix.example.org"), health("localhost"), health("other.example.org")) == (200, 200, 403)
    stop(home)
    endpoint = start(home)
    assert health("stix.example.org") == 200
    assert get(endpoint, "/v1/upload?key=a&size=1")["url"].startswith("https://stix.example.org/objects/")
    with pytest.raises(ConflictError, match="stix api stop"):
        start(home, public_url="https://other.example.org")


def test_start_fails_with_the_fix_when_the_state_file_is_damaged(home: Path) -> None:
    start(home)
    stop(home)
    for leftover in home.glob("state.db-*"):
        leftover.unlink()
    (home / "state.db").write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(UnavailableError) as caught:
        start(home)
    assert str(home / "state.db") in str(caught.value)
    assert "Traceback" not in str(caught.value)
    (home / "state.db").rename(home / "state.db.damaged")
    token = Home(home).token()
    assert start(home).token == token


def test_start_fails_with_the_fix_when_others_can_read_the_token(home: Path) -> None:
    start(home)
    stop(home)
    (home / "token").chmod(0o644)
    with pytest.raises(ForbiddenError, match="chmod 600") as caught:
        start(home)
    assert "Traceback" not in str(caught.value)


def test_start_fails_with_the_logs_last_words_when_the_process_dies(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STIX_TEST_EXIT", "1")
    with pytest.raises(UnavailableError, match="the library libfoo is missing"):
        start(home)


def test_older_server_is_replaced_and_a_newer_one_kept_when_versions_differ(home: Path) -> None:
    endpoint = start(home)
    found = status(home)
    assert found is not None
    Home(home).write_server(replace(found, version="99.0"))
    assert start(home) == endpoint
    assert status(home) == replace(found, version="99.0")
    Home(home).write_server(replace(found, version="0.0.9"))
    assert start(home) == endpoint
    again = status(home)
    assert again is not None
    assert again.pid != found.pid
