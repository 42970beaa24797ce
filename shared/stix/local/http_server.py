"""uvicorn's HTTP and WebSocket protocols on a loop that wakes up only when something happens."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from stix.local.asgi import Receive, Scope, Send
from stix.local.listening import BACKLOG
from stix.local.sockets import MESSAGE_BYTES

__all__ = ["HttpServer"]

HEAD_BYTES = 65_536
"""Of a request, before its body; the parser itself knows no bound."""

KEEP_ALIVE_SECONDS = 75
"""Longer than the pauses of polling clients, so that they keep their connections."""


class HttpServer:
    """Serves an ASGI application on a listening socket.

    uvicorn's own main loop wakes up ten times a second, which is most of the cost of an idle server; this one
    uses its protocol without that loop.
    """

    def __init__(
        self, application: Callable[[Scope, Receive, Send], Awaitable[None]], listener: socket.socket
    ):
        self._listener = listener
        self._state = ServerState()
        self._config = Config(
            application,
            http=_Connection,
            ws=_websocket,  # type: ignore[arg-type]  # called as a class, imported for the first WebSocket
            ws_max_size=MESSAGE_BYTES,
            ws_per_message_deflate=False,
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._config.load()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._protocol, sock=self._listener, backlog=BACKLOG)

    async def stop(self, seconds: float) -> None:
        """Accept nothing more, let requests in progress finish within ``seconds``, then cut off the rest."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        tasks = set(self._state.tasks)
        if tasks:
            _, unfinished = await asyncio.wait(tasks, timeout=seconds)
            for task in unfinished:
                task.cancel()
        for connection in list(self._state.connections):
            if connection.transport is not None:
                connection.transport.close()

    def _protocol(self) -> asyncio.Protocol:
        return _Connection(config=self._config, server_state=self._state, app_state={})


class _Connection(HttpToolsProtocol):
    """Refuses a request whose head does not end, and what is none after it has answered what came before."""

    _head_bytes = 0
    _in_head = True
    _refusal = ""

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request's head is too large.")

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        before = self.cycle
        if before is None or before.response_complete or before.more_body:
            super().send_400_response(msg)
        else:
            self._refusal = msg
            self.flow.pause_reading()  # nothing that follows counts, so none of it is kept

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._refusal and self.cycle.response_complete and not self.transport.is_closing():
            super().send_400_response(self._refusal)


def _websocket(**arguments: Any) -> asyncio.Protocol:
    from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
    from wsproto.utilities import LocalProtocolError

    class Socket(WSProtocol):
        def shutdown(self) -> None:
            """Also of one that has just been closed, which uvicorn does not expect."""
            with suppress(LocalProtocolError):
                super().shutdown()

    return Socket(**arguments)
