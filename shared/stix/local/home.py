"""The files of the embedded control plane in one folder, ``~/.stix`` unless STIX_HOME says otherwise.

Part of every command's start, so it imports the standard library only.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from stix.model.errors import ForbiddenError, UnavailableError

__all__ = ["Home", "ServerFile", "ServerLock", "write_private"]


@dataclass(frozen=True, slots=True)
class ServerFile:
    """``server.json``: a server that was ready to answer. ``started_at`` is in epoch seconds."""

    url: str
    pid: int
    started_at: float
    version: str


@dataclass(frozen=True, slots=True)
class Home:
    """Where each file is, and the rules about who may read it."""

    folder: Path

    @property
    def server_file(self) -> Path:
        return self.folder / "server.json"

    @property
    def api_url_file(self) -> Path:
        """The loopback address as plain text, which the agents on this machine read again and again."""
        return self.folder / "api_url"

    @property
    def token_file(self) -> Path:
        return self.folder / "token"

    @property
    def log_file(self) -> Path:
        return self.folder / "server.log"

    @property
    def lock_file(self) -> Path:
        """Held by a server for as long as it lives."""
        return self.folder / "server.lock"

    @property
    def start_lock_file(self) -> Path:
        """Held by the command that is starting a server."""
        return self.folder / "start.lock"

    @property
    def state_file(self) -> Path:
        return self.folder / "state.db"

    @property
    def public_url_file(self) -> Path:
        """The address of ``--public-url``, kept for the next start."""
        return self.folder / "public_url"

    @property
    def config_file(self) -> Path:
        """What the person configured: `clouds:`."""
        return self.folder / "config.yaml"

    @property
    def signing_key_file(self) -> Path:
        return self.folder / "signing.key"

    @property
    def agent_archive(self) -> Path:
        return self.folder / "agent.pyz"

    @property
    def gateway(self) -> Path:
        """Of the gateway of services: its view, state, logs."""
        return self.folder / "gateway"

    @property
    def objects(self) -> Path:
        return self.folder / "objects"

    @property
    def secrets(self) -> Path:
        return self.folder / "secrets"

    def prepare(self) -> None:
        """Make the folder (mode 0700) or check that it is ours.

        Raises ``ForbiddenError`` when others own it or may write to it, ``UnavailableError`` when it is of no
        use.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.folder.stat()
        except OSError as exc:
            raise _unusable(self.folder, exc) from exc
        _check_owner(self.folder, found)
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ForbiddenError(
                f"Others may write to the folder {self.folder} (mode {stat.S_IMODE(found.st_mode):04o}).",
                hint=f"Run `chmod 700 {self.folder}`.",
            )
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise _unusable(self.folder, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))

    def token(self) -> str:
        """This user's bearer token, empty when there is none yet; ``ForbiddenError`` when others can read
        it."""
        try:
            found = self.token_file.stat()
            text = self.token_file.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as exc:
            raise _unusable(self.token_file, exc) from exc
        _check_owner(self.token_file, found)
        if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ForbiddenError(
                f"Others may read the token in {self.token_file} (mode {stat.S_IMODE(found.st_mode):04o}).",
                hint=f"Run `chmod 600 {self.token_file}`, or delete the file to get a new token.",
            )
        return text

    def server(self) -> ServerFile | None:
        """The last server that became ready, alive or not; None when there is none or the file is damaged."""
        try:
            found = json.loads(self.server_file.read_bytes())
            return ServerFile(
                str(found["url"]), int(found["pid"]), float(found["started_at"]), str(found["version"])
            )
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
            return None
        except OSError as exc:
            raise _unusable(self.server_file, exc) from exc

    def write_server(self, server: ServerFile) -> None:
        write_private(self.server_file, json.dumps(asdict(server)))

    def forget_server(self) -> None:
        with suppress(FileNotFoundError):
            self.server_file.unlink()

    def last_port(self) -> int | None:
        """The port of the last server; None when there was none."""
        port = _first_line(self.api_url_file).rpartition(":")[2]
        return int(port) if port.isdigit() else None

    def last_public_url(self) -> str:
        return _first_line(self.public_url_file)

    def running_pid(self) -> int | None:
        """The process that holds the server's lock; None when nobody does."""
        if not ServerLock(self.lock_file).held_by_other():
            return None
        pid = _first_line(self.lock_file)
        return int(pid) if pid.isdigit() else None


class ServerLock:
    """An advisory lock on a file that names its holder; it ends with that process, however it ends."""

    def __init__(self, path: Path):
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """False when another process holds it. Raises ``UnavailableError``."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise _unusable(self._path, exc) from exc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError as exc:
            os.close(descriptor)
            raise _unusable(self._path, exc) from exc
        os.truncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def held_by_other(self) -> bool:
        """Whether some process holds it now. Takes and drops a shared lock for an instant."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False


def write_private(path: Path, text: str) -> None:
    """Write a small file of mode 0600, whole and durable or not at all. Raises ``UnavailableError``."""
    try:
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        with suppress(FileNotFoundError):
            temporary.unlink()
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(FileNotFoundError):
                temporary.unlink()
            raise
    except OSError as exc:
        raise _unusable(path, exc) from exc


def _first_line(path: Path) -> str:
    """Stripped; empty when the file is absent or unreadable."""
    try:
        return path.read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _check_owner(path: Path, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise ForbiddenError(
            f"{path} belongs to the user with the id {found.st_uid}, and you are {os.geteuid()}.",
            hint="Set STIX_HOME to a folder of your own.",
        )


def _unusable(path: Path, exc: Exception) -> UnavailableError:
    reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
    return UnavailableError(
        f"{path} cannot be used: {reason}.",
        hint="Make it readable and writable for you, on a disk with space, or set STIX_HOME to another.",
    )
