"""A replica that gateways cannot reach: opens tunnels outwards to their doors, with the machine's ``ssh``."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import threading
from typing import Callable, Dict, List

from .config import AgentConfig
from .files import Json, write_atomically
from .kept_process import KeptProcess
from .ssh_server import make_key, public_keys

log = logging.getLogger("stix.agent.tunnels")

_LOOK_SECONDS = 1.0


class GatewayTunnels:
    """``update`` returns at once; the work is done by ``run``. ``digest`` names what it was told; ``tell``
    publishes the public key that it comes with, or why it has none."""

    def __init__(self, config: AgentConfig, tell: Callable[[Json], None]) -> None:
        self._folder = os.path.join(config.state_dir, "tunnels")
        self._tell = tell
        self.digest = ""
        self._wanted: List[Json] = []
        self._changed = threading.Event()

    @property
    def begun(self) -> bool:
        return bool(self.digest)

    def update(self, digest: str, wanted: List[Json]) -> None:
        """``wanted``: for each gateway ``id``, ``host``, ``port``, ``user``, ``host_keys``, the address and
        port to ``listen`` on there, and the ``target`` here."""
        self.digest, self._wanted = digest, wanted
        self._changed.set()

    def run(self, stopping: threading.Event) -> None:
        """Until the stop, which leaves the tunnels open."""
        kept: Dict[str, KeptProcess] = {}
        while not stopping.is_set():
            self._changed.wait(_LOOK_SECONDS)
            if self._changed.is_set():
                self._changed.clear()
                kept = self._replaced(kept)
            for process in kept.values():
                process.ensure()

    def _replaced(self, kept: Dict[str, KeptProcess]) -> Dict[str, KeptProcess]:
        program = shutil.which("ssh")
        key = os.path.join(self._folder, "key")
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        try:
            if program is None:
                raise FileNotFoundError("the node has no ssh: install the package openssh-client in setup")
            make_key(key)
        except (OSError, subprocess.SubprocessError) as exc:
            log.error("no tunnel to the gateways", extra={"detail": str(exc)})
            self._tell({"problem": str(exc)})
            return kept
        self._tell({"key": public_keys([key])[0]})
        # A gateway that is not there yet is told of the key all the same.
        ready = [one for one in self._wanted if one.get("host_keys")]
        found = {str(one["id"]): self._process(program, key, one) for one in ready}
        for gateway in kept.keys() - found.keys():
            kept[gateway].stop()
        return found

    def _process(self, program: str, key: str, one: Json) -> KeptProcess:
        path = os.path.join(self._folder, str(one["id"]))
        hosts = "".join(f"{one['id']} {line}\n" for line in one["host_keys"])
        write_atomically(f"{path}.hosts", hosts.encode())
        options = {
            "BatchMode": "yes",
            "IdentitiesOnly": "yes",
            "IdentityFile": f'"{key}"',
            "UserKnownHostsFile": f'"{path}.hosts"',
            "GlobalKnownHostsFile": "/dev/null",
            "HostKeyAlias": str(one["id"]),
            "StrictHostKeyChecking": "yes",
            "ExitOnForwardFailure": "yes",
            "ServerAliveInterval": "5",
            "ServerAliveCountMax": "2",
            "ConnectTimeout": "10",
        }
        command = [program, "-N", "-T", "-F", "/dev/null"]
        command += [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        command += ["-p", str(one["port"]), "-R", f"{one['listen']}:{one['target']}"]
        return KeptProcess(path, [*command, f"{one['user']}@{one['host']}"])
