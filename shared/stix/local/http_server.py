"""uvicorn's HTTP and WebSocket protocols on a loop that wakes up only when something happens."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from stix.local.asgi import Receive, Scope, Send
from stix.local.listening import BACKLOG
from stix.local.sockets import MESSAGE_BYTES

__all__ = ["HttpServer"]

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
            http=H11Protocol,
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
        return H11Protocol(config=self._config, server_state=self._state, app_state={})


def _websocket(**arguments: Any) -> asyncio.Protocol:
    from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
    from wsproto.utilities import LocalProtocolError

    class Socket(WSProtocol):
        def shutdown(self) -> None:
            """Also of one that has just been closed, which uvicorn does not expect."""
            with suppress(LocalProtocolError):
                super().shutdown()

    return Socket(**arguments)
