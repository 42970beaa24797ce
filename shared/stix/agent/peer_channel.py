"""Authenticated JSON lines between two agents of a cluster.

Both sides prove the cluster key over fresh nonces; every line then carries a MAC over a session key, the
direction and a counter, so that lines cannot be forged, replayed or reflected.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import socket
import struct
import threading
from typing import Optional, Tuple

from .files import Json

_MAX_LINE = 8 << 20
_HELLO_LINE = 4096


class PeerError(Exception):
    """The other side does not answer, or not as an agent of this cluster."""


class PeerChannel:
    """``receive`` belongs to one thread; ``send`` may be called from any."""

    def __init__(self, connection: socket.socket, session: bytes, ours: bytes, theirs: bytes) -> None:
        self._socket = connection
        self._reader = connection.makefile("rb")
        self._session = session
        self._ours, self._theirs = ours, theirs
        self._sent, self._received = 0, 0
        self._lock = threading.Lock()

    def send(self, message: Json) -> None:
        """Raises PeerError; the channel is closed then."""
        payload = json.dumps(message, separators=(",", ":")).encode()
        try:
            with self._lock:
                mac = self._mac(self._ours, self._sent, payload)
                self._sent += 1
                self._socket.sendall(mac + b" " + payload + b"\n")
        except OSError as exc:
            self.close()
            raise PeerError(str(exc)) from exc

    def receive(self) -> Optional[Json]:
        """The next message; None when the connection has ended. Raises PeerError on a bad line."""
        try:
            line = self._reader.readline(_MAX_LINE)
        except (OSError, ValueError):
            return None
        if not line.endswith(b"\n"):
            return None
        mac, _, payload = line[:-1].partition(b" ")
        if not hmac.compare_digest(mac, self._mac(self._theirs, self._received, payload)):
            raise PeerError("a message does not carry the session's code")
        self._received += 1
        message = json.loads(payload)
        if not isinstance(message, dict):
            raise PeerError("a message is not an object")
        return message

    def close(self) -> None:
        with contextlib.suppress(OSError):  # Closed by the other side already.
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _mac(self, direction: bytes, counter: int, payload: bytes) -> bytes:
        text = direction + counter.to_bytes(8, "big") + payload
        return hmac.new(self._session, text, hashlib.sha256).hexdigest().encode()


def connect_peer(address: str, port: int, key: bytes, role: str, timeout: float) -> PeerChannel:
    """Opens a channel as ``role`` ("head" or "probe"). Raises PeerError."""
    try:
        connection = socket.create_connection((address, port), timeout=timeout)
    except OSError as exc:
        raise PeerError(exc.strerror or str(exc) or "timed out") from exc
    try:
        ours = os.urandom(16).hex()
        _write(connection, {"role": role, "nonce": ours})
        answer = _read(connection)
        theirs = str(answer.get("nonce", ""))
        _check(answer, key, b"server", role, ours, theirs)
        _write(connection, {"proof": _proof(key, b"client", role, ours, theirs)})
        _check(_read(connection), key, b"welcome", role, ours, theirs)
        return _established(connection, key, role, ours, theirs, server=False)
    except (OSError, ValueError) as exc:
        connection.close()
        raise PeerError(str(exc) or "timed out") from exc
    except PeerError:
        connection.close()
        raise


def accept_peer(connection: socket.socket, key: bytes, timeout: float) -> Tuple[str, PeerChannel]:
    """The caller's role and the channel to it. Raises PeerError; the connection is closed then."""
    connection.settimeout(timeout)
    try:
        hello = _read(connection)
        role, theirs = str(hello.get("role", "")), str(hello.get("nonce", ""))
        if role not in ("head", "probe") or len(theirs) < 16:
            raise PeerError("not an agent's greeting")
        ours = os.urandom(16).hex()
        _write(connection, {"nonce": ours, "proof": _proof(key, b"server", role, theirs, ours)})
        _check(_read(connection), key, b"client", role, theirs, ours)
        _write(connection, {"proof": _proof(key, b"welcome", role, theirs, ours)})
        return role, _established(connection, key, role, theirs, ours, server=True)
    except (OSError, ValueError) as exc:
        connection.close()
        raise PeerError(str(exc) or "timed out") from exc
    except PeerError:
        connection.close()
        raise


def _proof(key: bytes, side: bytes, role: str, client: str, server: str) -> str:
    text = b"|".join((side, role.encode(), client.encode(), server.encode()))
    return hmac.new(key, text, hashlib.sha256).hexdigest()


def _check(message: Json, key: bytes, side: bytes, role: str, client: str, server: str) -> None:
    if not hmac.compare_digest(str(message.get("proof", "")), _proof(key, side, role, client, server)):
        raise PeerError("it does not hold the cluster's key")


def _established(
    connection: socket.socket, key: bytes, role: str, client: str, server_nonce: str, server: bool
) -> PeerChannel:
    session = bytes.fromhex(_proof(key, b"session", role, client, server_nonce))
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 10, 0))
    # The kernel, not a thread, finds out that the other machine is gone: within about 30 seconds.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    ours, theirs = (b"s", b"c") if server else (b"c", b"s")
    return PeerChannel(connection, session, ours, theirs)


def _write(connection: socket.socket, message: Json) -> None:
    connection.sendall(json.dumps(message).encode() + b"\n")


def _read(connection: socket.socket) -> Json:
    line = bytearray()
    while not line.endswith(b"\n"):
        # Byte by byte: nothing after the greeting may be swallowed, and a greeting is short.
        piece = connection.recv(1)
        if not piece or len(line) > _HELLO_LINE:
            raise PeerError("it closed the connection")
        line += piece
    message = json.loads(bytes(line))
    if not isinstance(message, dict):
        raise PeerError("not an agent's greeting")
    return message
