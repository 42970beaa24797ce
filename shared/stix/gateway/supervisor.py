"""Keeps the gateway as the view file says: watches it, probes, reconciles, tells in the status file."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import time
from typing import IO, Callable, List, Optional, Tuple

from .files import Json, write_json
from .haproxy import ACCESS_LOG, Haproxy, HaproxyError, find_haproxy
from .metrics import AccessLog, Metrics
from .probes import Prober
from .publish import STATUS
from .reconcile import Reconciler
from .render import Settings
from .runtime_api import RuntimeApi, RuntimeApiError
from .scraping import Scraper
from .view import Replica, View, ViewError, parse_view

log = logging.getLogger("stix.gateway")

LOCK = "lock"
_LOOK_SECONDS = 0.1
_TICK_SECONDS = 1.0
_DRAIN_TICK_SECONDS = 0.2
_RETRY_SECONDS = 5.0


class GatewayError(Exception):
    """The gateway cannot begin; the text says what to do."""


class Supervisor:
    """``run`` until ``stop``. Raises ``GatewayError`` and ``HaproxyError`` at the beginning only: later they
    are ``problems`` in the status, and tried again."""

    def __init__(
        self, view_path: str, folder: str, settings: Settings, clock: Callable[[], float] = time.time
    ) -> None:
        self._view_path, self._folder, self._clock = view_path, folder, clock
        binary = find_haproxy()
        os.makedirs(folder, exist_ok=True)
        # HAProxy's own user passes through to the sockets inside, and reads nothing.
        os.chmod(folder, 0o711 if settings.user else 0o700)
        self._lock = _lock(folder)
        self._api = RuntimeApi(folder)
        self._haproxy = Haproxy(folder, binary, self._api)
        self._metrics = Metrics()
        self._access = AccessLog(os.path.join(folder, ACCESS_LOG))
        self._reconciler = Reconciler(folder, self._haproxy, self._api, self._metrics, settings)
        self._view = View()
        self._seen: Optional[Tuple[int, int, int]] = None
        self._view_problems: List[str] = []
        self._problem = ""
        self._retry_at = 0.0
        self._dirty = True
        self._stopping = self._leaves = False
        self._applied = False
        self._crashes = 0
        self._told: Json = {}
        self._changed_at = 0.0

    async def run(self) -> None:
        """Returns after ``stop``; HAProxy has ended too, unless it is to be left."""
        self._event = asyncio.Event()
        self._prober = Prober(self._wake)
        self._prober.restore(self._reconciler.take_over())
        self._read_view()
        self._prober.update(self._view)
        self._prober.forget_absent()
        self._scraper = Scraper(lambda: self._prober.health, self._clock)
        self._scraper.update(self._view)
        scraping = asyncio.get_running_loop().create_task(self._scraper.run())
        tick_at = time.monotonic() + _DRAIN_TICK_SECONDS
        while not self._stopping:
            if self._read_view():
                self._prober.update(self._view)
                self._scraper.update(self._view)
                self._dirty = True
            await self._keep_running()
            draining = len(self._reconciler.leaving) > len(self._reconciler.drained)
            if time.monotonic() >= tick_at:
                await _aside(self._tick)
                tick_at = time.monotonic() + (_DRAIN_TICK_SECONDS if draining else _TICK_SECONDS)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._event.wait(), _LOOK_SECONDS)
            self._event.clear()
        scraping.cancel()
        await self._prober.close()
        if not self._leaves:
            await _aside(self._haproxy.stop)
        self._lock.close()

    def stop(self, leave: bool = False) -> None:
        """``leave`` lets HAProxy go on, for the next supervisor to take over."""
        self._stopping, self._leaves = True, leave
        self._event.set()

    def _wake(self) -> None:
        self._dirty = True
        self._event.set()

    async def _keep_running(self) -> None:
        now = time.monotonic()
        if not self._haproxy.alive and self._applied:
            if not self._dirty:
                self._crashes += 1
                log.error("HAProxy has ended and is started again")
            self._dirty = True
        retry = bool(self._problem or self._reconciler.problems) and now >= self._retry_at
        if not (self._dirty and (not self._problem or now >= self._retry_at)) and not retry:
            return
        self._dirty = False
        try:
            health = dict(self._prober.health)
            await _aside(lambda: self._reconciler.apply(self._view, health, self._clock()))
            self._problem, self._applied = "", True
        except (HaproxyError, RuntimeApiError, OSError) as exc:
            log.error("the view is not applied", extra={"detail": str(exc)})
            self._problem, self._dirty = str(exc), True
        if self._problem or self._reconciler.problems:
            self._retry_at = time.monotonic() + _RETRY_SECONDS
        await _aside(self._write_status)

    def _read_view(self) -> bool:
        """True when there is a new one that is valid."""
        try:
            stat = os.stat(self._view_path)
        except OSError as exc:
            self._view_problems = [f"{self._view_path}: {exc.strerror}. Write the view there."]
            return False
        seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            with open(self._view_path, encoding="utf-8") as stream:
                view = parse_view(stream.read())
        except ViewError as exc:
            self._view_problems = list(exc.problems)
            log.error("the view is refused, the one before stays", extra={"detail": str(exc)})
            return False
        except (OSError, UnicodeDecodeError) as exc:
            self._view_problems = [f"{self._view_path}: {exc}. Write it as UTF-8 that this user may read."]
            return False
        self._view, self._view_problems = view, []
        return True

    def _tick(self) -> None:
        """Figures, ends of drains, replicas that HAProxy cannot reach; then the status."""
        now = self._clock()
        try:
            old = [self._api.loads(pid) for pid in self._api.old_pids()]
            self._metrics.observe(
                self._api.pid(), self._api.loads(), old, self._api.waiting(), self._access.read(), now
            )
        except RuntimeApiError as exc:
            log.info("no figures now", extra={"detail": str(exc)})
            return
        if self._reconciler.drain(now):
            self._dirty = True
        for service in self._reconciler.services.values():
            for replica in service.replicas:
                server = self._reconciler.server_of(service.name, replica.key)
                if server and self._metrics.is_down(service.name, server):
                    self._prober.hurry((service.name, replica.key))
        self._write_status()

    def _write_status(self) -> None:
        now = self._clock()
        services: Json = {}
        for service in self._view.services:
            services[service.name] = {
                "port": service.port,
                "problem": self._reconciler.problems.get(service.name, ""),
                "replicas": {one.id: self._of_replica(service.name, one) for one in service.replicas},
                **self._metrics.of_service(service.name, now),
            }
            if service.metric is not None:
                services[service.name]["metric"] = self._scraper.total(service.name, now)
        problems = [*self._view_problems, *([self._problem] if self._problem else [])]
        telling = {"view": self._view.version, "problems": problems, **_worth_telling(services)}
        if telling != self._told:
            self._told, self._changed_at = telling, now
        status = {
            "at": now,
            "changed_at": self._changed_at,
            "busy": any(one["in_flight"] or one["waiting"] or one["rate_60s"] for one in services.values()),
            "view_version": self._view.version,
            "problems": problems,
            "haproxy": {
                "pid": self._haproxy.pid,
                "alive": self._haproxy.alive,
                "crashes": self._crashes,
                "reloads": self._reconciler.reloads,
            },
            "services": services,
        }
        write_json(os.path.join(self._folder, STATUS), status)

    def _of_replica(self, name: str, replica: Replica) -> Json:
        key = (name, replica.key)
        server = self._reconciler.server_of(*key)
        found: Json = {"version": replica.version, "state": "starting", "reason": "", "since": None}
        if replica.state == "draining":
            found["state"] = "drained" if key in self._reconciler.drained else "draining"
            found["since"] = self._reconciler.leaving.get(key)
            cut = self._reconciler.drained.get(key, 0)
            if cut:
                found["reason"] = f"{cut} requests did not end in time and were cut"
        elif key in self._prober.health:
            health = self._prober.health[key]
            found.update({"state": health.state, "reason": health.reason, "since": health.since})
            if health.state == "ready" and not self._reconciler.is_up(*key):
                found["state"] = "starting"  # HAProxy is told in a moment.
        if server:
            found.update(self._metrics.of_server(name, server))
        return found


def _worth_telling(services: Json) -> Json:
    """What the control plane acts on: it is told of changes at once, of figures now and then."""
    return {
        name: {
            "problem": one["problem"],
            "waiting": bool(one["waiting"]),
            "replicas": {
                replica: (found["state"], found["reason"]) for replica, found in one["replicas"].items()
            },
        }
        for name, one in services.items()
    }


def _lock(folder: str) -> IO[str]:
    """Held by the supervisor of a folder for as long as it lives; the file names it."""
    stream = open(os.path.join(folder, LOCK), "a", encoding="ascii")  # noqa: SIM115
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        stream.close()
        raise GatewayError(f"Another gateway runs on {folder}. Give this one a folder of its own.") from None
    stream.truncate(0)
    stream.write(str(os.getpid()))
    stream.flush()
    return stream


async def _aside(work: Callable[[], None]) -> None:
    """Blocking work, while the probes go on."""
    await asyncio.get_running_loop().run_in_executor(None, work)
