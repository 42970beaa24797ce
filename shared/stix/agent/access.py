"""People on this node: takes their keys, tells where the SSH server is, opens the tunnels they ask for."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from typing import Callable, Dict, List, Optional, Set, Union

from .config import AgentConfig
from .files import Json
from .membership import Membership
from .notices import has_instance_profile
from .ssh_server import NoServerError, SshServer, find_server, login_user
from .tunnel import Tunnel, socket_url

log = logging.getLogger("stix.agent.access")

_MOST_TUNNELS = 64


class Access:
    """``update`` returns at once; the work is done by ``run``, in a thread that costs nothing until then.

    ``tell`` publishes the node's facts about its SSH server.
    """

    def __init__(self, config: AgentConfig, membership: Membership, tell: Callable[[Json], None]) -> None:
        self._config, self._membership, self._tell = config, membership, tell
        self.version = 0
        self._changed = threading.Condition()
        self._writing_keys = threading.Lock()
        self._wanted: Optional[Json] = None
        self._server: Optional[SshServer] = None
        self._taken = -1
        self._keys: List[Json] = []
        self._used: List[SshServer] = []
        self._seen: Set[str] = set()
        self._tunnels: Dict[str, Tunnel] = {}
        self._started = False
        self._closed = False

    @property
    def in_use(self) -> bool:
        """Whether a tunnel is open."""
        with self._changed:
            return bool(self._tunnels)

    def update(self, version: int, wanted: Json) -> None:
        with self._changed:
            self.version, self._wanted = version, wanted
            if not self._started:
                self._started = True
                threading.Thread(target=self._run, name="access", daemon=True).start()
            self._changed.notify_all()

    def close(self) -> None:
        """The node ends: its tunnels too, and nobody's key stays on the machine."""
        with self._changed:
            self._closed = True
            tunnels = list(self._tunnels.values())
            self._changed.notify_all()
        for tunnel in tunnels:
            tunnel.abandon("the node ends")
        with self._writing_keys:
            for server in self._used:
                with contextlib.suppress(OSError):
                    server.authorize(self._mark(), [])

    def _mark(self) -> str:
        return f"stix:{self._membership.identity['cluster_id']}"

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted is not None or self._closed)
                wanted, self._wanted = self._wanted, None
                if self._closed or wanted is None:
                    return
            self._apply(wanted)

    def _apply(self, wanted: Json) -> None:
        version = int(wanted.get("keys_version") or 0)
        if self._server is None or version != self._taken:
            self._take_keys(version, wanted.get("keys") or [])
        for asked in wanted.get("tunnels") or []:
            if asked["id"] not in self._seen:
                self._seen.add(asked["id"])
                self._open(str(asked["id"]), str(asked["url"]))

    def _take_keys(self, version: int, keys: List[Json]) -> None:
        """Whoever logs in is told of this server's host keys: it stays the same until something changes."""
        facts: Json = {"version": version, "problem": ""}
        try:
            server = find_server(self._config)
            with self._writing_keys:
                if self._closed:
                    return
                self._used.append(server)
                server.authorize(self._mark(), keys)
            facts.update({"user": login_user(), "port": server.port, "host_keys": server.host_keys()})
            self._server, self._taken, self._keys = server, version, keys
        except (NoServerError, OSError, KeyError) as exc:
            log.warning("nobody can log in", extra={"detail": str(exc)})
            self._server = None
            facts["problem"] = str(exc)
        if self._config.cloud == "aws":
            facts["session_manager"] = has_instance_profile(self._config.metadata_url)
        self._tell(facts)

    def _open(self, tunnel_id: str, url: str) -> None:
        tunnel = Tunnel(
            lambda: socket_url(self._config.current_api_url(), url),
            lambda: str(self._membership.identity["node_token"]),
        )
        with self._changed:
            if self._closed or len(self._tunnels) >= 2 * _MOST_TUNNELS:
                return
            full = len(self._tunnels) >= _MOST_TUNNELS
            self._tunnels[tunnel_id] = tunnel
        local = f"{_MOST_TUNNELS} tunnels to this node are open" if full else self._connect()
        target = (tunnel_id, tunnel, local)
        threading.Thread(target=self._serve, args=target, name="tunnel", daemon=True).start()

    def _connect(self) -> Union[SocketEnd, str]:
        """The SSH server's end of a tunnel, or why there is none."""
        if self._server is None:
            return "the node has no SSH server"
        try:
            return SocketEnd(self._server.connect())
        except OSError as exc:
            log.warning("the SSH server takes no connection", extra={"detail": str(exc)})
            self._take_keys(self._taken, self._keys)  # Another may be found for the next one.
            return f"the node's SSH server takes no connection ({exc.strerror or exc})"

    def _serve(self, tunnel_id: str, tunnel: Tunnel, local: Union[SocketEnd, str]) -> None:
        try:
            if isinstance(local, str):
                tunnel.decline(local)
                return
            failure = tunnel.run(local)
            if failure:
                log.info("a tunnel broke", extra={"detail": failure})
        except Exception:
            log.exception("a tunnel failed")
        finally:
            with self._changed:
                del self._tunnels[tunnel_id]


class SocketEnd:
    """A socket as the local end of a tunnel."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream

    def read(self, most: int) -> bytes:
        return self._stream.recv(most)

    def write(self, data: bytes) -> None:
        self._stream.sendall(data)

    def end_write(self) -> None:
        self._stream.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.shutdown(socket.SHUT_RDWR)
        self._stream.close()
