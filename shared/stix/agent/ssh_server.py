"""The SSH server that people reach on this node: the machine's own, or a private one of the agent.

The machine's own is used where the agent's user may log in there with a key. Else, and where the node's home
is not that user's (a local node), the agent starts OpenSSH's server itself, one process for each tunnel.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from typing import Dict, List, Optional, Protocol, Tuple

from .authorized_keys import write_keys
from .config import AgentConfig
from .files import Json, write_atomically

_SBIN = "/usr/sbin:/usr/local/sbin:/sbin:/usr/bin:/usr/local/bin:/bin"
_TIMEOUT = 10.0
_SFTP = (
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/libexec/sftp-server",
    "/usr/lib/ssh/sftp-server",
    "/usr/lib64/ssh/sftp-server",
)
_DEFAULTS = {
    "port": ["22"],
    "authorizedkeysfile": [".ssh/authorized_keys"],
    "pubkeyauthentication": ["yes"],
    "permitrootlogin": ["prohibit-password"],
    "hostkey": [f"/etc/ssh/ssh_host_{kind}_key" for kind in ("ed25519", "ecdsa", "rsa")],
}


class NoServerError(Exception):
    """Nobody can log in on this machine; the message says what would help."""


class SshServer(Protocol):
    """``port`` is 0 where only ``connect`` leads to it; ``host_keys`` are lines of type and base64."""

    port: int

    def host_keys(self) -> List[str]: ...

    def authorize(self, mark: str, keys: List[Json]) -> None:
        """Exactly ``keys`` may log in under ``mark``. Raises OSError."""
        ...

    def connect(self) -> socket.socket:
        """A new connection to it. Raises OSError."""
        ...


def login_user() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def find_server(config: AgentConfig) -> SshServer:
    """Raises NoServerError, OSError."""
    program = shutil.which("sshd", path=_SBIN)
    if program is not None and _is_own_home(config.home_dir):
        system = _find_system(program, config.address)
        if system is not None:
            return system
    if program is None:
        raise NoServerError(
            "the node has no SSH server: install the package openssh-server there (in setup, or in the image)"
        )
    return PrivateServer(program, config)


def _is_own_home(folder: str) -> bool:
    return os.path.realpath(folder) == os.path.realpath(pwd.getpwuid(os.geteuid()).pw_dir)


# -- the machine's own ---------------------------------------------------------------------------------------


class SystemServer:
    """``sshd`` as it runs on the machine, on ``address`` and ``port``."""

    def __init__(self, address: str, port: int, keys_file: str, host_key_files: List[str]) -> None:
        self.port = port
        self._address, self._keys_file, self._host_key_files = address, keys_file, host_key_files

    def host_keys(self) -> List[str]:
        return public_keys(self._host_key_files)

    def authorize(self, mark: str, keys: List[Json]) -> None:
        write_keys(self._keys_file, mark, keys)

    def connect(self) -> socket.socket:
        stream = socket.create_connection((self._address, self.port), timeout=_TIMEOUT)
        stream.settimeout(None)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return stream


def _find_system(program: str, address: str) -> Optional[SystemServer]:
    """None where it does not listen, or does not let this user in with a key."""
    user = pwd.getpwuid(os.geteuid())
    settings = _effective_settings(program, user.pw_name)
    root_may = settings["permitrootlogin"][0] in ("yes", "prohibit-password", "without-password")
    patterns = settings["authorizedkeysfile"][0].split()
    if settings["pubkeyauthentication"][0] != "yes" or patterns[:1] == ["none"]:
        return None
    if user.pw_uid == 0 and not root_may:
        return None
    expanded = patterns[0].replace("%h", user.pw_dir).replace("%u", user.pw_name).replace("%%", "%")
    keys_file = os.path.join(user.pw_dir, expanded)
    for port in settings["port"]:
        for where in dict.fromkeys(("127.0.0.1", address)):
            if _speaks_ssh(where, int(port)):
                server = SystemServer(where, int(port), keys_file, settings["hostkey"])
                return server if server.host_keys() else None
    return None


def _effective_settings(program: str, user: str) -> Dict[str, List[str]]:
    """What ``sshd -T`` says for this user, or its defaults where it may not be asked."""
    found: Dict[str, List[str]] = {}
    for arguments in (["-C", f"user={user},host=localhost,addr=127.0.0.1"], []):
        try:
            answer = subprocess.run(
                [program, "-T", *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=_TIMEOUT,
            )
        except (OSError, subprocess.SubprocessError):
            continue
        if answer.returncode == 0:
            for line in answer.stdout.decode("utf-8", "replace").splitlines():
                name, _, value = line.strip().partition(" ")
                found.setdefault(name.lower(), []).append(value)
            break
    return {name: found.get(name) or default for name, default in _DEFAULTS.items()}


def _speaks_ssh(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=2.0) as stream:
            return stream.recv(4) == b"SSH-"
    except OSError:
        return False


def public_keys(files: List[str]) -> List[str]:
    keys = []
    for path in files:
        try:
            with open(path + ".pub", encoding="ascii", errors="replace") as stream:
                words = stream.read().split()
        except OSError:
            continue
        if len(words) >= 2:
            keys.append(f"{words[0]} {words[1]}")
    return keys


def make_key(path: str) -> None:
    """A key pair at ``path``, where there is none yet. Raises OSError, SubprocessError."""
    if os.path.exists(path + ".pub"):
        return
    program = shutil.which("ssh-keygen", path=_SBIN)
    if program is None:
        raise FileNotFoundError("the node has no ssh-keygen: install the package openssh-client there")
    command = [program, "-q", "-t", "ed25519", "-N", "", "-C", "stix", "-f", path]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=_TIMEOUT)


# -- the agent's own -----------------------------------------------------------------------------------------


_PROCESSES: List[subprocess.Popen[bytes]] = []
"""Of this agent; its server may be found anew."""


class PrivateServer:
    """``sshd -i`` for each connection, with a configuration and a host key of its own in the state folder.

    A session starts in the node's home and inside the node's limits, as a job does.
    """

    port = 0

    def __init__(self, program: str, config: AgentConfig) -> None:
        self._program = program
        self._config = config
        self._folder = os.path.join(config.state_dir, "ssh")
        self._host_key = os.path.join(self._folder, "host_key")
        self._processes = _PROCESSES
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        self._make_host_key()
        write_atomically(self._path("session"), self._session().encode(), mode=0o700)
        write_atomically(self._path("config"), self._settings().encode())
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # It insists on this one.

    def host_keys(self) -> List[str]:
        return public_keys([self._host_key])

    def authorize(self, mark: str, keys: List[Json]) -> None:
        write_keys(self._path("authorized_keys"), mark, keys)

    def connect(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs, open(self._path("log"), "wb") as log:
            try:
                started = subprocess.Popen(
                    [self._program, "-i", "-e", "-f", self._path("config")],
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=log,
                    start_new_session=True,
                )
            except OSError:
                ours.close()
                raise
        # Those that have ended are collected here.
        self._processes[:] = [one for one in self._processes if one.poll() is None] + [started]
        return ours

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)

    def _make_host_key(self) -> None:
        try:
            make_key(self._host_key)
        except (OSError, subprocess.SubprocessError) as exc:
            raise NoServerError(f"the node's host key could not be made: {exc}") from exc

    def _settings(self) -> str:
        sftp = next((path for path in _SFTP if os.path.exists(path)), "")
        lines = [
            f'HostKey "{self._host_key}"',
            f'AuthorizedKeysFile "{self._path("authorized_keys")}"',
            f"AllowUsers {login_user()}",
            f'ForceCommand /bin/sh "{self._path("session")}"',
            # Without PAM a locked password locks keys out as well, and PAM is for root alone.
            f"UsePAM {'yes' if is_locked(login_user()) else 'no'}",
            "StrictModes no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password",
            "PidFile none",
            "PrintMotd no",
            "AcceptEnv LANG LC_*",
            "ClientAliveInterval 30",
        ]
        if sftp:
            lines.append(f"Subsystem sftp {sftp}")
        return "\n".join([*lines, ""])

    def _session(self) -> str:
        home, path = self._config.home_dir, os.environ.get("PATH", _SBIN)
        return "\n".join(
            [
                *(f"echo $$ >{_quoted(file)}" for file in self._config.confine),
                f"export HOME={_quoted(home)} PATH={_quoted(path)}",
                'cd "$HOME" || exit 1',
                'if [ -n "$SSH_ORIGINAL_COMMAND" ]; then',
                '  exec "${SHELL:-/bin/sh}" -c "$SSH_ORIGINAL_COMMAND"',
                "fi",
                'exec "${SHELL:-/bin/sh}" -l',
                "",
            ]
        )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def is_locked(user: str) -> bool:
    try:
        with open("/etc/shadow", encoding="utf-8", errors="replace") as stream:
            entries: List[Tuple[str, ...]] = [tuple(line.split(":")) for line in stream]
    except OSError:
        return False
    return any(entry[0] == user and entry[1:2] and entry[1].startswith("!") for entry in entries)
