"""One local machine as files and processes: configuring it, starting it, finding all of it."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import signal
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stix.clouds.local.cgroups import Groups, group_processes
from stix.clouds.local.claims import SHARED_ADDRESS
from stix.clouds.local.launcher import Launch, launch, written_pid
from stix.clouds.local.lifecycle import Seen
from stix.clouds.local.processes import (
    Process,
    descendants,
    marked,
    processes,
    signal_processes,
    start_mark,
)
from stix.clouds.local.records import MachineRecord, replace_file
from stix.model.errors import ProviderError

__all__ = ["MARKER", "Nodes", "is_alive", "kill_all", "look", "own_processes", "tell_to_end"]

MARKER = "STIX_MACHINE_ID"
_ARCHIVE = "agent.pyz"
_CONFIG = "agent.json"
# How a person's container engine is found; jobs do not see them.
_ENGINE: tuple[str, ...] = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_TLS_VERIFY")
_ENGINE += ("DOCKER_CERT_PATH", "CONTAINER_HOST", "XDG_RUNTIME_DIR")


@dataclass(frozen=True, slots=True)
class Nodes:
    """What every machine of a deployment is started with.

    Attributes:
        archive: path of the agent's zipapp as of now.
        api_url_file: names the control plane's address; agents read it again when they lose the connection.
        groups: made on first use, because making them tries a process out.
        agent_settings: added to every agent's config, over what the provider writes.
    """

    archive: Callable[[], Path]
    api_url_file: Path
    groups: Callable[[], Groups]
    python: str = sys.executable
    agent_settings: Mapping[str, Any] | None = None

    def limits(self, address: str) -> dict[str, str]:
        """The facts' text on what is enforced for a machine with that address."""
        network = "shared 127.0.0.1" if address == SHARED_ADDRESS else "own loopback address"
        return {**self.groups().limits(), "network": network}

    def prepare(self, folder: Path, record: MachineRecord, join_token: str | None) -> MachineRecord:
        """Puts agent and config into the machine, makes its groups, and returns the record that names them.

        Without a join token the one in its config stays. Raises OSError, and ``ProviderError`` when there is
        no usable agent to put there.
        """
        archive = self.archive()
        if not zipfile.is_zipfile(archive):
            raise ProviderError(
                f"The agent {archive} cannot start a local machine: it is missing or no zipapp."
            )
        if shutil.which(self.python) is None:
            raise ProviderError(
                f"The Python {self.python} cannot start a local machine: it is not executable."
            )
        shutil.copyfile(archive, folder / f"{_ARCHIVE}.new")
        (folder / f"{_ARCHIVE}.new").replace(folder / _ARCHIVE)
        record = record.changed(
            limits=self.limits(record.address),
            cgroups=self.groups().create(record.id, cpus=record.cpus, memory_gib=record.memory_gib),
        )
        config = {
            "api_url_file": str(self.api_url_file),
            "join_token": join_token or _join_token(folder, record.id),
            "machine_id": record.id,
            "state_dir": str(folder / "agent"),
            "home_dir": str(folder / "home"),
            "address": record.address,
            "cpus": record.cpus,
            "memory_gib": record.memory_gib,
            "gpus": [dict(gpu) for gpu in record.gpus],
            "limits": dict(record.limits),
            "allow_absolute_mounts": False,
            **(self.agent_settings or {}),
        }
        replace_file(folder / _CONFIG, json.dumps(config, indent=1).encode())
        return record

    def start(self, folder: Path, record: MachineRecord) -> Launch | None:
        """None when it runs already. Raises OSError."""
        command = [self.python, "-I", str(folder / _ARCHIVE), "machine", "--config", str(folder / _CONFIG)]
        return launch(folder, command, _environment(folder, record.id), record.cgroups)


def is_alive(folder: Path, record: MachineRecord) -> bool:
    """Whether the machine's own process runs, also when nobody could write down yet that it was started."""
    if record.pid:
        return start_mark(record.pid) == record.start_mark != ""
    pid = written_pid(folder)
    if not pid or not (mark := start_mark(pid)):
        return False
    return bool(marked([f"{MARKER}={record.id}"], {pid: Process(pid, 0, mark)}))


def look(folder: Path, record: MachineRecord) -> Seen:
    """Searches for other processes only when the machine's own one is gone."""
    if is_alive(folder, record):
        return Seen(alive=True)
    if not record.holds:
        return Seen(alive=False)
    return Seen(alive=False, others=len(own_processes(folder, record)))


def own_processes(folder: Path, record: MachineRecord) -> set[int]:
    """All living processes of the machine: in its groups, marked in their environment, or descended."""
    table = processes()
    found = (group_processes(record.cgroups) & table.keys()) | set(marked(_marks(folder, record.id), table))
    pid = record.pid or written_pid(folder)
    if pid and is_alive(folder, record):
        found |= {pid, *descendants(pid, table)}
    return found - {os.getpid()}


def tell_to_end(folder: Path, record: MachineRecord) -> None:
    """The machine ends everything inside it by itself."""
    if is_alive(folder, record):
        signal_processes([record.pid or written_pid(folder)], signal.SIGTERM)


def kill_all(folder: Path, record: MachineRecord) -> None:
    signal_processes(own_processes(folder, record), signal.SIGKILL)


def _join_token(folder: Path, machine_id: str) -> str:
    try:
        return str(json.loads((folder / _CONFIG).read_bytes())["join_token"])
    except (OSError, ValueError, KeyError) as exc:
        raise ProviderError(
            f"Local machine {machine_id} cannot be started: its {folder / _CONFIG} is unreadable ({exc}).",
            hint="End its cluster and launch it again.",
        ) from exc


def _marks(folder: Path, machine_id: str) -> list[str]:
    # Jobs get an environment of their own; its home and temporary folder are still the machine's.
    return [f"{MARKER}={machine_id}", f"HOME={folder / 'home'}", f"TMPDIR={folder / 'tmp'}"]


def _environment(folder: Path, machine_id: str) -> dict[str, str]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # A container's user without a line in its passwd file.
        user = str(os.getuid())
    return {
        **{name: os.environ[name] for name in _ENGINE if name in os.environ},
        "STIX_ENGINE_HOME": str(Path.home()),
        "PATH": os.environ.get("PATH") or os.defpath,
        "LANG": os.environ.get("LANG") or "C.UTF-8",
        "HOME": str(folder / "home"),
        "USER": user,
        "TMPDIR": str(folder / "tmp"),
        MARKER: machine_id,
    }
