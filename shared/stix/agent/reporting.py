"""Tells the control plane what is: changes soon and together, and a sign of life otherwise."""

from __future__ import annotations

import logging
import threading
import time
from typing import Callable, List, Optional, Tuple

from .backoff import Backoff
from .config import AgentConfig
from .files import Json
from .http_channel import HttpChannel, RefusedError, UnreachableError
from .membership import Membership
from .sessions import someone_logged_in
from .settings import Settings, must_end_alone

log = logging.getLogger("stix.agent.report")

_JOBS_AT_ONCE = 500


class Reporter:
    """``unreported`` lists (job, version, entry); ``told`` hears what was acknowledged."""

    def __init__(
        self,
        config: AgentConfig,
        membership: Membership,
        settings: Settings,
        facts: Json,
        in_use: Callable[[], bool],
        stopping: threading.Event,
        idle_since: Callable[[], Optional[float]],
        unreported: Callable[[], List[Tuple[int, int, Json]]],
        told: Callable[[int, int], None],
        wind_down: Callable[[str], None],
    ) -> None:
        self._config, self._membership, self._settings = config, membership, settings
        self._facts = facts
        self._in_use = in_use
        self._stopping = stopping
        self._idle_since, self._unreported, self._told = idle_since, unreported, told
        self._wind_down = wind_down
        self._changed = threading.Event()
        self._told_facts: Optional[Json] = None
        self._told_token = ""
        self._told_idle: object = ()
        self._last_login = 0.0
        self._notes: List[str] = []
        self._notes_lock = threading.Lock()
        self._notice: Optional[Json] = None
        self._told_notice: Optional[Json] = None

    def changed(self) -> None:
        """Something that a report tells may have changed."""
        self._changed.set()

    def note(self, text: str) -> None:
        """Goes with the next report."""
        with self._notes_lock:
            self._notes = [*self._notes[-19:], text]
        self._changed.set()

    def notice(self, kind: str, at: Optional[float]) -> None:
        """The cloud is about to take this machine."""
        self._notice = {"kind": kind, "at": at}
        self._changed.set()

    def run(self) -> None:
        """Until the stop. Raises what Membership.call raises for good."""
        tunables = self._config.tunables
        channel = HttpChannel()
        backoff = Backoff(tunables.backoff_first, tunables.backoff_last)
        pause, due_at = tunables.report_seconds, 0.0
        while not self._stopping.is_set():
            self._changed.clear()
            self._check_dead_man()
            if time.monotonic() >= due_at or self._has_news():
                # A short job's start and end then share one report.
                self._stopping.wait(tunables.report_lead)
                try:
                    pause = self._report(channel) or tunables.report_seconds
                    due_at = time.monotonic() + pause
                    backoff.reset()
                except (UnreachableError, RefusedError) as exc:
                    log.info("the report cannot be sent", extra={"detail": str(exc)})
                    self._stopping.wait(backoff.next())
                    continue
                self._stopping.wait(tunables.report_window)
            self._changed.wait(self._patience(due_at))

    def _patience(self, due_at: float) -> float:
        wait = due_at - time.monotonic()
        limit = self._settings.values.get("dead_man_seconds")
        if limit is not None and self._settings.values.get("autostop"):
            wait = min(wait, max(1.0, float(limit) / 4))
        return max(wait, 0.0)

    def _has_news(self) -> bool:
        return bool(
            self._notes
            or self._told_facts != self._facts
            or self._told_notice != self._notice
            or self._told_token != self._membership.identity.get("node_token")
            or self._told_idle != self._idle_now()
            or self._unreported()
        )

    def _report(self, channel: HttpChannel) -> Optional[float]:
        news = self._unreported()[:_JOBS_AT_ONCE]
        idle = self._idle_now()
        with self._notes_lock:
            notes = self._notes
        body: Json = {
            "address": self._config.address,
            "peer_port": self._membership.peer_port,
            "idle_since": idle,
            "jobs": [entry for _, _, entry in news],
            "notes": notes,
        }
        facts = dict(self._facts)
        if self._told_facts != facts:
            body["facts"] = facts
        notice = self._notice
        if notice is not None:
            body["notice"] = notice
        answer = self._membership.call(channel, "report", body)
        self._told_facts = facts
        self._told_token = self._membership.identity["node_token"]
        self._told_idle = idle
        self._told_notice = notice
        with self._notes_lock:
            self._notes = [note for note in self._notes if note not in notes]
        for job, version, _ in news:
            self._told(job, version)
        if answer.get("wanted") in ("STOPPED", "ABSENT"):
            self._wind_down(f"the control plane wants the node {answer['wanted']}")
        seconds = answer.get("report_seconds")
        return float(seconds) if seconds else None

    def _idle_now(self) -> Optional[float]:
        idle = self._idle_since()
        if idle is None or not self._settings.counts_logins:
            return idle
        if self._in_use() or (self._config.watch_logins and someone_logged_in()):
            self._last_login = time.time()
            return None
        return max(idle, self._last_login)

    def _check_dead_man(self) -> None:
        idle = self._idle_now()
        idle_seconds = None if idle is None else time.time() - idle
        if must_end_alone(self._settings.values, self._membership.silent_seconds(), idle_seconds):
            self._wind_down("the control plane is silent and the idle limit has passed")
