"""The wake channel: a WebSocket whose every message means one thing: ask for commands now."""

from __future__ import annotations

import logging
import threading
import time
from typing import Callable

from .backoff import Backoff
from .tunables import Tunables
from .websocket import BINARY, NOTHING, PING, TEXT, Connection, WebSocketError, connect

log = logging.getLogger("stix.agent.wake")


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
            except (OSError, WebSocketError) as exc:
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
                if opcode in (TEXT, BINARY):
                    self._wake()
                elif opcode == NOTHING:
                    if awaiting_pong:
                        raise WebSocketError("no answer to a ping")
                    connection.send(PING, b"stix")
                    awaiting_pong = True
                    continue
                awaiting_pong = False
        finally:
            connection.drop()
