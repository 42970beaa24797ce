"""Who else is in the cluster, who may call this node, and the head's lines to the other ranks."""

from __future__ import annotations

import logging
import socket
import threading
from typing import Callable, Dict, List, Optional, Set, Tuple

from .backoff import Backoff
from .files import Json
from .peer_channel import PeerChannel, PeerError, accept_peer, connect_peer
from .tunables import Tunables
from .worker import Worker

log = logging.getLogger("stix.agent.peers")


class PeerBook:
    """The last list of peers, and which of them answered since it came."""

    def __init__(self, tunables: Tunables) -> None:
        self._tunables = tunables
        self._lock = threading.Lock()
        self._peers: Dict[int, Json] = {}
        self._reached: Set[Tuple[str, int]] = set()
        self.version = 0

    def update(self, version: int, peers: List[Json]) -> None:
        with self._lock:
            self.version = version
            self._peers = {int(peer["rank"]): peer for peer in peers}
            self._reached.clear()

    def address(self, rank: int) -> Optional[Json]:
        with self._lock:
            return self._peers.get(rank)

    def all(self) -> List[Json]:
        with self._lock:
            return list(self._peers.values())

    def distrust(self, rank: int) -> None:
        """The rank's line broke: the next probe of it is a real one."""
        with self._lock:
            peer = self._peers.get(rank) or {}
            self._reached.discard((str(peer.get("address")), int(peer.get("port") or 0)))

    def probe(self, key: bytes, address: str, port: int) -> str:
        """Empty when an agent of this cluster answers there, else why not."""
        with self._lock:
            if (address, port) in self._reached:
                return ""
        try:
            connect_peer(address, port, key, "probe", self._tunables.peer_timeout).close()
        except PeerError as exc:
            return str(exc)
        with self._lock:
            self._reached.add((address, port))
        return ""


class PeerListener:
    """Accepts the head's line and other ranks' probes."""

    def __init__(self, address: str, port: int, tunables: Tunables) -> None:
        self._tunables = tunables
        self._server = _bind(address, port)
        self.port: int = self._server.getsockname()[1]

    def serve(self, key: Callable[[], bytes], worker: Worker, facts: Callable[[], Json]) -> None:
        """Accepts until the listener is closed; a thread per caller."""
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(
                target=self._answer, args=(connection, key(), worker, facts), name="peer", daemon=True
            ).start()

    def close(self) -> None:
        self._server.close()

    def _answer(
        self, connection: socket.socket, key: bytes, worker: Worker, facts: Callable[[], Json]
    ) -> None:
        try:
            role, channel = accept_peer(connection, key, self._tunables.peer_timeout)
        except PeerError as exc:
            log.info("a caller was turned away", extra={"detail": str(exc)})
            return
        if role == "head":
            _serve_head(channel, worker, facts())
        channel.close()


def _serve_head(channel: PeerChannel, worker: Worker, facts: Json) -> None:
    def tell(message: Json) -> None:
        try:
            channel.send(message)
        except PeerError as exc:  # Said again when the head has called anew.
            log.info("the head is gone", extra={"detail": str(exc)})

    try:
        channel.send({"type": "hello", "facts": facts})
        worker.attach(tell)
        while True:
            message = channel.receive()
            if message is None:
                return
            worker.handle(message)
    except PeerError as exc:
        log.info("the line to the head broke", extra={"detail": str(exc)})
    finally:
        worker.detach(tell)


class PeerLink:
    """The head's line to one other rank: dials again and again while the rank has an address."""

    def __init__(
        self, rank: int, key: bytes, tunables: Tunables, deliver: Callable[[str, int, Json], None]
    ) -> None:
        self._rank, self._key, self._tunables = rank, key, tunables
        self._deliver = deliver
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._address: Optional[Tuple[str, int]] = None
        self._channel: Optional[PeerChannel] = None
        threading.Thread(target=self._run, name=f"rank-{rank}", daemon=True).start()

    def point_to(self, address: str, port: int) -> None:
        with self._lock:
            if self._address == (address, port):
                return
            self._address = (address, port)
            channel = self._channel
        self._changed.set()
        if channel is not None:
            channel.close()

    def send(self, message: Json) -> None:
        """Lost when the line is down: the head says everything again once it is up."""
        with self._lock:
            channel = self._channel
        if channel is None:
            return
        try:
            channel.send(message)
        except PeerError as exc:
            log.info("a rank is gone", extra={"rank": self._rank, "detail": str(exc)})

    def _run(self) -> None:
        backoff = Backoff(self._tunables.backoff_first, self._tunables.backoff_last)
        problem = ""
        while True:
            with self._lock:
                target = self._address
            if target is None:
                self._changed.wait()
                self._changed.clear()
                continue
            try:
                channel = connect_peer(*target, self._key, "head", self._tunables.peer_timeout)
            except PeerError as exc:
                if str(exc) != problem:  # Said once, not at every attempt.
                    problem = str(exc)
                    log.info("a rank does not answer", extra={"rank": self._rank, "detail": problem})
                self._changed.wait(backoff.next())
                self._changed.clear()
                continue
            backoff.reset()
            problem = ""
            self._listen(channel)
            self._changed.wait(backoff.next())
            self._changed.clear()

    def _listen(self, channel: PeerChannel) -> None:
        try:
            hello = channel.receive()
            if hello is None:
                return
            with self._lock:
                self._channel = channel
            self._deliver("connected", self._rank, hello)
            while True:
                message = channel.receive()
                if message is None:
                    return
                self._deliver("state", self._rank, message)
        except PeerError as exc:
            log.info("the line to a rank broke", extra={"rank": self._rank, "detail": str(exc)})
        finally:
            with self._lock:
                self._channel = None
            channel.close()
            self._deliver("lost", self._rank, {})


def _bind(address: str, port: int) -> socket.socket:
    """The wished port if it is free (the one of before a restart), else any."""
    for wished in dict.fromkeys((port, 0)):
        server = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((address, wished))
            server.listen(64)
            return server
        except OSError:
            server.close()
            if wished == 0:
                raise
    raise AssertionError("port 0 either binds or raises")
