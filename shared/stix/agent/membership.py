"""Belonging to a cluster: the join, the node token, and every authorised call."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Callable, Optional

from . import AGENT_VERSION, PROTOCOL
from .backoff import Backoff
from .config import AgentConfig
from .files import Json, read_json, write_json
from .http_channel import HttpChannel, RefusedError, UnreachableError

log = logging.getLogger("stix.agent.membership")


class StoppedError(Exception):
    """The agent is stopping; the caller unwinds."""


class GoneError(Exception):
    """The cluster does not exist any more: the machine has to end."""


class RefusedForGoodError(Exception):
    """The join token was refused for too long."""


class Membership:
    """The node's place in its cluster; kept on disk, so that a restarted agent goes on with its token.

    Every thread calls with a channel of its own; ``identity`` is replaced as a whole, never changed.
    """

    def __init__(self, config: AgentConfig, facts: Callable[[], Json], stopping: threading.Event) -> None:
        self._config = config
        self._facts = facts
        self._stopping = stopping
        self._path = os.path.join(config.state_dir, "identity.json")
        self._lock = threading.Lock()
        self._contact = time.monotonic()
        self.peer_port = 0
        self.identity: Json = read_json(self._path) or {}
        if self.identity.get("machine_id") != config.machine_id:
            self.identity = {}

    @property
    def rank(self) -> int:
        return int(self.identity["rank"])

    def silent_seconds(self) -> float:
        """Seconds since the control plane last answered anything (the machine's sleep does not count)."""
        return time.monotonic() - self._contact

    def ensure_joined(self, channel: HttpChannel) -> None:
        if not self.identity:
            self._join(channel, None)

    def call(self, channel: HttpChannel, name: str, body: Json, timeout: float = 0.0) -> Json:
        """POST /agent/v1/<name>; joins again when the node token is refused.

        Raises UnreachableError, RefusedError (not 401 or 410), GoneError, RefusedForGoodError, StoppedError.
        """
        token = self.identity.get("node_token", "")
        try:
            return self._post(channel, name, body, token, timeout)
        except RefusedError as exc:
            # API Gateway itself answers 403, without an error code, where its authorizer says no.
            if exc.status != 401 and not (exc.status == 403 and not exc.code):
                raise
        self._join(channel, token)
        return self._post(channel, name, body, self.identity["node_token"], timeout)

    def _join(self, channel: HttpChannel, refused_token: Optional[str]) -> None:
        with self._lock:
            if refused_token is not None and self.identity.get("node_token", "") != refused_token:
                return  # Another thread has joined meanwhile.
            self._join_until_accepted(channel)

    def _join_until_accepted(self, channel: HttpChannel) -> None:
        tunables = self._config.tunables
        backoff = Backoff(tunables.backoff_first, tunables.backoff_last)
        refused_since: Optional[float] = None
        give_up_at = time.monotonic() + self._config.give_up_seconds
        while True:
            try:
                answer = self._post(channel, "join", self._request(), self._config.join_token, 0.0)
            except UnreachableError as exc:
                log.info("join: not reachable", extra={"detail": str(exc)})
                wait = backoff.next()
            except RefusedError as exc:
                log.info("join: refused", extra={"detail": str(exc)})
                if exc.status == 409:
                    wait = tunables.not_ready_retry
                elif exc.status == 401:
                    now = time.monotonic()
                    refused_since = now if refused_since is None else refused_since
                    if now - refused_since > tunables.refused_join_seconds:
                        raise RefusedForGoodError(str(exc)) from exc
                    wait = tunables.refused_join_retry
                else:
                    wait = backoff.next()
            else:
                self._keep(answer)
                return
            if not self.identity and self._config.give_up_seconds and time.monotonic() > give_up_at:
                # Nobody waits for this machine any more, and whoever made it may be gone for good.
                raise GoneError(f"it could not join within {self._config.give_up_seconds:g} s")
            if self._stopping.wait(wait):
                raise StoppedError

    def _request(self) -> Json:
        # A control plane that was made again from its machines does not know who had which rank.
        known = {"rank": self.identity["rank"]} if self.identity else {}
        return {
            **known,
            "machine_id": self._config.machine_id,
            "facts": self._facts(),
            "address": self._config.address,
            "peer_port": self.peer_port,
            "agent_version": AGENT_VERSION,
        }

    def _keep(self, answer: Json) -> None:
        identity = {**answer, "machine_id": self._config.machine_id}
        write_json(self._path, identity, durable=True)
        self.identity = identity
        log.info("joined", extra={"detail": f"{answer.get('cluster_name')} as rank {answer.get('rank')}"})

    def _post(self, channel: HttpChannel, name: str, body: Json, token: str, timeout: float) -> Json:
        headers = {"Authorization": f"Bearer {token}", "Stix-Protocol": str(PROTOCOL)}
        url = f"{self._config.current_api_url()}/agent/v1/{name}"
        try:
            answer = channel.post(url, body, headers, timeout or self._config.tunables.call_timeout)
        except RefusedError as exc:
            self._contact = time.monotonic()
            if exc.status == 410:
                raise GoneError(str(exc)) from exc
            raise
        self._contact = time.monotonic()
        return answer
