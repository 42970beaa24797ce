"""The boot script run for real, as a fresh machine's first process: metadata, download, agent, restarts."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stix.agent.archive import archive_bytes
from stix.clouds.bootstrap import MOST_BYTES, boot_script
from stix.model.errors import InvalidRequestError
from stix.model.offer import Offer
from stix.ports.compute import AgentSource, GangRequest
from tests.integration.control_plane_double import ControlPlane
from tests.providers.hosts import Host
from tests.waiting import eventually

AZURE = (
    '{"compute": {"resourceGroupName": "STIX-abc", "name": "stix-abc-0"}, "network": {"interface": [{"ipv4":'
    ' {"ipAddress": [{"privateIpAddress": "127.0.0.1"}]}}]}}'
)
SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]


class Surroundings:
    """What a machine can call: its cloud's metadata service, and the control plane, at one address."""

    def __init__(self, plane: ControlPlane) -> None:
        self.archive = archive_bytes()
        self.sha256 = hashlib.sha256(self.archive).hexdigest()
        self.refuse_archives = 0
        self.asked: list[str] = []
        surroundings = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                assert self.path == "/latest/api/token"
                assert self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
                self._answer(b"imds-token")

            def do_GET(self) -> None:
                surroundings.asked.append(self.path)
                if self.path.startswith("/agent/v1/archive/"):
                    if surroundings.refuse_archives:
                        surroundings.refuse_archives -= 1
                        self._answer(b"", 503)
                    else:
                        self._answer(surroundings.archive)
                    return
                header, value, answer = METADATA[self.path]
                known = self.headers.get(header) == value
                self._answer(answer.encode() if known else b"", 200 if known else 401)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                names = ("Authorization", "Content-Type", "Stix-Protocol")
                headers = {name: self.headers[name] for name in names if self.headers[name]}
                request = urllib.request.Request(plane.url + self.path, body, headers)
                try:
                    with urllib.request.urlopen(request, timeout=60) as answer:
                        self._answer(answer.read())
                except urllib.error.HTTPError as error:
                    self._answer(error.read(), error.code)
                except OSError:
                    self.close_connection = True

            def _answer(self, body: bytes, status: int = 200) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


_AWS = ("X-aws-ec2-metadata-token", "imds-token")
_GOOGLE = ("Metadata-Flavor", "Google")
METADATA = {
    "/latest/meta-data/instance-id": (*_AWS, "i-0123456789abcdef0"),
    "/latest/meta-data/local-ipv4": (*_AWS, "127.0.0.1"),
    "/computeMetadata/v1/instance/name": (*_GOOGLE, "stix-abc-0"),
    "/computeMetadata/v1/instance/network-interfaces/0/ip": (*_GOOGLE, "127.0.0.1"),
    "/metadata/instance?api-version=2021-02-01": ("Metadata", "true", AZURE),
}
MACHINES = {"aws": "i-0123456789abcdef0", "gcp": "stix-abc-0", "azure": "stix-abc/stix-abc-0"}


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    plane = ControlPlane()
    plane.start()
    yield plane
    plane.stop()


@pytest.fixture
def around(plane: ControlPlane) -> Iterator[Surroundings]:
    around = Surroundings(plane)
    yield around
    around.close()


def script(around: Surroundings, join_token: str, cloud: str = "aws", *, boot_seconds: int = 60) -> str:
    offer = Offer(cloud=cloud, region="r", instance_type="t", vcpus=1, memory_gib=1, price=0)
    return boot_script(
        GangRequest(
            token="a" * 32,
            count=1,
            offer=offer,
            tags={},
            join_token=join_token,
            api_url=around.url,
            boot_seconds=boot_seconds,
            agent=AgentSource(around.url, around.sha256),
        ),
        cloud,
    )


@pytest.fixture
def boot(tmp_path: Path, around: Surroundings) -> Iterator[Callable[..., Host]]:
    hosts: list[Host] = []

    def power_on(text: str, **environ: str) -> Host:
        host = Host(tmp_path / f"host{len(hosts)}", text, metadata_url=around.url, environ=environ)
        hosts.append(host)
        host.power_on()
        return host

    yield power_on
    for host in hosts:
        host.power_off()


@pytest.mark.parametrize("cloud", sorted(MACHINES))
def test_machine_joins_under_its_own_id_when_it_boots(
    plane: ControlPlane, around: Surroundings, boot: Callable[..., Host], cloud: str
) -> None:
    host = boot(script(around, plane.join_token, cloud))
    eventually(lambda: plane.peers, f"a join; the console says {host.console}")
    assert list(plane.ranks) == [MACHINES[cloud]]
    assert plane.peers[0]["address"] == "127.0.0.1"


def test_container_joins_under_the_id_that_it_was_told(
    plane: ControlPlane, around: Surroundings, boot: Callable[..., Host]
) -> None:
    boot(script(around, plane.join_token, "kubernetes"), STIX_MACHINE_ID="pod-7", STIX_ADDRESS="127.0.0.1")
    eventually(lambda: plane.ranks, "a join")
    assert list(plane.ranks) == ["pod-7"]


def test_machine_is_the_same_node_when_it_boots_again(
    plane: ControlPlane, around: Surroundings, boot: Callable[..., Host]
) -> None:
    host = boot(script(around, plane.join_token))
    eventually(lambda: plane.reports, "a report")
    host.power_off()
    seen, joins = len(plane.reports), plane.calls.count("join")
    host.power_on()
    eventually(lambda: len(plane.reports) > seen, "another report")
    assert plane.ranks == {"i-0123456789abcdef0": 0}
    assert plane.calls.count("join") == joins


def test_agent_starts_again_when_it_is_killed(
    plane: ControlPlane, around: Surroundings, boot: Callable[..., Host]
) -> None:
    host = boot(script(around, plane.join_token))
    eventually(lambda: plane.reports, "a report")
    seen = len(plane.reports)
    assert host.kill("agent.pyz")
    eventually(lambda: len(plane.reports) > seen, "a report of the next agent")


def test_download_is_repeated_when_the_control_plane_is_busy(
    plane: ControlPlane, around: Surroundings, boot: Callable[..., Host]
) -> None:
    around.refuse_archives = 2
    boot(script(around, plane.join_token))
    eventually(lambda: plane.ranks, "a join")


def test_machine_ends_when_the_agent_has_another_hash(
    plane: ControlPlane, around: Surroundings, boot: Callable[..., Host]
) -> None:
    around.archive += b"x"
    host = boot(script(around, plane.join_token, boot_seconds=1))
    eventually(lambda: "could not be fetched" in host.console, "its end")
    eventually(lambda: not host.on, "its processes' end")
    assert "wrong hash" in host.console
    assert not (host.folder / "root/agent.pyz").exists()


def test_machine_ends_when_it_cannot_join_in_time(
    plane: ControlPlane, around: Surroundings, boot: Callable[..., Host]
) -> None:
    plane.not_ready = 1_000_000
    host = boot(script(around, plane.join_token, boot_seconds=2))
    eventually(lambda: "join" in plane.calls, "a join")
    eventually(lambda: not host.on, "its end")


def test_machine_ends_and_says_why_when_there_is_no_python(
    tmp_path: Path, plane: ControlPlane, around: Surroundings, boot: Callable[..., Host]
) -> None:
    commands = _commands(tmp_path, "mkdir", "sleep")
    host = boot(script(around, plane.join_token), PATH=str(commands))
    eventually(lambda: not host.on, "its end")
    assert "no Python 3.8 or newer" in host.console


def test_python_is_installed_when_there_is_none(
    tmp_path: Path, plane: ControlPlane, around: Surroundings, boot: Callable[..., Host]
) -> None:
    commands = _commands(tmp_path, "mkdir", "sleep", "ln")
    python = Path(sys.executable).resolve()
    (commands / "apt-get").write_text(f'#!/bin/sh\n[ "$4" = update ] || ln -s {python} {commands}/python3\n')
    (commands / "apt-get").chmod(0o755)
    boot(script(around, plane.join_token), PATH=str(commands))
    eventually(lambda: plane.ranks, "a join")


def _commands(tmp_path: Path, *names: str) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in names:
        (folder / name).symlink_to(shutil.which(name) or name)
    return folder


@pytest.mark.parametrize("shell", SHELLS)
def test_script_is_read_by_every_shell(tmp_path: Path, around: Surroundings, shell: str) -> None:
    path = tmp_path / "boot.sh"
    path.write_text(script(around, "token"))
    command = [shell, "sh", "-n", str(path)] if shell == "busybox" else [shell, "-n", str(path)]
    subprocess.run(command, check=True)


def test_script_is_one_page_and_quotes_what_it_is_given(around: Surroundings) -> None:
    text = script(around, "it's; $(reboot)")
    assert len(text.encode()) <= MOST_BYTES
    assert "join='it'\"'\"'s; $(reboot)'" in text


def test_script_is_refused_when_it_would_not_fit(around: Surroundings) -> None:
    around.url = "https://" + "x" * 2000
    with pytest.raises(InvalidRequestError, match="4000"):
        script(around, "token")
