"""People on the machines: real OpenSSH clients and servers, hosts in network namespaces, an agent on each."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from stix.catalog.row import CatalogRow
from stix.catalog.snapshot import use_rows
from tests.e2e.embedded import STIX, EmbeddedHome, await_that, command_of
from tests.e2e.namespaces import Network, host_shell, missing
from tests.ports import free_port
from tests.providers.aws.server import AwsServer

SSH_HOME = Path(os.path.expanduser("~root"))
ADDRESSES = ("10.231.0.10", "10.231.0.11")
MEGABYTES = 50
WHY_NOT = missing()

pytestmark = [
    pytest.mark.xdist_group("e2e-ssh"),
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT),
]


class Office:
    """A person at a machine of their own, with a cluster of two hosts, ``dev``, and a control plane that
    every machine reaches on its own loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.network = Network()
        self.network.add("user", "10.231.0.1")
        self.hosts: list[Path] = []
        self.ec2 = AwsServer(hosts=folder / "hosts", shell=self._shell)
        home = folder / "home"
        home.mkdir()
        (home / "config.yaml").write_text(f"clouds:\n  aws:\n    endpoint_url: {self.ec2.url}\n")
        row = CatalogRow("aws", "us-east-1", "us-east-1a", "m5.large", 2, 8, price=0.1, as_of=time.time())
        use_rows(home, [row])
        self.stix = EmbeddedHome(
            home, AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_EC2_METADATA_DISABLED="true"
        )
        self.port = free_port()

    def launch(self) -> None:
        url = f"http://127.0.0.1:{self.port}"
        self.stix.stix("api", "start", "--port", str(self.port), "--public-url", url)
        self.network.forward("user", self.port)
        self.enter = self.network.home_of("user", self.folder / "person")
        flags = ("-y", "-c", "dev", "--infra", "aws", "--cpus", "2", "--num-nodes", "2", "--ports", "8080")
        self.stix.stix("launch", *flags, "hostname")

    def _shell(self, folder: Path) -> list[str]:
        number = len(self.hosts)
        self.hosts.append(folder)
        name = f"host{number}"
        self.network.add(name, ADDRESSES[number])
        for port in (self.port, int(self.ec2.url.rpartition(":")[2])):
            self.network.forward(name, port)
        return host_shell(self.network.enter(name), folder, name, ADDRESSES[number])

    def run(self, *command: str | Path, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """A command at the person's machine."""
        done = subprocess.run(
            [*self.enter, *command],
            env=self.stix.environ | {"HOME": str(SSH_HOME)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert code is None or done.returncode == code, f"{command}: {done.returncode} {done.stderr}"
        return done

    def begin(self, *command: str) -> subprocess.Popen[bytes]:
        """Its pipes have no buffers: ``communicate`` has all that comes after a line that was read."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        environ = self.stix.environ | {"HOME": str(SSH_HOME)}
        return subprocess.Popen([*self.enter, *command], env=environ, bufsize=0, **pipes)

    def close(self) -> None:
        try:
            self.stix.finish()
        finally:
            self.ec2.close()
            self.network.close()


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    made = Office(tmp_path_factory.mktemp("office"))
    try:
        made.launch()
        yield made
    finally:
        made.close()


@pytest.fixture(params=["direct", "tunnel"])
def way(request: pytest.FixtureRequest, office: Office) -> Iterator[str]:
    """``tunnel``: the person's cable is out; the control plane alone is reached."""
    office.network.plug("user", plugged=request.param == "direct")
    yield request.param
    office.network.plug("user", plugged=True)


def sessions_from(office: Office, rank: int) -> str:
    """Where the session that asks comes from, as the node's sshd sees it."""
    alias = "dev" if rank == 0 else f"dev-worker{rank}"
    return office.run("ssh", alias, "echo $SSH_CONNECTION").stdout.split()[0]


def test_plain_ssh_knows_every_node_once_stix_ssh_has_run(office: Office, way: str) -> None:
    assert office.run(STIX, "ssh", "dev", "hostname; exit 3", code=3).stdout == "host0\n"
    assert office.run(STIX, "ssh", "dev", "--node", "1", "hostname").stdout == "host1\n"
    assert office.run("ssh", "dev", "hostname").stdout == "host0\n"
    assert office.run("ssh", "dev-worker1", "hostname").stdout == "host1\n"
    assert sessions_from(office, 1) == {"direct": "10.231.0.1", "tunnel": "127.0.0.1"}[way]


def test_files_arrive_as_they_left(office: Office, way: str, tmp_path: Path) -> None:
    office.run(STIX, "ssh", "dev", "true")
    data = os.urandom(1_000_000) * MEGABYTES
    (tmp_path / "big").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    office.run("scp", "-q", tmp_path / "big", "dev-worker1:big")
    assert office.run("ssh", "dev-worker1", "sha256sum big").stdout.split()[0] == digest
    office.run("scp", "-q", "dev-worker1:big", tmp_path / "back")
    assert hashlib.sha256((tmp_path / "back").read_bytes()).hexdigest() == digest


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
def test_rsync_brings_a_folder(office: Office, way: str, tmp_path: Path) -> None:
    office.run(STIX, "ssh", "dev", "true")
    (tmp_path / "tree/deep").mkdir(parents=True)
    (tmp_path / "tree/deep/file").write_text("kept")
    office.run("rsync", "-a", f"{tmp_path}/tree/", "dev:tree/")
    assert office.run("ssh", "dev", "cat tree/deep/file").stdout == "kept"


def test_a_port_of_the_node_is_brought_here(office: Office, way: str) -> None:
    office.run(STIX, "ssh", "dev", "true")
    serve = "import socket; s = socket.create_server(('127.0.0.1', 7777)); s.accept()[0].sendall(b'hello')"
    server = office.begin("ssh", "dev", f'exec python3 -c "{serve}"')
    forwarded = office.begin("ssh", "dev", "-N", "-L", "7700:127.0.0.1:7777")
    ask = "import socket; print(socket.create_connection(('127.0.0.1', 7700)).recv(5).decode())"
    try:
        asked = lambda: "hello" in office.run("python3", "-c", ask, code=None).stdout  # noqa: E731
        await_that("the port answers", asked, every=0.5)
    finally:
        for process in (forwarded, server):
            process.terminate()
            process.communicate()


def test_another_host_key_is_refused(office: Office, way: str) -> None:
    """What the agent reports is what its sshd has; another server in its place is not talked to."""
    office.run(STIX, "ssh", "dev", "--node", "1", "true")
    stop_listening(office, 1)
    stranger = office.hosts[1] / "ssh" / f"stranger-{way}"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", stranger], check=True)
    config = f"/usr/sbin/sshd -o HostKey=/etc/ssh/{stranger.name}"
    start = ["nsenter", f"--target={inside(office, 1)}", "--net", "--mount", "--pid", "--uts"]
    subprocess.run([*start, *config.split()], check=True)
    await_that("the stranger listens", lambda: listens(office, 1))
    try:
        refused = office.run("ssh", "dev-worker1", "hostname", code=255)
        assert "Host key verification failed" in refused.stderr
        assert "host1" not in refused.stdout
    finally:
        stop_listening(office, 1)
        subprocess.run([*start, "/usr/sbin/sshd"], check=True)
        await_that("sshd listens", lambda: listens(office, 1))
    assert office.run("ssh", "dev-worker1", "hostname").stdout == "host1\n"


def test_client_ends_with_an_error_when_the_agent_dies(office: Office) -> None:
    office.network.plug("user", plugged=False)
    try:
        office.run(STIX, "ssh", "dev", "--node", "1", "true")
        client = office.begin("ssh", "dev-worker1", "echo begun; exec sleep 600")
        assert client.stdout is not None
        assert client.stdout.readline() == b"begun\n"
        end([one for one in processes_of(office, 1) if "agent.pyz" in command_of(one)])
        _, said = client.communicate(timeout=60)
        assert client.returncode == 255
        assert b"The tunnel to node 1 of dev broke" in said
        # Its successor opens new ones.
        assert office.run("ssh", "dev-worker1", "hostname").stdout == "host1\n"
    finally:
        office.network.plug("user", plugged=True)


def test_session_goes_on_when_the_control_plane_starts_anew(office: Office) -> None:
    office.network.plug("user", plugged=False)
    try:
        office.run(STIX, "ssh", "dev", "--node", "1", "true")
        client = office.begin("ssh", "dev-worker1", "for i in $(seq 8); do echo $i; sleep 1; done")
        assert client.stdout is not None
        assert client.stdout.readline() == b"1\n"
        office.stix.stix("api", "stop")
        office.stix.stix("api", "start", "--port", str(office.port))
        said, complaints = client.communicate(timeout=60)
        assert (client.returncode, said.split()) == (0, b"2 3 4 5 6 7 8".split()), complaints
    finally:
        office.network.plug("user", plugged=True)


def test_every_way_that_was_tried_is_named_when_none_leads_there(office: Office) -> None:
    office.network.plug("user", plugged=False)
    try:
        office.run(STIX, "ssh", "dev", "true")
        stop_listening(office, 0)
        failed = office.run("ssh", "dev", "hostname", code=255)
        for words in ("directly at 10.231.0.10 port 22", "AWS Systems Manager", "through a tunnel"):
            assert words in failed.stderr
    finally:
        office.network.plug("user", plugged=True)
        start = ["nsenter", f"--target={inside(office, 0)}", "--net", "--mount", "--pid", "--uts"]
        subprocess.run([*start, "/usr/sbin/sshd"], check=True)
        await_that("sshd listens", lambda: listens(office, 0))
    assert office.run("ssh", "dev", "hostname").stdout == "host0\n"


def test_node_without_a_server_of_its_own_is_reached_through_its_agent(office: Office) -> None:
    """A local node: no port, the session begins in the node's home, within its limits."""
    office.stix.stix("launch", "-y", "-c", "here", "--infra", "local", "--cpus", "1", "echo kept > file")
    try:
        said = office.run(
            STIX, "ssh", "here", "cat sky_workdir/file file 2>/dev/null; pwd; echo $HOME"
        ).stdout
        kept, home, told = said.split()
        assert kept == "kept"
        assert home == told
        assert home.startswith(f"{office.stix.folder}/nodes/")
        (office.folder / "small").write_text("small")
        office.run("scp", "-q", office.folder / "small", "here:copied")
        assert Path(home, "copied").read_text() == "small"
        assert (
            not (SSH_HOME / ".ssh/authorized_keys").exists()
            or "stix:" not in (SSH_HOME / ".ssh/authorized_keys").read_text()
        )
    finally:
        office.stix.stix("down", "-y", "here")


def test_addresses_and_endpoints_are_printed_plainly(office: Office) -> None:
    shown = office.stix.stix("status", "dev", "--ip").stdout.strip()
    [reservation] = office.ec2.client("ec2").describe_instances()["Reservations"]
    public = {one["PublicIpAddress"] for one in reservation["Instances"]}
    assert shown in public
    assert office.stix.stix("status", "dev", "--endpoint", "8080").stdout == f"{shown}:8080\n"
    assert office.stix.stix("status", "dev", "--endpoints").stdout == f"8080: http://{shown}:8080\n"
    closed = office.stix.stix("status", "dev", "--endpoint", "9", code=1)
    assert "its task opened 8080" in closed.stderr


def test_a_person_changes_nothing_else_and_hosts_go_with_their_cluster(office: Office) -> None:
    config = SSH_HOME / ".ssh" / "config"
    office.run(STIX, "ssh", "dev", "true")
    mine = office.run("cat", config).stdout
    assert mine.splitlines()[0] == f"Include {office.stix.folder}/ssh/config"
    keys = office.hosts[0] / "home/.ssh/authorized_keys"
    assert keys.read_text().count("stix:") == 1
    office.stix.stix("down", "-y", "dev")
    managed = (office.stix.folder / "ssh/config").read_text()
    assert "Host" not in managed
    assert json.loads((office.stix.folder / "ssh/hosts.json").read_text()) == []
    gone = office.run(STIX, "ssh", "dev", code=2)
    assert "There is no cluster 'dev'" in gone.stderr


def processes_of(office: Office, rank: int) -> list[psutil.Process]:
    """Everything in the host's process namespace."""
    init = inside(office, rank)
    return psutil.Process(init).children(recursive=True)


def servers_of(office: Office, rank: int) -> list[psutil.Process]:
    """The sshd that listens, without those that serve a session."""
    titles = {one: " ".join(command_of(one)) for one in processes_of(office, rank)}
    return [one for one, title in titles.items() if title.startswith("sshd:") and "[listener]" in title]


def end(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def stop_listening(office: Office, rank: int) -> None:
    """Its sshd ends, and with it the port is free again."""
    await_that("sshd waits for sessions", lambda: servers_of(office, rank))
    end(servers_of(office, rank))
    await_that("nobody listens", lambda: not listens(office, rank))


def listens(office: Office, rank: int) -> bool:
    """Whether its sshd, which goes to the background before, has bound its port."""
    sockets = Path(f"/proc/{inside(office, rank)}/net/tcp").read_text().splitlines()[1:]
    return any(line.split()[1].endswith(":0016") and line.split()[3] == "0A" for line in sockets)


def inside(office: Office, rank: int) -> int:
    """The host's first process, as this machine numbers it."""
    shell = str(office.hosts[rank] / "host.sh")
    found = [one for one in psutil.process_iter(["cmdline"]) if shell in (one.info["cmdline"] or ())]
    [unshare] = [one for one in found if Path(one.info["cmdline"][0]).name == "unshare"]
    [init] = unshare.children()
    return int(init.pid)
