"""One keep-alive HTTP connection for JSON calls and object transfers."""

from __future__ import annotations

import contextlib
import json
import socket
from typing import IO, Mapping, Optional, Tuple
from urllib.parse import urlsplit

from .files import Json
from .http_answer import Answer, BadAnswerError


class UnreachableError(Exception):
    """No complete answer came; the call may or may not have been done."""


class RefusedError(Exception):
    """The other side answered with an HTTP error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"HTTP {status} {code}: {message}")
        self.status = status
        self.code = code


class HttpChannel:
    """Keeps one connection to the last host; a stale one is opened again once. For one thread at a time."""

    def __init__(self) -> None:
        self._connection: Optional[socket.socket] = None
        self._stream: Optional[IO[bytes]] = None
        self._origin: Tuple[str, str] = ("", "")

    def post(self, url: str, body: Json, headers: Mapping[str, str], timeout: float) -> Json:
        """The answer's JSON object. Raises RefusedError or UnreachableError."""
        data = json.dumps(body, separators=(",", ":")).encode()
        sent = {"Content-Type": "application/json", **headers}
        status, answer = self._exchange("POST", url, data, sent, timeout)
        try:
            decoded = json.loads(answer) if answer else {}
        except ValueError as exc:
            if status >= 400:
                raise RefusedError(status, "", answer[:200].decode("utf-8", "replace")) from exc
            raise UnreachableError(f"{url} answered with something that is not JSON") from exc
        if status >= 400:
            error = decoded.get("error") if isinstance(decoded, dict) else None
            error = error if isinstance(error, dict) else {}
            raise RefusedError(status, str(error.get("code", "")), str(error.get("message", "")))
        if not isinstance(decoded, dict):
            raise UnreachableError(f"{url} answered with JSON that is not an object")
        return decoded

    def put(
        self, url: str, data: bytes, headers: Mapping[str, str], timeout: float, method: str = "PUT"
    ) -> None:
        """Sends exactly these bytes. Raises RefusedError or UnreachableError."""
        status, answer = self._exchange(method, url, data, headers, timeout)
        if status >= 300:
            raise RefusedError(status, "", answer[:200].decode("utf-8", "replace"))

    def download(self, url: str, headers: Mapping[str, str], target: IO[bytes], timeout: float) -> None:
        """Streams the body into ``target``. Raises RefusedError, UnreachableError, OSError."""
        try:
            answer = self._send("GET", url, b"", headers, timeout)
            if answer.status >= 300:
                raise RefusedError(answer.status, "", answer.body()[:200].decode("utf-8", "replace"))
            for piece in answer.pieces():
                target.write(piece)
        except (BadAnswerError, ConnectionError, socket.timeout, socket.gaierror, ValueError) as exc:
            raise UnreachableError(f"{url}: {exc!r}") from exc
        finally:
            self.close()

    def close(self) -> None:
        stream, connection, self._stream, self._connection = self._stream, self._connection, None, None
        if stream is not None and connection is not None:
            with contextlib.suppress(OSError):
                stream.close()
            connection.close()

    def _exchange(
        self, method: str, url: str, data: bytes, headers: Mapping[str, str], timeout: float
    ) -> Tuple[int, bytes]:
        try:
            answer = self._send(method, url, data, headers, timeout)
            body = answer.body()
        except (BadAnswerError, OSError, ValueError) as exc:
            self.close()
            raise UnreachableError(f"{url}: {exc!r}") from exc
        if not answer.reusable:
            self.close()
        return answer.status, body

    def _send(self, method: str, url: str, data: bytes, headers: Mapping[str, str], timeout: float) -> Answer:
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(data)}"]
        lines += [f"{name}: {value}" for name, value in headers.items() if name.lower() != "content-length"]
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError("a header holds a line break")
        request = "\r\n".join([*lines, "", ""]).encode("latin-1") + data
        if self._is_open_to(parts.scheme, parts.netloc, timeout):
            try:
                return self._ask(request)
            except (BadAnswerError, BrokenPipeError, ConnectionResetError):
                # A kept connection that the server closed while idle; every call here may be repeated.
                self.close()
        self._connect(parts.scheme, parts.netloc, parts.hostname or "", parts.port, timeout)
        return self._ask(request)

    def _ask(self, request: bytes) -> Answer:
        assert self._connection is not None
        assert self._stream is not None
        self._connection.sendall(request)
        return Answer(self._stream)

    def _is_open_to(self, scheme: str, netloc: str, timeout: float) -> bool:
        if self._connection is None or self._origin != (scheme, netloc):
            return False
        self._connection.settimeout(timeout)
        return True

    def _connect(self, scheme: str, netloc: str, host: str, port: Optional[int], timeout: float) -> None:
        self.close()
        connection = socket.create_connection((host, port or (443 if scheme == "https" else 80)), timeout)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if scheme == "https":
                import ssl  # Only where it is needed: it is the agent's largest import.

                connection = ssl.create_default_context().wrap_socket(connection, server_hostname=host)
        except OSError:
            connection.close()
            raise
        self._connection = connection
        self._stream = connection.makefile("rb")
        self._origin = (scheme, netloc)
