"""A WebSocket client (RFC 6455) whose every message means one thing: ask for commands now."""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import select
import socket
import struct
import threading
import time
from typing import Callable, Dict, Optional, Tuple
from urllib.parse import urlsplit

from .backoff import Backoff
from .tunables import Tunables

log = logging.getLogger("stix.agent.wake")

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_MAX_MESSAGE = 1 << 20
_MAX_HEADERS = 1 << 16


class WakeError(Exception):
    """The connection cannot be made, or the other side does not keep to the protocol."""


class WakeSocket:
    """Keeps one connection open and calls ``wake`` for every message; without it the agent still polls."""

    def __init__(
        self, url: str, token: Callable[[], str], wake: Callable[[], None], tunables: Tunables
    ) -> None:
        self._url, self._token, self._wake, self._tunables = url, token, wake, tunables

    def run(self, stopping: threading.Event) -> None:
        backoff = Backoff(self._tunables.backoff_first, max(self._tunables.backoff_last, 60.0))
        while not stopping.is_set():
            try:
                connection = connect(self._url, self._token(), self._tunables.call_timeout)
                backoff.reset()
                # What was said while nobody listened is asked for at once.
                self._wake()
                self._listen(connection, stopping)
            except (OSError, WakeError) as exc:
                log.info("the wake channel is down", extra={"detail": str(exc)})
            stopping.wait(backoff.next())

    def _listen(self, connection: Connection, stopping: threading.Event) -> None:
        """Until the other side closes, or the connection is old enough to be replaced."""
        expires = time.monotonic() + self._tunables.wake_reconnect_seconds
        awaiting_pong = False
        try:
            while not stopping.is_set():
                left = expires - time.monotonic()
                if left <= 0:
                    connection.close()
                    return
                message = connection.receive(min(left, self._tunables.wake_ping_seconds))
                if message is None:
                    return
                opcode, _ = message
                if opcode in (_TEXT, _BINARY):
                    self._wake()
                elif opcode == -1:
                    if awaiting_pong:
                        raise WakeError("no answer to a ping")
                    connection.send(_PING, b"stix")
                    awaiting_pong = True
                    continue
                awaiting_pong = False
        finally:
            connection.drop()


class Connection:
    """An open WebSocket, the client's side: what is sent is masked."""

    def __init__(self, stream: socket.socket, rest: bytes) -> None:
        self._stream = stream
        self._buffer = bytearray(rest)

    def receive(self, patience: float) -> Optional[Tuple[int, bytes]]:
        """A whole message or a pong; (-1, b"") when nothing came in ``patience`` seconds; None if closed."""
        message = bytearray()
        opcode = _CONTINUATION
        while True:
            if not self._readable(patience):
                return -1, b""
            final, kind, payload = self._frame()
            if kind == _PING:
                self.send(_PONG, payload)
            elif kind == _PONG:
                return _PONG, payload
            elif kind == _CLOSE:
                self.send(_CLOSE, payload[:2])
                return None
            elif kind in (_TEXT, _BINARY, _CONTINUATION):
                opcode = kind or opcode
                message += payload
                if len(message) > _MAX_MESSAGE:
                    raise WakeError("a message is too long")
                if final:
                    return opcode, bytes(message)
            else:
                raise WakeError(f"unknown opcode {kind}")

    def send(self, opcode: int, payload: bytes) -> None:
        mask = os.urandom(4)
        head = bytearray([0x80 | opcode])
        if len(payload) < 126:
            head.append(0x80 | len(payload))
        elif len(payload) < 1 << 16:
            head.append(0x80 | 126)
            head += struct.pack(">H", len(payload))
        else:
            head.append(0x80 | 127)
            head += struct.pack(">Q", len(payload))
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        self._stream.sendall(bytes(head) + mask + masked)

    def close(self) -> None:
        """Says goodbye."""
        self.send(_CLOSE, struct.pack(">H", 1000))

    def drop(self) -> None:
        self._stream.close()

    def _readable(self, patience: float) -> bool:
        pending = getattr(
            self._stream, "pending", None
        )  # TLS may hold decrypted bytes that select cannot see.
        if self._buffer or (pending is not None and pending()):
            return True
        return bool(select.select([self._stream], [], [], patience)[0])

    def _frame(self) -> Tuple[bool, int, bytes]:
        first, second = self._exactly(2)
        if first & 0x70:
            raise WakeError("a frame uses an extension that was not agreed on")
        if second & 0x80:
            raise WakeError("the server masked a frame")
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", self._exactly(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self._exactly(8))
        if length > _MAX_MESSAGE:
            raise WakeError("a frame is too long")
        return bool(first & 0x80), first & 0x0F, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            piece = self._stream.recv(65536)
            if not piece:
                raise WakeError("the connection was closed")
            self._buffer += piece
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken


def connect(url: str, token: str, timeout: float) -> Connection:
    """Opens ``ws://`` or ``wss://`` with the token. Raises WakeError or OSError."""
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise WakeError(f"{url!r} is not a WebSocket address")
    port = parts.port or (443 if parts.scheme == "wss" else 80)
    stream = socket.create_connection((parts.hostname, port), timeout=timeout)
    try:
        if parts.scheme == "wss":
            import ssl

            stream = ssl.create_default_context().wrap_socket(stream, server_hostname=parts.hostname)
        key = base64.b64encode(os.urandom(16))
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        stream.sendall(
            (
                f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Key: {key.decode()}\r\nSec-WebSocket-Version: 13\r\n"
                f"Authorization: Bearer {token}\r\n\r\n"
            ).encode()
        )
        rest = _check_answer(stream, key)
    except (OSError, WakeError):
        stream.close()
        raise
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return Connection(stream, rest)


def _check_answer(stream: socket.socket, key: bytes) -> bytes:
    """What came after the headers of a good answer."""
    data = bytearray()
    while b"\r\n\r\n" not in data:
        piece = stream.recv(4096)
        if not piece or len(data) > _MAX_HEADERS:
            raise WakeError("no answer to the upgrade")
        data += piece
    head, _, rest = bytes(data).partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers: Dict[str, str] = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    if lines[0].split(" ")[1:2] != ["101"]:
        raise WakeError(f"the upgrade was refused: {lines[0]}")
    expected = base64.b64encode(hashlib.sha1(key + _MAGIC).digest()).decode()
    if headers.get("sec-websocket-accept") != expected:
        raise WakeError("the answer does not fit the question")
    return rest
