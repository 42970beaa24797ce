"""Asks the control plane for commands, settings, peers and followed logs, one held request after another."""

from __future__ import annotations

import logging
import threading
import time
from typing import Callable, List, Optional

from .access import Access
from .backoff import Backoff
from .config import AgentConfig
from .files import Json
from .gateway import Gateway
from .gateway_tunnels import GatewayTunnels
from .http_channel import HttpChannel, RefusedError, UnreachableError
from .log_shipping import LogShipping
from .membership import Membership
from .peers import PeerBook
from .settings import Settings

log = logging.getLogger("stix.agent.commands")


class Commanding:
    """``accept`` keeps commands durably and returns the cursor; None on ranks that take none. ``begin`` runs
    something in a thread of its own."""

    def __init__(
        self,
        config: AgentConfig,
        membership: Membership,
        settings: Settings,
        book: PeerBook,
        shipping: LogShipping,
        stopping: threading.Event,
        accept: Optional[Callable[[List[Json]], int]],
        after: int,
        access: Access,
        gateway: Gateway,
        tunnels: GatewayTunnels,
        begin: Callable[[str, Callable[[threading.Event], None]], None],
        on_peers: Callable[[], None],
        wind_down: Callable[[str], None],
    ) -> None:
        self._config, self._membership = config, membership
        self._settings, self._book, self._shipping = settings, book, shipping
        self._stopping = stopping
        self._accept, self._after = accept, after
        self._access, self._on_peers, self._wind_down = access, on_peers, wind_down
        self._gateway, self._tunnels, self._begin = gateway, tunnels, begin
        self._wake = threading.Event()
        self._follow_version = 0

    def wake(self) -> None:
        """Ask now."""
        self._wake.set()

    def run(self) -> None:
        """Until the stop. Raises what Membership.call raises for good."""
        tunables = self._config.tunables
        channel = HttpChannel()
        backoff = Backoff(tunables.backoff_first, tunables.backoff_last)
        while not self._stopping.is_set():
            self._wake.clear()
            asked = time.monotonic()
            try:
                answer = self._membership.call(
                    channel, "commands", self._question(), tunables.held_call_timeout
                )
                backoff.reset()
            except (UnreachableError, RefusedError) as exc:
                log.info("no commands can be fetched", extra={"detail": str(exc)})
                self._wake.wait(backoff.next())
                continue
            had_news = self._take(answer)
            if not had_news and time.monotonic() - asked < tunables.held_answer_seconds:
                self._wake.wait(float(answer.get("poll_seconds") or 20.0))

    def _question(self) -> Json:
        return {
            "after": self._after,
            "wait": True,
            "peers_version": self._book.version,
            "settings_version": self._settings.version,
            "follow_version": self._follow_version,
            "access_version": self._access.version,
            "gateway": self._gateway.digest,
            "tunnels": self._tunnels.digest,
        }

    def _take(self, answer: Json) -> bool:
        """True when the answer said anything new, so that the next question follows at once."""
        news = False
        if answer.get("peers") is not None and answer.get("peers_version") != self._book.version:
            self._book.update(int(answer["peers_version"]), answer["peers"])
            self._on_peers()
            news = True
        if "settings" in answer and answer.get("settings_version") != self._settings.version:
            self._settings.update(int(answer["settings_version"]), answer["settings"] or {})
            news = True
        if answer.get("access") is not None and answer.get("access_version") != self._access.version:
            self._access.update(int(answer["access_version"]), answer["access"])
            news = True
        if answer.get("gateway_view") is not None and answer.get("gateway") != self._gateway.digest:
            begun = self._gateway.begun
            self._gateway.update(str(answer["gateway"]), answer["gateway_view"])
            if not begun:
                self._begin("gateway", self._gateway.run)
            news = True
        if answer.get("tunnels") is not None and answer.get("tunnels_digest") != self._tunnels.digest:
            begun = self._tunnels.begun
            self._tunnels.update(str(answer["tunnels_digest"]), answer["tunnels"])
            if not begun:
                self._begin("tunnels", self._tunnels.run)
            news = True
        for entry in answer.get("follow") or []:
            self._shipping.follow(int(entry["job"]), float(entry["until"]))
        if answer.get("follow_version", self._follow_version) != self._follow_version:
            self._follow_version = int(answer["follow_version"])
            news = True
        commands = answer.get("commands") or []
        if commands:
            news = True
            if self._accept is not None:
                self._after = max(self._after, self._accept(commands))
            else:
                log.info("commands came to a rank that takes none", extra={"detail": str(len(commands))})
                self._after = max(self._after, *(int(command["seq"]) for command in commands))
        if self._settings.wanted in ("STOPPED", "ABSENT"):
            self._wind_down(f"the control plane wants the node {self._settings.wanted}")
        return news or bool(answer.get("more"))
