"""The parts of ASGI that the gateway speaks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeAlias

from stix.local.http_events import HttpRequest

__all__ = ["ClientGoneError", "Receive", "Scope", "Send", "read_body", "read_request", "send_answer"]

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class ClientGoneError(Exception):
    """The client closed the connection; there is nobody to answer."""


def read_request(scope: Scope, *, without: str) -> HttpRequest:
    """The request's head; the header ``without`` is ours and not for clients to send."""
    client = scope.get("client")
    headers = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
    return HttpRequest(
        method=scope["method"],
        path=scope["path"],
        query=scope["query_string"].decode("latin-1"),
        headers=tuple(pair for pair in headers if pair[0] != without),
        source_ip=client[0] if client else "",
        protocol=f"HTTP/{scope['http_version']}",
    )


async def read_body(receive: Receive, limit: int, seconds: float) -> bytes | None:
    """The whole body, None when it is larger than ``limit`` bytes.

    Raises ``ClientGoneError``, and ``TimeoutError`` when it is not complete within ``seconds``.
    """
    message = await _next(receive, seconds)
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return body if len(body) <= limit else None
    pieces = bytearray(body)
    async with asyncio.timeout(seconds):
        while message.get("more_body"):
            if len(pieces) > limit:
                return None
            message = await _next(receive, seconds)
            pieces += message.get("body", b"")
    return bytes(pieces) if len(pieces) <= limit else None


async def send_answer(send: Send, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None:
    """Send a whole answer; ``headers`` need no content-length."""
    pairs = [
        (name.encode("ascii"), value.encode("latin-1"))
        for name, value in headers
        if name not in ("content-length", "transfer-encoding", "connection")
    ]
    if status not in (204, 304):
        pairs.append((b"content-length", str(len(body)).encode("ascii")))
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


async def _next(receive: Receive, seconds: float) -> MutableMapping[str, Any]:
    async with asyncio.timeout(seconds):
        message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    return message
