"""Gets logs off the machine: one thread cuts chunks into the spool, another uploads and confirms them."""

from __future__ import annotations

import logging
import threading
import time
from typing import Dict, List, Optional, Set, Tuple

from .backoff import Backoff
from .files import Json
from .http_channel import HttpChannel, RefusedError, UnreachableError
from .job_log import JobLog
from .membership import Membership
from .tunables import Tunables

log = logging.getLogger("stix.agent.logs")

Key = Tuple[int, int]
_WANTED_AT_ONCE = 16
_ENTRIES_AT_ONCE = 200


class LogShipping:
    """All logs of this node that are not acknowledged yet."""

    def __init__(self, membership: Membership, tunables: Tunables, stopping: threading.Event) -> None:
        self._membership = membership
        self._tunables = tunables
        self._stopping = stopping
        self._lock = threading.Lock()
        self._logs: Dict[Key, JobLog] = {}
        self._follow: Dict[int, float] = {}
        self._stored: Dict[Key, Set[int]] = {}
        self._tail_wake = threading.Event()
        self._upload_wake = threading.Event()
        self._exchanged_at = 0.0

    def open(self, folder: str, job: int, rank: int, follow_until: float = 0.0) -> JobLog:
        """The log of that folder, new or taken up again; shipped from now on."""
        opened = JobLog(folder, job, rank, self._tunables)
        with self._lock:
            opened.follow_until = max(follow_until, self._follow.get(job, 0.0))
            if not opened.acknowledged:
                self._logs[(job, rank)] = opened
        self.poke()
        self._upload_wake.set()
        return opened

    def follow(self, job: int, until: float) -> None:
        """Someone watches the job's log until then (epoch seconds)."""
        with self._lock:
            self._follow = {j: u for j, u in self._follow.items() if u > time.time()}
            self._follow[job] = max(until, self._follow.get(job, 0.0))
            for key, opened in self._logs.items():
                if key[0] == job:
                    opened.follow_until = max(opened.follow_until, until)
        self.poke()

    def poke(self) -> None:
        """Something about a log changed (opened, closing, followed)."""
        self._tail_wake.set()

    def wake(self) -> None:
        """Ends both threads' waiting, for a stop."""
        self._tail_wake.set()
        self._upload_wake.set()

    def unshipped(self) -> int:
        with self._lock:
            return len(self._logs)

    def tail(self) -> None:
        """Runs until the stop."""
        while not self._stopping.is_set():
            self._tail_wake.wait(self._tail_once())
            self._tail_wake.clear()

    def _tail_once(self) -> Optional[float]:
        """Seconds until the next look; None when no log is open."""
        wait: Optional[float] = None
        sealed = False
        for opened in self._snapshot():
            if opened.complete:
                continue
            now = time.time()
            try:
                sealed = opened.seal(now) or opened.complete or sealed
            except OSError:
                log.exception("a log cannot be cut into chunks", extra={"job": opened.job})
            if not opened.complete:
                patience = opened.wait_seconds(now)
                wait = patience if wait is None else min(wait, patience)
        if sealed:
            self._upload_wake.set()
        return wait

    def upload(self) -> None:
        """Runs until the stop. Raises what Membership.call raises for good."""
        api, objects = HttpChannel(), HttpChannel()
        backoff = Backoff(self._tunables.backoff_first, self._tunables.backoff_last)
        while not self._stopping.is_set():
            try:
                while self._upload_once(api, objects) and not self._stopping.is_set():
                    pass
                backoff.reset()
            except (UnreachableError, RefusedError) as exc:
                log.info("logs cannot be sent", extra={"detail": str(exc)})
                self._stopping.wait(backoff.next())
                continue
            self._upload_wake.wait()
            self._upload_wake.clear()
            # What comes soon after shares the next exchange; what comes alone goes at once.
            self._stopping.wait(max(0.0, self._exchanged_at + self._tunables.log_window - time.monotonic()))

    def _upload_once(self, api: HttpChannel, objects: HttpChannel) -> bool:
        """One exchange; True when it got on, and the next one may have more to tell."""
        request, logs = self._request()
        if not any(request.values()):
            return False
        self._exchanged_at = time.monotonic()
        answer = self._membership.call(api, "logs", request)
        for entry in request["uploaded"]:
            key = (entry["job"], entry["rank"])
            self._stored[key].discard(entry["n"])
            logs[key].drop_chunk(entry["n"])
        for entry in request["finished"]:
            key = (entry["job"], entry["rank"])
            logs[key].acknowledge()
            self._stored.pop(key, None)
            with self._lock:
                self._logs.pop(key, None)
        if request["uploaded"]:
            self.poke()  # A full spool has room again.
        stored = sum(self._send_chunk(objects, target, logs) for target in answer.get("urls", []))
        if stored < len(request["wanted"]):
            self._upload_wake.set()
        return bool(stored or request["uploaded"] or request["finished"])

    def _send_chunk(self, objects: HttpChannel, target: Json, logs: Dict[Key, JobLog]) -> bool:
        """Whether it is stored."""
        key = (target["job"], target["rank"])
        if key not in logs:
            return False
        data = logs[key].chunk(target["n"])
        try:
            objects.put(
                target["url"],
                data,
                target.get("headers") or {},
                self._tunables.call_timeout,
                target.get("method") or "PUT",
            )
        except RefusedError as exc:
            if exc.status != 403:
                raise
            return False  # The URL has expired; the next exchange asks for a new one.
        self._stored.setdefault(key, set()).add(target["n"])
        return True

    def _request(self) -> Tuple[Json, Dict[Key, JobLog]]:
        logs = {(opened.job, opened.rank): opened for opened in self._snapshot()}
        uploaded: List[Json] = []
        waiting: List[List[Json]] = []
        finished: List[Json] = []
        for key, opened in logs.items():
            complete = (
                opened.complete
            )  # Read first: a chunk sealed after the listing belongs to the next exchange.
            stored = self._stored.setdefault(key, set())
            entries = [{"job": key[0], "rank": key[1], "n": n, "size": size} for n, size in opened.unsent()]
            done = [entry for entry in entries if entry["n"] in stored]
            left = [entry for entry in entries if entry["n"] not in stored]
            room = _ENTRIES_AT_ONCE - len(uploaded)
            uploaded += done[:room]
            if left:
                waiting.append(left)
            if complete and not left and len(done) <= room and len(finished) < _ENTRIES_AT_ONCE:
                finished.append(opened.finish())
        share = max(1, _WANTED_AT_ONCE // max(1, len(waiting)))
        wanted = [entry for entries in waiting for entry in entries[:share]][:_WANTED_AT_ONCE]
        return {"uploaded": uploaded, "wanted": wanted, "finished": finished}, logs

    def _snapshot(self) -> List[JobLog]:
        with self._lock:
            return list(self._logs.values())
