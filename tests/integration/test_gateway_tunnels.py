"""Replicas that nobody can reach: their agents open tunnels to the gateway's door, with real OpenSSH."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from stix.agent.config import AgentConfig
from stix.agent.gateway_door import Door
from stix.agent.gateway_tunnels import GatewayTunnels
from tests.integration.gateway_world import ReplicaProcess, get
from tests.ports import free_port
from tests.waiting import eventually

pytestmark = pytest.mark.skipif(
    shutil.which("ssh") is None or shutil.which("sshd", path="/usr/sbin:/usr/bin") is None,
    reason="OpenSSH's client or server is not installed (Debian's package openssh-server)",
)
ADDRESS = "127.66.1.7"


def config(folder: Path) -> AgentConfig:
    folder.mkdir()
    return AgentConfig("token", "m-1", str(folder), str(folder), api_url="http://unused")


class Tunnelled:
    """A gateway's door, and a replica with its agent's end of the tunnel to ``port`` there."""

    def __init__(self, folder: Path) -> None:
        # Other tests have tunnels beside this one.
        self.port = free_port()
        self.replica = ReplicaProcess("far")
        self.door = Door(config(folder / "gateway"), free_port())
        self.told: list[dict[str, Any]] = []
        self.folder = folder / "replica"
        self.tunnels = GatewayTunnels(config(self.folder), self.told.append)
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.tunnels.run, args=(self.stopping,))
        self.thread.start()

    def key(self) -> str:
        self.tunnels.update("first", [{"id": "gw"}])
        return str(eventually(lambda: self.told)[-1]["key"])

    def open(self, allowed: int, asked: int) -> None:
        self.door.admit([{"listen": f"{ADDRESS}:{allowed}", "key": self.key()}])
        self.door.ensure()
        at_gateway = {"id": "gw", "host": "127.0.0.1", "listen": f"{ADDRESS}:{asked}"}
        target = f"127.0.0.1:{self.replica.port}"
        self.tunnels.update("second", [{**at_gateway, **self.door.facts, "target": target}])

    def ssh(self) -> int:
        try:
            return int(json.loads((self.folder / "tunnels" / "gw.json").read_text())["pid"])
        except FileNotFoundError:
            return 0

    def answers(self) -> bool:
        try:
            return bool(get(f"http://{ADDRESS}:{self.port}/who").text == "far")
        except httpx.HTTPError:
            return False

    def close(self) -> None:
        try:
            self.tunnels.update("last", [])
            eventually(lambda: not self.ssh())
        finally:
            self.stopping.set()
            self.thread.join()
            self.door.admit([])
            self.replica.kill()


@pytest.fixture
def tunnelled(tmp_path: Path) -> Iterator[Tunnelled]:
    made = Tunnelled(tmp_path)
    yield made
    made.close()


def test_replica_is_reached_through_its_tunnel_also_when_that_broke(tunnelled: Tunnelled) -> None:
    tunnelled.open(tunnelled.port, tunnelled.port)
    eventually(tunnelled.answers)
    # Its file is written after it was begun; 0 would be this very process and its group.
    first = eventually(tunnelled.ssh)
    os.kill(first, signal.SIGKILL)
    eventually(lambda: tunnelled.ssh() not in (0, first) and tunnelled.answers())


def test_key_opens_nothing_but_its_own_port(tunnelled: Tunnelled) -> None:
    tunnelled.open(free_port(), tunnelled.port)
    log = tunnelled.folder / "tunnels" / "gw.log"
    eventually(lambda: log.exists() and "forwarding failed" in log.read_text())
    with socket.socket() as stream:
        assert stream.connect_ex((ADDRESS, tunnelled.port)) != 0
    facts = tunnelled.door.facts
    run = [
        "ssh",
        "-F",
        "/dev/null",
        "-i",
        str(tunnelled.folder / "tunnels" / "key"),
        "-p",
        str(facts["port"]),
    ]
    hosts = f"UserKnownHostsFile={tunnelled.folder / 'tunnels' / 'gw.hosts'}"
    options = ["-o", "BatchMode=yes", "-o", hosts, "-o", "HostKeyAlias=gw"]
    tried = subprocess.run(
        [*run, *options, f"{facts['user']}@127.0.0.1", "echo inside"], capture_output=True, text=True
    )
    assert tried.returncode != 0
    assert "inside" not in tried.stdout
