"""The port that the embedded control plane listens on: the same one after every start, if it can be."""

from __future__ import annotations

import errno
import os
import socket
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from stix.model.errors import InvalidInputError, UnavailableError

__all__ = ["BACKLOG", "LOOPBACK", "listen"]

LOOPBACK = "127.0.0.1"

BACKLOG = 4096
"""Connections that wait to be accepted; beyond it a client tries again a second later."""

_FIRST_PORT = 24_000
_PORTS = 4_000
_ATTEMPTS = 64


def listen(asked: int | None, remembered: int | None, home: Path) -> socket.socket:
    """A socket that listens on the loopback address.

    ``asked`` is what the user wants: ``InvalidInputError`` when it is taken. Otherwise the remembered port,
    or else one derived from the folder's name, or one near it. These lie below the ports that systems hand
    out for outgoing connections, where an agent that calls a server which is down could reach itself.
    """
    if asked is not None:
        try:
            return _bound(asked)
        except OSError as exc:
            if exc.errno == errno.EADDRINUSE:
                raise InvalidInputError(
                    f"port {asked} is in use by {_holder(asked)}.",
                    hint="Choose another with --port.",
                    details={"field": "port", "value": asked},
                ) from exc
            raise InvalidInputError(
                f"port {asked} cannot be used: {exc.strerror}.", hint="Choose another with --port."
            ) from exc
    for port in _candidates(remembered, home):
        with suppress(OSError):
            return _bound(port)
    raise UnavailableError(f"No free port was found on {LOOPBACK}.", hint="Choose one with --port.")


def _candidates(remembered: int | None, home: Path) -> Iterable[int]:
    if remembered is not None:
        yield remembered
    start = zlib.crc32(os.fsencode(home))
    for attempt in range(_ATTEMPTS):
        yield _FIRST_PORT + (start + attempt) % _PORTS
    yield 0


def _bound(port: int) -> socket.socket:
    # The protocol is named because asyncio switches Nagle's delay off only where it is: an answer that goes
    # out in two pieces would otherwise wait 40 ms for an acknowledgement.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # Connections of an earlier server that are still winding down do not stop a new one.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _holder(port: int) -> str:
    """Who listens on ``port``, as far as this user may see (Linux)."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError, ValueError, IndexError):
            for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if int(fields[1].rpartition(":")[2], 16) == port and fields[3] == "0A":
                    inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").glob("[0-9]*") if inodes else ():
        with suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                if os.readlink(descriptor) in inodes:
                    name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
                    return f"{name} (process {process.name})"
    return "another program"
