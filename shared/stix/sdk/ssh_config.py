"""The hosts that plain ``ssh`` knows by us: a file of ours, included by one line of ``~/.ssh/config``."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from stix.sdk.errors import NotConfiguredError, SdkError
from stix.sdk.responses import SshAccess

__all__ = ["Host", "ManagedHosts", "alias_of", "hosts_of", "with_include"]

_HEADER = "# Written by stix for its clusters; every change is lost.\n"


@dataclass(frozen=True, slots=True)
class Host:
    """A node as ``ssh`` calls it. ``plane`` names the control plane that it belongs to."""

    alias: str
    cluster: str
    rank: int
    plane: str
    user: str
    host_keys: tuple[str, ...]


def alias_of(cluster: str, rank: int) -> str:
    """The head node has the cluster's name, the others are its workers, as in SkyPilot."""
    return f"{cluster}-worker{rank}" if rank else cluster


def hosts_of(access: SshAccess, plane: str) -> list[Host]:
    """The nodes of a cluster; one that has not said who may log in is taken to be like its head."""
    nodes = access["nodes"]
    user = next((node["user"] for node in nodes if node["user"]), "")
    return [
        Host(
            alias=alias_of(access["cluster"], node["rank"]),
            cluster=access["cluster"],
            rank=node["rank"],
            plane=plane,
            user=node["user"] or user,
            host_keys=tuple(node["host_keys"]),
        )
        for node in nodes
    ]


class ManagedHosts:
    """``home`` is ours (``~/.stix``), ``user_folder`` is ``~/.ssh`` as OpenSSH finds it: not by ``$HOME``."""

    def __init__(self, home: Path, user_folder: Path | None = None):
        self.folder = home.absolute() / "ssh"
        self.config = self.folder / "config"
        self.known_hosts = self.folder / "known_hosts"
        self._home = home.absolute()
        self._list = self.folder / "hosts.json"
        self._user_folder = user_folder or Path(pwd.getpwuid(os.getuid()).pw_dir) / ".ssh"

    def exist(self) -> bool:
        """Whether any host was ever written here."""
        return self._list.exists()

    def public_key(self) -> str:
        """Type and base64 of this home's own key, made at the first call. Raises ``NotConfiguredError``."""
        with self._locked():
            return _key_of(self.folder / "id_ed25519")

    def write(self, hosts: Iterable[Host]) -> None:
        """These hosts take the place of those of the same clusters."""
        fresh = list(hosts)
        replaced = {(host.plane, host.cluster) for host in fresh}
        with self._locked():
            kept = [host for host in self._read() if (host.plane, host.cluster) not in replaced]
            aliases = {host.alias for host in fresh}
            self._write([*(host for host in kept if host.alias not in aliases), *fresh])

    def keep(self, plane: str, clusters: Collection[str], among: Collection[str] | None = None) -> None:
        """Forget a control plane's other clusters, they are gone; ``among``: look at those alone."""
        if not self.exist():
            return
        with self._locked():
            before = self._read()
            after = [
                host
                for host in before
                if host.plane != plane
                or host.cluster in clusters
                or (among is not None and host.cluster not in among)
            ]
            if after != before:
                self._write(after)

    def include(self) -> bool:
        """Make ``~/.ssh/config`` read our file, by a first line of it; True where it did not already.

        Raises ``SdkError`` where it cannot be written.
        """
        line = self.include_line()
        path = Path(os.path.realpath(self._user_folder / "config"))
        try:
            with self._locked():
                content = path.read_bytes() if path.exists() else b""
                changed = with_include(content, line)
                if changed is None:
                    return False
                self._user_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                _replace(path, changed)
                return True
        except OSError as exc:
            raise SdkError(
                "ssh_config",
                f"{path} cannot be changed: {exc.strerror}.",
                f"Write this as its first line yourself: {line}",
            ) from exc

    def include_line(self) -> str:
        user_home = self._user_folder.parent
        shown = str(self.config)
        if self.config.is_relative_to(user_home):
            shown = "~/" + str(self.config.relative_to(user_home))
        return f'Include "{shown}"' if any(sign.isspace() for sign in shown) else f"Include {shown}"

    # -- files -----------------------------------------------------------------------------------------------

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self.folder / "lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _read(self) -> list[Host]:
        try:
            entries = json.loads(self._list.read_text(encoding="utf-8"))
            return [Host(**{**entry, "host_keys": tuple(entry["host_keys"])}) for entry in entries]
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return []

    def _write(self, hosts: list[Host]) -> None:
        known = [f"{host.alias} {key}\n" for host in hosts for key in host.host_keys]
        _replace(self.known_hosts, "".join(known).encode())
        _replace(self.config, (_HEADER + "".join(self._entry(host) for host in hosts)).encode())
        _replace(self._list, json.dumps([asdict(host) for host in hosts], indent=1).encode())

    def _entry(self, host: Host) -> str:
        command = [*_our_command(self._home), "ssh-proxy", host.cluster, str(host.rank)]
        # The control plane names this very host: a key that it did not report is refused, never asked about.
        settings = {
            "HostName": host.alias,
            "HostKeyAlias": host.alias,
            "User": host.user,
            "IdentityFile": _quoted(self.folder / "id_ed25519"),
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": _quoted(self.known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "UpdateHostKeys": "no",
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "4",
            "ProxyCommand": shlex.join(command).replace("%", "%%"),
        }
        lines = [f"    {name} {value}\n" for name, value in settings.items() if value]
        return f"\nHost {host.alias}\n" + "".join(lines)


def with_include(content: bytes, line: str) -> bytes | None:
    """``content`` with ``line`` before all else, since a line after a ``Host`` or ``Match`` would belong to
    it; None where it is there already. Every other byte stays, and so do its line ends."""
    wanted = line.encode()
    lines = content.split(b"\n")
    if any(one.strip() == wanted for one in lines):
        return None
    end = b"\r\n" if lines[0].endswith(b"\r") else b"\n"
    return wanted + end + content


def _replace(path: Path, data: bytes) -> None:
    """Atomically; mode and owner stay, a new file is its owner's alone."""
    mode, owner = 0o600, None
    if path.exists():
        found = path.stat()
        mode, owner = stat.S_IMODE(found.st_mode), (found.st_uid, found.st_gid)
    fresh = path.with_name(f".{path.name}.stix-{os.getpid()}")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(data)
        os.fchmod(out.fileno(), mode)
        if owner is not None and owner != (os.geteuid(), os.getegid()):
            os.fchown(out.fileno(), *owner)
    os.replace(fresh, path)


def _key_of(path: Path) -> str:
    public = path.with_name(path.name + ".pub")
    if not (path.exists() and public.exists()):
        program = shutil.which("ssh-keygen")
        if program is None:
            raise NotConfiguredError(
                "There is no ssh-keygen here.", "Install OpenSSH's client (the package openssh-client)."
            )
        fresh = path.with_name("new_key")
        for left in (fresh, fresh.with_name("new_key.pub")):
            left.unlink(missing_ok=True)
        command = [program, "-q", "-t", "ed25519", "-N", "", "-C", "stix", "-f", str(fresh)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        os.replace(fresh.with_name("new_key.pub"), public)
        os.replace(fresh, path)
    words = public.read_text(encoding="ascii").split()
    return f"{words[0]} {words[1]}"


def _our_command(home: Path, environ: Mapping[str, str] = os.environ) -> list[str]:
    """How another program starts this one, whatever its PATH and environment are."""
    script = Path(sys.executable).with_name("stix")
    start = "from stix.cli.entry import main; main()"
    command = [str(script)] if script.exists() else [sys.executable, "-c", start]
    kept = [f"STIX_HOME={home}"] if environ.get("STIX_HOME") else []
    return ["env", *kept, *command] if kept else command


def _quoted(path: Path) -> str:
    text = str(path).replace("%", "%%")
    return f'"{text}"' if any(sign.isspace() for sign in text) else text
