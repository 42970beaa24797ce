"""WebSockets of the embedded control plane: API Gateway's part, its events and its posts, over ASGI."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stix.local.asgi import Receive, Scope, Send
from stix.local.functions import Functions, PayloadTooLargeError
from stix.local.interpreter.errors import FunctionError
from stix.local.workers import run_in_thread

__all__ = ["MESSAGE_BYTES", "SOCKET_PATH", "LocalSockets"]

logger = logging.getLogger(__name__)

SOCKET_PATH = "/socket"
MESSAGE_BYTES = 128 * 1024
"""API Gateway's limit of a message."""

_CONNECTIONS = 1_000
_WAITING_BYTES = 4 * 1024 * 1024
_ARN = "arn:aws:execute-api:local:000000000000:embedded/live/$connect"


@dataclass(slots=True)
class _Open:
    """A connection; what is posted to it waits in ``queue``, of ``waiting`` characters in all."""

    queue: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    waiting: int = 0


class LocalSockets:
    """Serves WebSockets by the functions ``authorize`` and ``agent``, and implements ``Sockets``.

    As with API Gateway a connection can be posted to once ``$connect`` has answered, and a message may be
    lost: here, when its receiver does not read for so long that 4 MiB wait for it.
    """

    def __init__(self, functions: Functions):
        self._functions = functions
        self._lock = threading.Lock()
        self._open: dict[str, _Open] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        return len(self._open)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Name the loop that serves."""
        self._loop = loop

    def post(self, connection_id: str, text: str) -> bool:
        """From any thread."""
        with self._lock:
            found = self._open.get(connection_id)
            if found is None or self._loop is None:
                return False
            if found.waiting > _WAITING_BYTES:
                return True
            found.waiting += len(text)
        try:
            self._loop.call_soon_threadsafe(found.queue.put_nowait, text)
        except RuntimeError:
            return False  # The loop has ended.
        return True

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One WebSocket from its handshake to its end; refused by closing it before it was accepted."""
        await receive()
        connection = uuid.uuid4().hex[:16]
        who = await self._admitted(scope, connection)
        if who is None:
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.accept"})
        opened = _Open()
        with self._lock:
            self._open[connection] = opened
        writing = asyncio.create_task(self._write(opened, send))
        try:
            while True:
                message = await receive()
                if message["type"] == "websocket.disconnect":
                    return
                await self._tell("MESSAGE", connection, who, message.get("text") or "")
        finally:
            with self._lock:
                del self._open[connection]
            writing.cancel()
            await asyncio.shield(self._tell("DISCONNECT", connection, who))

    async def _admitted(self, scope: Scope, connection: str) -> Mapping[str, Any] | None:
        """What the authorizer says of the caller; None where it, or the function, says no."""
        if len(self) >= _CONNECTIONS:
            logger.warning("%d WebSockets are open: another one is refused", len(self))
            return None
        query = scope["query_string"].decode("latin-1")
        event = {
            "type": "REQUEST",
            "methodArn": _ARN,
            "headers": {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]},
            "queryStringParameters": dict(pair.split("=", 1) for pair in query.split("&") if "=" in pair),
            "requestContext": _context("CONNECT", connection),
        }
        try:
            verdict = await self._invoke("authorize", event)
        except FunctionError:
            return None
        allowed = [entry["Effect"] for entry in verdict["policyDocument"]["Statement"]]
        if allowed != ["Allow"]:
            return None
        who: Mapping[str, Any] = verdict["context"]
        answer = await self._tell("CONNECT", connection, who)
        return who if answer.get("statusCode") == 200 else None

    async def _tell(
        self, kind: str, connection: str, who: Mapping[str, Any], body: str | None = None
    ) -> Mapping[str, Any]:
        event: dict[str, Any] = {"requestContext": _context(kind, connection) | {"authorizer": dict(who)}}
        if body is not None:
            event |= {"body": body, "isBase64Encoded": False}
        try:
            answer: Mapping[str, Any] = await self._invoke("agent", event)
        except (FunctionError, PayloadTooLargeError):
            return {}  # Logged where it happened; the message is lost.
        return answer

    async def _write(self, opened: _Open, send: Send) -> None:
        while True:
            text = await opened.queue.get()
            with self._lock:
                opened.waiting -= len(text)
            await send({"type": "websocket.send", "text": text})

    async def _invoke(self, function: str, event: dict[str, Any]) -> Any:
        return await run_in_thread(
            lambda work: self._functions.submit(function, work),
            lambda: self._functions.invoke(function, event),
        )


def _context(kind: str, connection: str) -> dict[str, Any]:
    route = {"CONNECT": "$connect", "DISCONNECT": "$disconnect"}.get(kind, "$default")
    return {
        "apiId": "embedded",
        "connectionId": connection,
        "eventType": kind,
        "requestTimeEpoch": int(time.time() * 1000),
        "routeKey": route,
        "stage": "live",
    }
