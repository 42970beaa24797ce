"""A WebSocket client (RFC 6455), the standard library's alone: the agent's, and that of `stix ssh`."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import select
import socket
import struct
import threading
from typing import Dict, Optional, Tuple
from urllib.parse import urlsplit

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
NOTHING = -1
"""Stands for an opcode where no message came in time."""

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MAX_MESSAGE = 1 << 20
_MAX_HEADERS = 1 << 16


class WebSocketError(Exception):
    """The connection cannot be made, or the other side does not keep to the protocol."""


class UpgradeRefusedError(WebSocketError):
    """The other side answered with another status than 101."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(f"the upgrade was refused: {line}")
        self.status = status


class Connection:
    """An open WebSocket, the client's side: what is sent is masked. One thread receives, any may send."""

    def __init__(self, stream: socket.socket, rest: bytes) -> None:
        self._stream = stream
        self._buffer = bytearray(rest)
        self._sending = threading.Lock()

    def receive(self, patience: float) -> Optional[Tuple[int, bytes]]:
        """A whole message or a pong; (NOTHING, b"") when none began in ``patience`` s; None if closed."""
        message = bytearray()
        opcode = CONTINUATION
        while True:
            if not self._readable(patience):
                return NOTHING, b""
            final, kind, payload = self._frame()
            if kind == PING:
                self.send(PONG, payload)
            elif kind == PONG:
                return PONG, payload
            elif kind == CLOSE:
                self.send(CLOSE, payload[:2])
                return None
            elif kind in (TEXT, BINARY, CONTINUATION):
                opcode = kind or opcode
                message += payload
                if len(message) > _MAX_MESSAGE:
                    raise WebSocketError("a message is too long")
                if final:
                    return opcode, bytes(message)
            else:
                raise WebSocketError(f"unknown opcode {kind}")

    def send(self, opcode: int, payload: bytes) -> None:
        """Raises OSError."""
        head = bytearray([0x80 | opcode])
        if len(payload) < 126:
            head.append(0x80 | len(payload))
        elif len(payload) < 1 << 16:
            head.append(0x80 | 126)
            head += struct.pack(">H", len(payload))
        else:
            head.append(0x80 | 127)
            head += struct.pack(">Q", len(payload))
        mask = os.urandom(4)
        data = bytes(head) + mask + _masked(payload, mask)
        with self._sending:
            self._stream.sendall(data)

    def close(self) -> None:
        """Says goodbye."""
        self.send(CLOSE, struct.pack(">H", 1000))

    def interrupt(self) -> None:
        """Makes ``receive`` in another thread see the end."""
        with contextlib.suppress(OSError):
            self._stream.shutdown(socket.SHUT_RD)

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
            raise WebSocketError("a frame uses an extension that was not agreed on")
        if second & 0x80:
            raise WebSocketError("the server masked a frame")
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", self._exactly(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self._exactly(8))
        if length > _MAX_MESSAGE:
            raise WebSocketError("a frame is too long")
        return bool(first & 0x80), first & 0x0F, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            piece = self._stream.recv(65536)
            if not piece:
                raise WebSocketError("the connection was closed")
            self._buffer += piece
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken


def connect(url: str, token: str, timeout: float) -> Connection:
    """Opens ``ws://`` or ``wss://`` with the token. Raises WebSocketError or OSError."""
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise WebSocketError(f"{url!r} is not a WebSocket address")
    port = parts.port or (443 if parts.scheme == "wss" else 80)
    stream = socket.create_connection((parts.hostname, port), timeout=timeout)
    try:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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
    except (OSError, WebSocketError):
        stream.close()
        raise
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return Connection(stream, rest)


def _masked(payload: bytes, mask: bytes) -> bytes:
    """One operation on two long numbers; byte by byte a frame of 30 kB would take milliseconds."""
    size = len(payload)
    stretched = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(stretched, "big")).to_bytes(size, "big")


def _check_answer(stream: socket.socket, key: bytes) -> bytes:
    """What came after the headers of a good answer."""
    data = bytearray()
    while b"\r\n\r\n" not in data:
        piece = stream.recv(4096)
        if not piece or len(data) > _MAX_HEADERS:
            raise WebSocketError("no answer to the upgrade")
        data += piece
    head, _, rest = bytes(data).partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers: Dict[str, str] = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    status = "".join(lines[0].split(" ")[1:2])
    if status != "101":
        raise UpgradeRefusedError(int(status) if status.isdigit() else 0, lines[0])
    expected = base64.b64encode(hashlib.sha1(key + _MAGIC).digest()).decode()
    if headers.get("sec-websocket-accept") != expected:
        raise WebSocketError("the answer does not fit the question")
    return rest
