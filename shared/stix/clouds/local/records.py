"""``nodes/<id>/machine.json``: all that is known of a machine, written before its process starts."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from stix.clouds.local.containers import remove_container
from stix.clouds.local.lifecycle import Wanted

__all__ = ["MachineFolders", "MachineRecord", "RecordError", "replace_file"]


class RecordError(Exception):
    """A machine's folder is there but its record is unreadable; the message names the file and the fault."""


@dataclass(frozen=True, slots=True)
class MachineRecord:
    """One machine as last written.

    Attributes:
        token, index, count: the gang's token, the place in it and its size.
        gpus: granted GPUs as the agent reports them: index, name, memory_gib.
        limits: how each limit is enforced, as text for the agent's facts.
        cgroups: groups that its processes are in.
        pid, start_mark: the machine's process; 0 and empty until it was started.
        holds: GPUs and control groups are still taken.
        escalate_at: epoch seconds from which an ending machine is killed.
    """

    id: str
    token: str = ""
    index: int = 0
    count: int = 1
    tags: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    created_at: float = 0.0
    address: str = ""
    cpus: float = 0.0
    memory_gib: float = 0.0
    accelerator: str = ""
    accelerator_count: float = 0
    gpus: tuple[Mapping[str, Any], ...] = ()
    limits: Mapping[str, str] = field(default_factory=dict)
    cgroups: tuple[str, ...] = ()
    wanted: Wanted = Wanted.RUNNING
    launched: bool = False
    pid: int = 0
    start_mark: str = ""
    holds: bool = True
    escalate_at: float | None = None

    def changed(self, **changes: Any) -> MachineRecord:
        return replace(self, **changes)


class MachineFolders:
    """The folders of one deployment's machines, in ``nodes``; each appears and disappears by one rename."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._nodes = root / "nodes"
        self._aside = self._nodes / ".aside"
        self._trash = self._nodes / ".trash"

    @property
    def lock(self) -> Path:
        return self._nodes / ".lock"

    def folder(self, machine_id: str) -> Path:
        return self._nodes / machine_id

    def ids(self) -> list[str]:
        try:
            return sorted(
                entry.name for entry in self._nodes.iterdir() if entry.is_dir() and entry.name[0] != "."
            )
        except FileNotFoundError:
            return []

    def read(self, machine_id: str) -> MachineRecord | None:
        """None for an unknown machine. Raises ``RecordError``."""
        path = self.folder(machine_id) / "machine.json"
        try:
            return _parse(path.read_bytes(), machine_id)
        except FileNotFoundError:
            if not path.parent.is_dir():
                return None
            raise RecordError(f"{path} is missing") from None
        except (OSError, ValueError, TypeError, KeyError) as exc:
            raise RecordError(f"{path} cannot be read: {exc}") from exc

    def place(self, record: MachineRecord) -> None:
        """Makes the folder, its record inside from its first moment on; durable when this returns."""
        aside = self._aside / f"{record.id}.{uuid.uuid4().hex}"
        aside.mkdir(mode=0o700, parents=True)
        for name in ("home", "agent", "tmp"):
            (aside / name).mkdir(mode=0o700)
        replace_file(aside / "machine.json", _serialise(record))
        self._nodes.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside.rename(self.folder(record.id))
        _sync_folder(self._nodes)

    def write(self, record: MachineRecord) -> None:
        replace_file(self.folder(record.id) / "machine.json", _serialise(record))

    def remove(self, machine_id: str) -> None:
        """The machine is unknown at once; its files go with ``empty_trash``."""
        self._trash.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder(machine_id).rename(self._trash / f"{machine_id}.{uuid.uuid4().hex}")

    def empty_trash(self) -> None:
        """Deletes the files of removed machines. May take long: never under a lock."""
        _empty(self._trash)

    def empty_aside(self) -> None:
        """Deletes what interrupted creations left behind. Only under the deployment's lock."""
        _empty(self._aside)


def replace_file(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Atomic and durable; other readers see the old content or the new one."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _serialise(record: MachineRecord) -> bytes:
    return json.dumps(asdict(record), indent=1).encode()


def _parse(data: bytes, machine_id: str) -> MachineRecord:
    raw = json.loads(data)
    if not isinstance(raw, dict) or raw.get("id") != machine_id:
        raise ValueError(f"it is not the record of {machine_id}")
    known = {name: raw[name] for name in (item.name for item in fields(MachineRecord)) if name in raw}
    known["wanted"] = Wanted(raw["wanted"])
    known["gpus"] = tuple(raw.get("gpus", ()))
    known["cgroups"] = tuple(raw.get("cgroups", ()))
    return MachineRecord(**known)


def _empty(folder: Path) -> None:
    if folder.is_dir():
        for entry in folder.iterdir():
            remove_container(entry)
            shutil.rmtree(entry, ignore_errors=True)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
