from __future__ import annotations

import json
import stat
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from stix.sdk.endpoint import Discovery, Endpoint, remove_login, save_login, valid_url
from stix.sdk.errors import NotConfiguredError


class FakeDaemon(ModuleType):
    """Counts what the client asks of the local control plane."""

    def __init__(self, running: Endpoint | None = None):
        super().__init__("stix.local.daemon")
        self.running = running
        self.started: list[tuple[Path, int | None]] = []

    def read_endpoint(self, home: Path) -> Endpoint | None:
        return self.running

    def ensure_running(self, home: Path, port: int | None = None, **options: Any) -> Endpoint:
        self.started.append((home, port))
        self.running = Endpoint(f"http://127.0.0.1:{port or 1}", "local")
        return self.running


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> FakeDaemon:
    fake = FakeDaemon()
    monkeypatch.setitem(sys.modules, "stix.local.daemon", fake)
    return fake


def test_environment_goes_first_when_everything_is_configured(tmp_path: Path, daemon: FakeDaemon) -> None:
    save_login(tmp_path, "https://login", "b")
    environ = {"STIX_HOME": str(tmp_path), "STIX_API_URL": "https://env/", "STIX_API_TOKEN": "a"}
    assert Discovery(environ).find(start=True) == Endpoint("https://env", "a", "environment")
    assert daemon.started == []


def test_login_goes_before_the_local_control_plane(tmp_path: Path, daemon: FakeDaemon) -> None:
    save_login(tmp_path, "https://login", "b")
    found = Discovery({"STIX_HOME": str(tmp_path)}).find(start=True)
    assert found == Endpoint("https://login", "b", "login")


def test_local_control_plane_is_started_when_nothing_is_configured(
    tmp_path: Path, daemon: FakeDaemon
) -> None:
    notes: list[str] = []
    discovery = Discovery({"STIX_HOME": str(tmp_path)}, on_start=lambda: notes.append("starting"))
    assert discovery.find(start=False) is None
    assert notes == []
    assert discovery.find(start=True) == Endpoint("http://127.0.0.1:1", "local", "embedded")
    assert notes == ["starting"]
    (tmp_path / "server.json").write_text("{}")
    assert discovery.find(start=False) == Endpoint("http://127.0.0.1:1", "local", "embedded")


def test_missing_extra_is_named_when_the_local_control_plane_cannot_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "stix.local.daemon", None)
    with pytest.raises(NotConfiguredError) as caught:
        Discovery({"STIX_HOME": str(tmp_path)}).find(start=True)
    assert "pip install 'stix-cloud[local]'" in caught.value.hint
    assert caught.value.http_status == 400


def test_missing_extra_is_named_when_the_server_is_not_installed(
    tmp_path: Path, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stix.sdk.endpoint.find_spec", lambda name: None)
    with pytest.raises(NotConfiguredError, match="uvicorn"):
        Discovery({"STIX_HOME": str(tmp_path)}).find(start=True)
    assert daemon.started == []


def test_url_without_token_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotConfiguredError, match="STIX_API_TOKEN is not"):
        Discovery({"STIX_HOME": str(tmp_path), "STIX_API_URL": "https://x"}).find(start=False)


@pytest.mark.parametrize("content", ["", "{}", '{"url": "x", "token": "t"}', "[]"])
def test_damaged_login_says_how_to_repair_it(tmp_path: Path, content: str) -> None:
    (tmp_path / "endpoint.json").write_text(content)
    with pytest.raises(NotConfiguredError) as caught:
        Discovery({"STIX_HOME": str(tmp_path)}).find(start=False)
    assert "endpoint.json" in caught.value.message


@pytest.mark.parametrize("url", ["", "example.org", "ftp://x", "https://", "https://x?y=1"])
def test_address_is_refused_when_it_is_no_base_url(url: str) -> None:
    with pytest.raises(NotConfiguredError, match="The address is"):
        valid_url(url, "The address")


def test_login_file_is_private_and_replaced_whole(tmp_path: Path) -> None:
    home = tmp_path / "home"
    save_login(home, "https://one", "1")
    path = save_login(home, "https://two", "2")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert json.loads(path.read_text()) == {"url": "https://two", "token": "2"}
    assert [remove_login(home), remove_login(home)] == [True, False]


def test_token_is_not_shown_in_repr() -> None:
    assert "s3cret" not in repr(Endpoint("https://x", "s3cret"))
