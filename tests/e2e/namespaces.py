"""Machines in network namespaces: a switch, a person's machine, hosts with OpenSSH's server. Root is needed.

Nothing of it touches this machine's own network. The control plane and the cloud stay where they are, on this
machine's loopback; ``forward`` makes one of their ports appear on a namespace's own loopback.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

__all__ = ["HOST_PATH", "Network", "missing"]

HOST_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NUMBERS = itertools.count(1)
_CLONE_NEWNET = 0x40000000


def missing() -> str:
    """Why this cannot run here; empty where it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program, package in (
        ("ip", "iproute2"),
        ("sshd", "openssh-server"),
        ("ssh", "openssh-client"),
        ("nsenter", "util-linux"),
    ):
        if shutil.which(program, path=HOST_PATH) is None:
            return f"{program} is not installed (the package {package})"
    made = _run("ip", "netns", "add", _name("probe"), check=False)
    if made.returncode != 0:
        return f"no network namespace can be made: {made.stderr.strip()}"
    _run("ip", "netns", "del", made.args[-1])
    return ""


class Network:
    """One switch; every member has a namespace with an address in 10.231.0.0/24 and no other way out."""

    def __init__(self) -> None:
        self._switch = _name("sw")
        self._members: dict[str, str] = {}
        self._listeners: list[socket.socket] = []
        self._holders: list[subprocess.Popen[bytes]] = []
        _run("ip", "netns", "add", self._switch)
        self._ip("link", "add", "bridge", "type", "bridge")
        self._ip("link", "set", "bridge", "up")

    def add(self, name: str, address: str) -> str:
        """A member; the name of its namespace."""
        namespace = self._members[name] = _name(name)
        _run("ip", "netns", "add", namespace)
        self._ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        self._ip("link", "set", name, "master", "bridge", "up")
        _run("ip", "-n", namespace, "link", "set", "lo", "up")
        _run("ip", "-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
        _run("ip", "-n", namespace, "link", "set", "eth0", "up")
        return namespace

    def plug(self, name: str, *, plugged: bool) -> None:
        """Its cable at the switch."""
        self._ip("link", "set", name, "up" if plugged else "down")

    def enter(self, name: str) -> list[str]:
        """A command's beginning that runs the rest in the member's namespace (``ip netns exec`` would hide
        cgroups)."""
        return ["nsenter", f"--net=/run/netns/{self._members[name]}"]

    def home_of(self, name: str, upper: Path) -> list[str]:
        """The same, and root's home folder is a layer of its own above this machine's, kept in ``upper``."""
        for part in ("upper", "work"):
            (upper / part).mkdir(parents=True)
        home = os.path.expanduser("~root")
        layers = f"lowerdir={home},upperdir={upper}/upper,workdir={upper}/work"
        script = f"mount -t overlay overlay -o {layers} {home} && echo up && exec sleep infinity"
        holder = subprocess.Popen(
            [*self.enter(name), "unshare", "--mount", "/bin/sh", "-c", script], stdout=subprocess.PIPE
        )
        self._holders.append(holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"up\n", "no overlay can be mounted here"
        return [*self.enter(name), f"--mount=/proc/{holder.pid}/ns/mnt"]

    def forward(self, name: str, port: int) -> None:
        """Connections to the member's 127.0.0.1 go to this machine's, same port."""
        listener = _listen_in(self._members[name], port)
        self._listeners.append(listener)
        threading.Thread(target=_accept, args=(listener, port), daemon=True).start()

    def close(self) -> None:
        for holder in self._holders:
            holder.kill()
            holder.wait()
            assert holder.stdout is not None
            holder.stdout.close()
        for listener in self._listeners:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for namespace in (*self._members.values(), self._switch):
            _run("ip", "netns", "del", namespace)

    def _ip(self, *arguments: str) -> None:
        _run("ip", "-n", self._switch, *arguments)


def host_shell(enter: Sequence[str], folder: Path, hostname: str, address: str) -> list[str]:
    """What runs a machine's boot script as a host of its own: its namespaces, home, host key and sshd."""
    (folder / "ssh").mkdir(parents=True, exist_ok=True)
    key = folder / "ssh" / "ssh_host_ed25519_key"
    if not key.exists():
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    (folder / "ssh" / "sshd_config").write_text("UsePAM no\nSubsystem sftp internal-sftp\nPrintMotd no\n")
    (folder / "host.sh").write_text(
        f"""set -e
hostname {hostname}
mount --bind {folder}/home {os.path.expanduser("~root")}
mount --bind {folder}/ssh /etc/ssh
mount -t tmpfs tmpfs /run
mkdir -p /run/sshd
/usr/sbin/sshd
export HOME={os.path.expanduser("~root")} PATH={HOST_PATH}
export STIX_MACHINE_ID={folder.name} STIX_ADDRESS={address}
exec /bin/sh "$1"
"""
    )
    own = ["unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return [*enter, *own, "/bin/sh", str(folder / "host.sh")]


def _name(word: str) -> str:
    return f"stix-{os.getpid()}-{next(_NUMBERS)}-{word}"


def _run(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 or not check, f"{' '.join(command)}: {done.stderr}"
    return done


def _listen_in(namespace: str, port: int) -> socket.socket:
    """A socket stays in the namespace in which it was made, so a thread goes there to make it."""
    made: list[socket.socket] = []

    def make() -> None:
        with open(f"/run/netns/{namespace}", "rb") as there:
            if ctypes.CDLL(None, use_errno=True).setns(there.fileno(), _CLONE_NEWNET) == 0:
                made.append(socket.create_server(("127.0.0.1", port), backlog=64))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    assert made, f"no port in {namespace}"
    return made[0]


def _accept(listener: socket.socket, port: int) -> None:
    while True:
        try:
            theirs, _ = listener.accept()
        except OSError:
            return
        try:
            ours = socket.create_connection(("127.0.0.1", port))
        except OSError:
            theirs.close()
            continue
        threading.Thread(target=_carry, args=(theirs, ours), daemon=True).start()


def _carry(theirs: socket.socket, ours: socket.socket) -> None:
    with theirs, ours:
        back = threading.Thread(target=_copy, args=(ours, theirs), daemon=True)
        back.start()
        _copy(theirs, ours)
        back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65_536):
            target.sendall(piece)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
    with suppress(OSError):
        source.shutdown(socket.SHUT_RD)
