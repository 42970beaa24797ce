"""The names of a job group's nodes, kept where the programs of a task look names up.

A machine that is the node's alone, and where the agent is root, has them in its ``/etc/hosts``. Elsewhere a
task sees them there as its own view of that file, where the kernel lets the agent give it one. A container
has them in its own file. ``STIX_JOBGROUP_HOSTS`` names a file with the same lines in any case.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import threading
from typing import TYPE_CHECKING, Dict, List, Optional, Sequence, Tuple

from .config import AgentConfig
from .files import read_json, write_atomically, write_json

if TYPE_CHECKING:
    from .inside import Inside

log = logging.getLogger("stix.agent.hosts")

SYSTEM_FILE = "/etc/hosts"
_BEGIN, _END = "# job group begin (stix)\n", "# job group end (stix)\n"
_BIND = f'mount --bind "$0" {SYSTEM_FILE} && exec "$@"'


class Hosts:
    """``update`` takes the newest names there are; a version that is not newer changes nothing."""

    def __init__(self, config: AgentConfig, system_file: str = SYSTEM_FILE) -> None:
        self.path = os.path.join(config.state_dir, "hosts")
        self._kept = os.path.join(config.state_dir, "hosts.json")
        self._system_file = system_file
        self._owns_machine = config.allow_absolute_mounts and os.geteuid() == 0
        self._lock = threading.Lock()
        kept = read_json(self._kept) or {}
        self._version = int(kept.get("version", 0))
        self._lines: str = kept.get("lines", "")
        self._containers: Dict[str, Inside] = {}
        self._prefix: Optional[List[str]] = None

    def update(self, version: int, hosts: Sequence[Tuple[str, str]]) -> None:
        """``hosts``: names and addresses."""
        with self._lock:
            if version <= self._version:
                return
            self._version = version
            self._lines = "".join(f"{address} {name}\n" for name, address in hosts if address)
            self._write()
            containers = list(self._containers.values())
        for inside in containers:
            inside.add_hosts(self._lines, _BEGIN, _END)

    def enter(self, inside: Inside) -> None:
        """The container's tasks are to know the names too, and what they will be later."""
        with self._lock:
            self._containers[inside.name] = inside
            lines = self._lines
        if lines:
            inside.add_hosts(lines, _BEGIN, _END)

    def prefix(self) -> List[str]:
        """What a command begins with to see the names; empty where it sees them anyway, or cannot."""
        with self._lock:
            if self._prefix is None:
                self._prefix = [] if self._owns_machine else self._own_view()
            return list(self._prefix)

    def _write(self) -> None:
        write_json(self._kept, {"version": self._version, "lines": self._lines})
        system = with_block(_read(self._system_file), self._lines)
        if self._owns_machine:
            try:
                write_atomically(self._system_file, system.encode(), mode=0o644)
            except OSError:  # It is a mount of its own, as in a pod.
                _write_in_place(self._system_file, system)
        # In place, since tasks that run may have this very file as theirs.
        _write_in_place(self.path, system)

    def _own_view(self) -> List[str]:
        unshare = shutil.which("unshare")
        if unshare is None or not os.path.exists(self.path):
            return []
        ways = (
            [["--mount"]]
            if os.geteuid() == 0
            else [["--user", "--map-current-user", "--keep-caps", "--mount"]]
        )
        for way in ways:
            prefix = [unshare, *way, "--propagation", "private", "--", "/bin/sh", "-c", _BIND, self.path]
            try:
                tried = subprocess.run([*prefix, "true"], capture_output=True, timeout=10, check=False)
            except (OSError, subprocess.SubprocessError):
                continue
            if tried.returncode == 0:
                return prefix
        log.warning("tasks find the group's names in STIX_JOBGROUP_HOSTS alone")
        return []


def with_block(text: str, lines: str) -> str:
    """A hosts file with our lines at its end, instead of those that were there."""
    before, begin, rest = text.partition(_BEGIN)
    after = rest.partition(_END)[2] if begin else ""
    kept = before + after
    if kept and not kept.endswith("\n"):
        kept += "\n"
    return kept + (_BEGIN + lines + _END if lines else "")


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except OSError:
        return "127.0.0.1 localhost\n"


def _write_in_place(path: str, text: str) -> None:
    try:
        with open(
            path, "r+" if os.path.exists(path) else "w", encoding="utf-8", errors="surrogateescape"
        ) as stream:
            stream.write(text)
            stream.truncate()
        os.chmod(path, 0o644)
    except OSError as exc:
        log.warning("the group's names cannot be kept", extra={"detail": f"{path}: {exc.strerror}"})
