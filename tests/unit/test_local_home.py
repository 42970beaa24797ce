from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from stix.local.daemon import read_endpoint, status, stop
from stix.local.home import Home, ServerFile, ServerLock, write_private
from stix.local.listening import listen
from stix.local.upkeep import purge_in_portions, trim_log
from stix.model.errors import ForbiddenError, InvalidInputError, UnavailableError


def test_folder_is_private_when_it_is_made(tmp_path: Path) -> None:
    Home(tmp_path / "a" / "home").prepare()
    assert stat.S_IMODE((tmp_path / "a" / "home").stat().st_mode) == 0o700


def test_folder_is_refused_when_others_may_write_to_it(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home").chmod(0o777)
    with pytest.raises(ForbiddenError, match="chmod 700"):
        Home(tmp_path / "home").prepare()


def test_folder_is_refused_when_it_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(UnavailableError, match="cannot be used"):
        Home(tmp_path / "home").prepare()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_folder_is_refused_when_it_belongs_to_another_user(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    os.chown(tmp_path / "home", 12345, -1)
    with pytest.raises(ForbiddenError, match="12345"):
        Home(tmp_path / "home").prepare()


def test_token_is_refused_when_others_may_read_it(tmp_path: Path) -> None:
    home = Home(tmp_path)
    write_private(home.token_file, "secret\n")
    assert home.token() == "secret"
    home.token_file.chmod(0o644)
    with pytest.raises(ForbiddenError, match="chmod 600"):
        home.token()


def test_file_keeps_its_old_content_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "file"
    write_private(target, "old")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UnavailableError, match="No space left"):
        write_private(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"url": "u"}', '{"url": 1, "pid": "x"}'])
def test_server_is_unknown_when_its_file_is_damaged(tmp_path: Path, content: str) -> None:
    (tmp_path / "server.json").write_text(content)
    assert Home(tmp_path).server() is None
    assert status(tmp_path) is None


def test_lock_is_refused_while_another_process_holds_it_and_free_when_that_is_killed(tmp_path: Path) -> None:
    home = Home(tmp_path)
    code = (
        "import sys, time; from pathlib import Path; from stix.local.home import ServerLock\n"
        f"assert ServerLock(Path({str(home.lock_file)!r})).acquire()\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert ServerLock(home.lock_file).acquire() is False
        assert home.running_pid() == holder.pid
        holder.kill()
    assert home.running_pid() is None
    assert ServerLock(home.lock_file).acquire() is True


def test_endpoint_is_none_when_the_server_died_without_cleaning_up(tmp_path: Path) -> None:
    home = Home(tmp_path)
    write_private(home.token_file, "secret")
    home.write_server(ServerFile("http://127.0.0.1:1", os.getpid(), 1.0, "0.1.0"))
    assert read_endpoint(tmp_path) is None
    lock = ServerLock(home.lock_file)
    assert lock.acquire()
    found = read_endpoint(tmp_path)
    assert found is not None
    assert (found.url, found.token) == ("http://127.0.0.1:1", "secret")
    lock.release()
    assert read_endpoint(tmp_path) is None


def test_stop_says_so_when_nothing_runs(tmp_path: Path) -> None:
    assert stop(tmp_path / "nowhere") is False


def test_port_is_the_same_when_the_folder_is_the_same(tmp_path: Path) -> None:
    with listen(None, None, tmp_path) as first:
        port = first.getsockname()[1]
    with listen(None, None, tmp_path) as again:
        assert again.getsockname()[1] == port
        assert port < 32768
        with listen(None, port, tmp_path) as other:
            assert other.getsockname()[1] != port


def test_refusal_names_the_port_and_its_holder_when_the_asked_one_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InvalidInputError) as caught:
            listen(port, None, tmp_path)
    assert str(port) in str(caught.value)
    assert "--port" in str(caught.value)
    if Path("/proc/net/tcp").exists():
        assert str(os.getpid()) in str(caught.value)


def test_log_moves_aside_and_goes_on_when_it_is_too_large(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    with open(log, "ab", buffering=0) as writer:
        writer.write(b"x" * 100)
        assert trim_log(log, limit=100) is False
        writer.write(b"y")
        assert trim_log(log, limit=100) is True
        writer.write(b"z")
    assert log.read_bytes() == b"z"
    assert trim_log(tmp_path / "absent.log", limit=0) is False
    assert (tmp_path / "server.log.1").read_bytes() == b"x" * 100 + b"y"


def test_purge_stops_when_little_is_left_or_a_bound_is_reached() -> None:
    left = [450]

    def purge(limit: int) -> int:
        removed = min(limit, left[0])
        left[0] -= removed
        return removed

    assert purge_in_portions(purge) == 450
    calls: list[int] = []
    purge_in_portions(lambda limit: calls.append(limit) or limit)
    assert len(calls) == 50
