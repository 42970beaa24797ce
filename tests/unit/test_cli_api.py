"""api start, stop, info, status, logs, login, logout."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stix.cli.entry import run
from stix.cli.session import Session
from tests.unit.scripted_api import NOW, URL, Cli, Result, ScriptedApi, error, operation


@pytest.fixture
def api() -> ScriptedApi:
    return ScriptedApi()


@pytest.fixture
def cli(api, capsys, monkeypatch, tmp_path) -> Cli:
    return Cli(api, capsys, monkeypatch, str(tmp_path))


@pytest.fixture(autouse=True)
def no_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    """No unit test starts a real server, whatever it gets wrong."""
    monkeypatch.setitem(sys.modules, "stix.local.daemon", None)


@pytest.fixture
def daemon(no_daemon: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, Any]]:
    calls: list[tuple[str, Any]] = []
    found = SimpleNamespace(url=URL, token="local-token")

    def ensure_running(home: Path, port: int | None = None, **options: Any) -> Any:
        calls.append(("ensure_running", (port, options)))
        (home / "server.json").write_text("{}")
        return found

    def stop(home: Path) -> bool:
        calls.append(("stop", home))
        running = (home / "server.json").exists()
        (home / "server.json").unlink(missing_ok=True)
        return running

    module = SimpleNamespace(
        ensure_running=ensure_running,
        stop=stop,
        read_endpoint=lambda home: found if (home / "server.json").exists() else None,
    )
    monkeypatch.setitem(sys.modules, "stix.local.daemon", module)
    return calls


@pytest.fixture
def bare(api, capsys, tmp_path):
    """Runs a command that finds its endpoint by itself."""

    def command(*arguments: str, **environ: str) -> Result:
        session = Session(
            {"STIX_HOME": str(tmp_path), **environ}, transport=api.transport, pace=api.pace, now=lambda: NOW
        )
        capsys.readouterr()
        code = run(list(arguments), session)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return command


def test_start_and_stop_say_what_happened(bare, daemon) -> None:
    assert URL in bare("api", "start", "--port", "46580").out
    assert daemon[0] == ("ensure_running", (46580, {}))
    assert bare("api", "stop").out == "The local control plane has stopped.\n"
    assert bare("api", "stop").out == "No local control plane was running.\n"


def test_start_passes_the_public_address_on(bare, daemon) -> None:
    bare("api", "start", "--public-url", "https://tunnel.example")
    assert daemon[0] == ("ensure_running", (None, {"public_url": "https://tunnel.example"}))


def test_a_command_starts_the_local_control_plane_once_and_says_so(bare, daemon, api) -> None:
    first = bare("status")
    assert first.code == 0
    assert "Starting the local control plane" in first.err
    assert api.calls[0].headers["authorization"] == "Bearer local-token"
    assert bare("status").err == ""


def test_info_does_not_start_anything(bare, daemon) -> None:
    result = bare("api", "info", "-o", "json")
    assert result.code == 1
    assert json.loads(result.out)["status"] == "stopped"
    assert "stix api start" in result.err
    assert daemon == []


def test_info_shows_the_control_plane_in_use(bare, daemon) -> None:
    bare("api", "start")
    document = json.loads(bare("api", "info", "-o", "json").out)
    assert document["status"] == "healthy"
    assert (document["url"], document["source"], document["runtime"]) == (URL, "embedded", "embedded")
    assert "version: 0.1.0" in bare("api", "info").out


def test_info_tells_an_unreachable_control_plane(bare, api) -> None:
    api.scripted["GET", "/v1/health"] = [error(500, "internal", "broken")]
    result = bare("api", "info", STIX_API_URL=URL, STIX_API_TOKEN="t")
    assert result.code == 1
    assert "status: unreachable" in result.out
    assert "reason: broken" in result.out


def test_status_lists_unfinished_requests(cli: Cli, api: ScriptedApi) -> None:
    api.operation_states = [operation("op-2", "RUNNING"), operation("op-1")]
    assert [line.split()[0] for line in cli("api", "status").out.splitlines()[1:]] == ["op-2"]
    assert len(json.loads(cli("api", "status", "-a", "-o", "json").out)["operations"]) == 2
    assert (
        json.loads(cli("api", "status", "-l", "1", "-a", "-o", "json").out)["operations"][0]["id"] == "op-2"
    )


def test_logs_follows_a_request_to_its_end(cli: Cli, api: ScriptedApi) -> None:
    api.operation_states = [operation(status="RUNNING", lines=["one"]), operation(lines=["one", "two"])]
    assert cli("api", "logs", "op-1").err == "one\ntwo\n"


def test_logs_shows_the_end_of_the_servers_log(cli: Cli, tmp_path: Path) -> None:
    assert cli("api", "logs").code == 2
    (tmp_path / "server.log").write_text("".join(f"line {n}\n" for n in range(300)))
    assert cli("api", "logs", "--tail", "2").out == "line 298\nline 299\n"


def test_login_tries_the_token_and_stores_it_privately(bare, api, tmp_path: Path) -> None:
    result = bare("api", "login", "-e", "https://stix.example/", "-t", "s3cret")
    assert result.code == 0
    path = tmp_path / "endpoint.json"
    assert json.loads(path.read_text()) == {"url": "https://stix.example", "token": "s3cret"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [call.path for call in api.calls] == ["/v1/health", "/v1/clusters"]
    assert "s3cret" not in result.out + result.err
    bare("status")
    assert api.calls[-1].headers["host"] == "stix.example"
    assert bare("api", "logout").out == "Logged out of https://stix.example.\n"
    assert bare("api", "logout").out == "You were not logged in.\n"


def test_login_stores_nothing_when_the_token_is_wrong(bare, api, tmp_path: Path) -> None:
    api.scripted["GET", "/v1/clusters"] = [error(401, "unauthorized", "The token is not known.")]
    result = bare("api", "login", "-e", "https://stix.example", "-t", "wrong")
    assert result.code == 1
    assert "stix api login" in result.err
    assert not (tmp_path / "endpoint.json").exists()


def test_login_reads_the_token_from_standard_input(bare, api, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(readline=lambda: "piped\n", isatty=lambda: False))
    assert bare("api", "login", "-e", URL, "-t", "-").code == 0
    assert json.loads((tmp_path / "endpoint.json").read_text())["token"] == "piped"


@pytest.mark.parametrize("arguments", [[], ["-e", "https://x"], ["-e", "nonsense", "-t", "t"]])
def test_login_is_refused_when_something_is_missing(bare, arguments: list[str], monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False))
    assert bare("api", "login", *arguments).code == 2


def test_login_warns_when_the_token_travels_in_the_clear(bare) -> None:
    assert "Warning" in bare("api", "login", "-e", "http://stix.example", "-t", "t").err
    assert "Warning" not in bare("api", "login", "-e", URL, "-t", "t").err
