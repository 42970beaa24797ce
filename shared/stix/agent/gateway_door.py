"""A gateway's door for replicas that nobody can reach: an SSH server that lets them open one port here each.

A key opens exactly the loopback address and port it was given for, no shell, and nothing the other way.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from typing import List

from .config import AgentConfig
from .files import Json, write_atomically
from .kept_process import KeptProcess
from .ssh_server import is_locked, make_key, public_keys

DOOR_PORT = 30000
_SBIN = "/usr/sbin:/usr/local/sbin:/sbin:/usr/bin:/usr/local/bin:/bin"


class Door:
    """``facts`` say where it is; empty while it is closed."""

    def __init__(self, config: AgentConfig, port: int = DOOR_PORT) -> None:
        self._config, self._port = config, port
        self._folder = os.path.join(config.state_dir, "door")
        self.facts: Json = {}
        self._server: List[KeptProcess] = []

    def admit(self, tunnels: List[Json]) -> None:
        """Open the door for exactly these: ``listen`` (address:port) by ``key``; for none it is closed."""
        if not tunnels:
            for server in self._server:
                server.stop()
            self._server, self.facts = [], {}
            return
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        lines = [
            f'restrict,port-forwarding,permitlisten="{one["listen"]}" {one["key"]}\n'
            for one in tunnels
            if one.get("key")
        ]
        write_atomically(self._path("authorized_keys"), "".join(lines).encode())
        if not self._server:
            self._open()

    def ensure(self) -> None:
        for server in self._server:
            server.ensure()

    def _open(self) -> None:
        user = pwd.getpwuid(os.geteuid()).pw_name
        program, key = shutil.which("sshd", path=_SBIN), self._path("host_key")
        if program is None:
            self.facts = {"problem": "the gateway has no SSH server: install the package openssh-server"}
            return
        try:
            make_key(key)
        except (OSError, subprocess.SubprocessError) as exc:
            self.facts = {"problem": f"the gateway has no host key: {exc}"}
            return
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # It insists on this one.
        local = self._config.address.startswith("127.")
        settings = [
            f"Port {self._port}",
            *([f"ListenAddress {self._config.address}"] if local else []),
            f'HostKey "{key}"',
            f'AuthorizedKeysFile "{self._path("authorized_keys")}"',
            f"AllowUsers {user}",
            "ForceCommand /bin/false",
            "AllowTcpForwarding remote",
            "GatewayPorts clientspecified",
            "AllowAgentForwarding no",
            "AllowStreamLocalForwarding no",
            "X11Forwarding no",
            "PermitTTY no",
            "PermitTunnel no",
            # Without PAM a locked password locks keys out as well, and PAM is for root alone.
            f"UsePAM {'yes' if is_locked(user) else 'no'}",
            "StrictModes no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password",
            "PidFile none",
            # A replica that went away gives its port back soon.
            "ClientAliveInterval 5",
            "ClientAliveCountMax 2",
            "MaxStartups 200",
        ]
        write_atomically(self._path("config"), "\n".join([*settings, ""]).encode())
        self._server = [KeptProcess(self._path("sshd"), [program, "-D", "-e", "-f", self._path("config")])]
        self.facts = {"port": self._port, "user": user, "host_keys": public_keys([key])}

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)
