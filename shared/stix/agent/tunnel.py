"""One end of a tunnel: carries a byte stream between something local and the relay's WebSocket.

Both ends run this: the agent between the relay and its sshd, `stix ssh-proxy` between its standard input and
output and the relay. A lost connection is made again while the other end may still be there.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import Callable, Optional, Protocol
from urllib.parse import urlsplit, urlunsplit

from .backoff import Backoff
from .stream import FRAME_BYTES, Stream
from .websocket import TEXT, Connection, UpgradeRefusedError, WebSocketError, connect

_ACK_EVERY = 8
_ACK_AFTER = 0.03
_CALL_TIMEOUT = 20.0
_LONGEST_WAIT = 5.0
_LAST_WRITE = 60.0


class Local(Protocol):
    """What is at this end. ``read`` and ``write`` block; ``close`` ends both, from any thread."""

    def read(self, most: int) -> bytes:
        """Empty at the end. Raises OSError."""
        ...

    def write(self, data: bytes) -> None:
        """Raises OSError."""
        ...

    def end_write(self) -> None: ...

    def close(self) -> None: ...


def socket_url(base: str, url: str) -> str:
    """A tunnel's address, of which an embedded control plane, found under ``base``, tells only the path."""
    if not url.startswith("/"):
        return url
    parts = urlsplit(base)
    path, _, query = url.partition("?")
    scheme = "wss" if parts.scheme == "https" else "ws"
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + path, query, ""))


class Tunnel:
    """``url()`` and ``token()`` are asked anew for each connection; ``run`` is called once."""

    def __init__(self, url: Callable[[], str], token: Callable[[], str]) -> None:
        self._url, self._token = url, token
        self._stream = Stream(os.urandom(6).hex(), time.monotonic())
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._connection: Optional[Connection] = None
        self._owing = 0
        self._declined = ""

    def run(self, local: Local) -> str:
        """Until both directions have ended (then empty), or the reason why the tunnel broke."""
        self._local = local
        threads = [
            threading.Thread(target=target, name="tunnel", daemon=True)
            for target in (self._carry_out, self._carry_in)
        ]
        for thread in threads:
            thread.start()
        try:
            self._talk()
        finally:
            with self._changed:
                failure = self._stream.failure or ""
                if not self._stream.over:
                    failure = self._end("this side ended")
                self._changed.notify_all()
            if failure:
                self._local.close()
            for thread in threads:
                # What came last is still being written; a reader may wait for a person for ever.
                thread.join(0.0 if failure or thread is threads[0] else _LAST_WRITE)
            self._local.close()
        return failure

    def decline(self, reason: str) -> None:
        """In place of ``run``: the other end hears, once it is there, why there is nothing at this one."""
        self._declined = reason
        self._talk()

    @property
    def began(self) -> bool:
        """Whether any of the other end's bytes have come."""
        with self._changed:
            return self._stream.began

    def abandon(self, reason: str) -> None:
        """Ends it from another thread; the other end hears why."""
        with self._changed:
            if not self._stream.over:
                self._end(reason)
            self._changed.notify_all()

    def _end(self, reason: str) -> str:
        farewell = self._stream.give_up(reason)
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.send(TEXT, farewell.encode())
                connection.interrupt()
        return reason

    # -- the relay -------------------------------------------------------------------------------------------

    def _talk(self) -> None:
        backoff = Backoff(0.2, 5.0)
        while not self._over():
            try:
                connection = connect(self._url(), self._token(), _CALL_TIMEOUT)
            except UpgradeRefusedError as exc:
                if 400 <= exc.status < 500:
                    self.abandon(f"the control plane refuses the tunnel ({exc.status})")
                    return
                self._rest(backoff.next())
                continue
            except (OSError, WebSocketError):
                self._rest(backoff.next())
                continue
            with self._changed:
                self._connection = connection
                self._stream.reconnected(time.monotonic())
            try:
                self._listen(connection)
                backoff.reset()
            except (OSError, WebSocketError):
                self._rest(backoff.next())
            finally:
                self._connection = None
                connection.drop()

    def _listen(self, connection: Connection) -> None:
        while True:
            self._speak()
            with self._changed:
                if self._stream.over:
                    self._changed.notify_all()
                    break
                patience = self._stream.patience(time.monotonic())
            message = connection.receive(min(patience, _LONGEST_WAIT))
            if message is None:
                raise WebSocketError("the connection was closed")
            if message[0] == TEXT:
                with self._changed:
                    self._stream.receive(message[1], time.monotonic())
                    if self._declined and self._stream.heard and not self._stream.over:
                        self._end(self._declined)
                    self._changed.notify_all()
        connection.close()

    def _speak(self) -> None:
        """Sends what is to be sent. Where the connection fails the listening thread sees it, and repeats."""
        with self._sending:
            with self._changed:
                connection = self._connection
                if connection is None:
                    return
                said = self._stream.messages(time.monotonic())
            for text in said:
                try:
                    connection.send(TEXT, text.encode())
                except OSError:
                    return

    def _over(self) -> bool:
        with self._changed:
            # Its deadlines pass also while there is no connection.
            self._stream.expire(time.monotonic())
            return self._stream.over

    def _rest(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stream.over, seconds)

    # -- what is local ---------------------------------------------------------------------------------------

    def _carry_out(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stream.has_room or self._stream.over)
                if self._stream.over:
                    return
            try:
                data = self._local.read(FRAME_BYTES)
            except OSError:
                data = b""
            with self._changed:
                if data:
                    self._stream.write(data)
                else:
                    self._stream.finish()
            self._speak()
            if not data:
                return

    def _carry_in(self) -> None:
        while True:
            with self._changed:
                there, data = self._stream.next_frame()
                if not there:
                    if self._stream.over:
                        return
                    self._changed.wait(_ACK_AFTER if self._owing else None)
                    there, data = self._stream.next_frame()
            if not there:
                self._acknowledge()
                continue
            try:
                if data is None:
                    self._local.end_write()
                else:
                    self._local.write(data)
            except OSError as exc:
                self.abandon(f"the other side does not take more: {exc}")
                return
            with self._changed:
                self._owing = self._stream.handed_on()
            if self._owing >= _ACK_EVERY or data is None:
                self._acknowledge()
            if data is None:
                return

    def _acknowledge(self) -> None:
        with self._changed:
            self._owing = 0
            self._stream.owe_ack()
        self._speak()
