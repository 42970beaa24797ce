"""The ways from here to a node's SSH server, tried in order: directly, through AWS, through a tunnel."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from stix.agent.tunnel import Tunnel, socket_url
from stix.sdk.client import Client
from stix.sdk.errors import SdkError
from stix.sdk.responses import SshAccess, SshNode

__all__ = ["Attempts", "carry", "session_manager_command"]

_DIRECT_SECONDS = 1.5
_SESSION_MANAGER_SECONDS = 20.0
_PIECE = 65_536
_OWN_END = "the client ended"
_KEY_TYPES = {"ssh-ed25519": "ed25519", "ssh-rsa": "rsa"}


@dataclass(slots=True)
class Attempts:
    """What was tried in vain, one line each."""

    lines: list[str] = field(default_factory=list)

    def failed(self, way: str, why: object) -> None:
        self.lines.append(f"{way}: {why}")


def carry(client: Client, access: SshAccess, node: SshNode, attempts: Attempts) -> bool:
    """Carry standard input and output to and from the node's SSH server until either ends.

    False where no way led there; then ``attempts`` say why. Raises ``SdkError`` where a way broke.
    """
    stream = _direct(node, attempts)
    if stream is not None:
        _carry_socket(stream)
        return True
    if access["cloud"] == "aws" and node["port"]:
        process = _session_manager(access, node, attempts)
        if process is not None:
            _carry_process(*process)
            return True
    return _tunnel(client, access["cluster"], node["rank"], attempts)


# -- directly ------------------------------------------------------------------------------------------------


def _direct(node: SshNode, attempts: Attempts) -> socket.socket | None:
    """A connection to the public address, else to the private one, both tried at the same time; None also
    where the server is the agent's own, which listens nowhere."""
    addresses = dict.fromkeys(one for one in (node["public_address"], node["address"]) if one)
    if not node["port"]:
        return None
    with ThreadPoolExecutor(2) as pool:
        tries = [(address, pool.submit(_connect, address, node)) for address in addresses]
    found: list[socket.socket] = []
    for address, result in tries:
        outcome = result.result()
        if isinstance(outcome, str):
            attempts.failed(f"directly at {address} port {node['port']}", outcome)
        else:
            found.append(outcome)
    for other in found[1:]:
        other.close()
    return found[0] if found else None


def _connect(address: str, node: SshNode) -> socket.socket | str:
    """The connection, or why there is none."""
    try:
        stream = socket.create_connection((address, node["port"]), timeout=_DIRECT_SECONDS)
    except OSError as exc:
        return exc.strerror or str(exc)
    if not _is_the_node(address, node):
        # A private address means another machine in another network.
        stream.close()
        return "another machine answers there (its host key is not the node's)"
    stream.settimeout(None)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream


def _is_the_node(address: str, node: SshNode) -> bool:
    """True also where that cannot be found out: ``ssh`` itself checks the key again."""
    program = shutil.which("ssh-keyscan")
    if program is None or not node["host_keys"]:
        return True
    kind = node["host_keys"][0].partition(" ")[0]
    short = "ecdsa" if kind.startswith("ecdsa") else _KEY_TYPES.get(kind, kind)
    command = [program, "-T", "3", "-p", str(node["port"]), "-t", short, address]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        answer = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10)
        found = {" ".join(line.split()[1:3]) for line in answer.stdout.splitlines() if line[:1] != "#"}
        return node["host_keys"][0] in found
    return True


def _carry_socket(stream: socket.socket) -> None:
    def send() -> None:
        with contextlib.suppress(OSError):
            while piece := os.read(0, _PIECE):
                stream.sendall(piece)
            stream.shutdown(socket.SHUT_WR)

    threading.Thread(target=send, daemon=True).start()
    with contextlib.suppress(OSError):
        while piece := stream.recv(_PIECE):
            _write(piece)


# -- AWS Systems Manager -------------------------------------------------------------------------------------


def session_manager_command(machine_id: str, region: str, port: int) -> list[str]:
    """The AWS command line that connects its standard input and output to a machine's SSH server."""
    document = ["--document-name", "AWS-StartSSHSession", "--parameters", f"portNumber={port}"]
    return ["aws", "ssm", "start-session", "--target", machine_id, *document, "--region", region]


def _session_manager(
    access: SshAccess, node: SshNode, attempts: Attempts
) -> tuple[subprocess.Popen[bytes], bytes] | None:
    """The process and its first bytes; the server speaks first, so nothing of standard input is lost before
    it is known that the way leads there."""
    way = "through AWS Systems Manager"
    if not node["session_manager"]:
        attempts.failed(way, "the machine has no instance profile (clouds.aws.instance_profile)")
        return None
    for program in ("aws", "session-manager-plugin"):
        if shutil.which(program) is None:
            attempts.failed(way, f"{program} is not installed here")
            return None
    command = session_manager_command(node["machine_id"], access["region"], node["port"])
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    timer = threading.Timer(_SESSION_MANAGER_SECONDS, process.kill)
    timer.start()
    assert process.stdout is not None
    first = os.read(process.stdout.fileno(), _PIECE)
    timer.cancel()
    if first.startswith(b"SSH-"):
        return process, first
    process.kill()
    said = process.communicate()[1].decode("utf-8", "replace").strip().splitlines()
    attempts.failed(way, said[-1] if said else "no answer")
    return None


def _carry_process(process: subprocess.Popen[bytes], first: bytes) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def send() -> None:
        with contextlib.suppress(OSError):
            while piece := os.read(0, _PIECE):
                stdin.write(piece)
                stdin.flush()
            stdin.close()

    threading.Thread(target=send, daemon=True).start()
    try:
        with contextlib.suppress(OSError):
            while first:
                _write(first)
                first = os.read(stdout.fileno(), _PIECE)
    finally:
        process.kill()


# -- a tunnel ------------------------------------------------------------------------------------------------


class _StandardEnd:
    """This process's standard input and output as the local end of a tunnel."""

    def read(self, most: int) -> bytes:
        return os.read(0, most)

    def write(self, data: bytes) -> None:
        _write(data)

    def end_write(self) -> None:
        os.close(1)

    def close(self) -> None: ...


def _tunnel(client: Client, cluster: str, rank: int, attempts: Attempts) -> bool:
    way = "through a tunnel"
    try:
        url = client.open_tunnel(cluster, rank)["url"]
    except SdkError as exc:
        attempts.failed(way, exc.message)
        return False
    tunnel = Tunnel(lambda: socket_url(client.endpoint.url, url), lambda: client.endpoint.token)
    _on_end(lambda: tunnel.abandon(_OWN_END))
    failure = tunnel.run(_StandardEnd())
    if failure in ("", _OWN_END):
        return True
    if not tunnel.began:
        attempts.failed(way, failure)
        return False
    raise SdkError("tunnel_broke", f"The tunnel to node {rank} of {cluster} broke: {failure}.")


def _on_end(act: Callable[[], None]) -> None:
    """``ssh`` ends its proxy by a signal; the other end should hear of it at once. A handler must not wait
    for the locks of the very code that it interrupts, so a thread acts."""
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, lambda *_: threading.Thread(target=act, daemon=True).start())


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]
