"""A gateway of services as a process of its own: given its view, kept running, asked for its status, ended.

Whoever keeps it may end and begin again: the gateway goes on, and is found by the lock of its folder. The
embedded control plane keeps one with this module too.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import signal
import time
from typing import Any, Callable, Dict, Mapping, Optional, Sequence

from .detached import spawn_detached

Json = Dict[str, Any]

log = logging.getLogger("stix.agent.gateway")

BUSY_SECONDS = 5.0
"""How often figures are told while there are requests."""
IDLE_SECONDS = 60.0
"""The same while there are none; they must stay fresh for the control plane."""
_RETRY_SECONDS = 5.0
_STOP_SECONDS = 20.0
_LOG_BYTES = 4 << 20


class GatewayProcess:
    """``command``, with the program's path first, starts a gateway; the view's path and the state folder are
    appended. Not thread-safe."""

    def __init__(
        self,
        folder: str,
        command: Sequence[str],
        environ: Optional[Mapping[str, str]] = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.state = os.path.join(folder, "state")
        self._folder, self._view = folder, os.path.join(folder, "view.json")
        self._command = [*command, "--view", self._view, "--state", self.state]
        self._environ, self._pause = environ, pause
        self._child = 0
        self._failed = False
        self._started_at = 0.0
        self._told_at = self._told_change = 0.0
        self._told_busy = False

    def publish(self, view: Json) -> None:
        """Write the view, unless the file says the same but for its version. The gateway takes it within a
        fifth of a second, and says in its status where it refuses it."""
        with contextlib.suppress(OSError, ValueError), open(self._view, encoding="utf-8") as stream:
            before = json.load(stream)
            if isinstance(before, dict) and {**before, "version": 0} == {**view, "version": 0}:
                return
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        # It may hold keys of certificates.
        descriptor = os.open(f"{self._view}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as stream:
            json.dump(view, stream, separators=(",", ":"))
        os.replace(f"{self._view}.new", self._view)

    def pid(self) -> int:
        """The gateway's process, whoever started it; 0 when none runs."""
        try:
            descriptor = os.open(os.path.join(self.state, "lock"), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return 0
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(os.read(descriptor, 20) or 0)
        finally:
            os.close(descriptor)
        return 0

    def ensure(self) -> str:
        """Start it where none runs; while it is not tried again yet, why it ended."""
        if self._runs_here() or self.pid():
            return ""
        now = time.monotonic()
        if self._failed and now < self._started_at + _RETRY_SECONDS:
            return self._last_words()
        os.makedirs(self.state, mode=0o700, exist_ok=True)
        path = os.path.join(self._folder, "gateway.log")
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path).st_size > _LOG_BYTES:
                os.replace(path, f"{path}.1")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            environ = os.environ if self._environ is None else self._environ
            self._child = spawn_detached(self._command, descriptor, environ)
        finally:
            os.close(descriptor)
        self._started_at = now
        log.info("the gateway is started", extra={"detail": str(self._child)})
        return ""

    def status(self) -> Optional[Json]:
        """What it last wrote; None before its first time."""
        try:
            with open(os.path.join(self.state, "status.json"), encoding="utf-8") as stream:
                value = json.load(stream)
        except (OSError, ValueError):
            return None
        return value if isinstance(value, dict) else None

    def news(self, now: float) -> Optional[Json]:
        """The status, when the control plane should hear it: changes at once, figures now and then. ``now``
        as the gateway's clock has it."""
        status = self.status()
        if status is None:
            return None
        # That nobody asks any more is told as soon as that somebody does.
        every = BUSY_SECONDS if status.get("busy") or self._told_busy else IDLE_SECONDS
        if status.get("changed_at") == self._told_change and self._told_at <= now < self._told_at + every:
            return None
        return status

    def told(self, status: Json, now: float) -> None:
        """The control plane has taken it."""
        self._told_at, self._told_change = now, float(status.get("changed_at") or 0.0)
        self._told_busy = bool(status.get("busy"))

    def stop(self) -> None:
        """End it and its HAProxy; an absent one is success. Its logs stay."""
        haproxy = self._haproxy()
        child = self._child
        for number in (signal.SIGTERM, signal.SIGKILL):
            _end(self.pid() or child, number, lambda: bool(self.pid() or self._runs_here()), self._pause)
        # Where its supervisor had died, or was ended before it listened to signals.
        for number in (signal.SIGTERM, signal.SIGKILL):
            _end(haproxy, number, lambda: _is_haproxy(haproxy), self._pause)
        self._failed = False
        for path in (self._view, os.path.join(self.state, "status.json")):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def _runs_here(self) -> bool:
        """Whether the one that was started here still runs; it is collected when it does not."""
        if self._child:
            try:
                ended, _ = os.waitpid(self._child, os.WNOHANG)
            except ChildProcessError:
                ended = self._child  # Whoever collects all children of this process was faster.
            if ended:
                self._child, self._failed = 0, True
        return bool(self._child)

    def _haproxy(self) -> int:
        return int(((self.status() or {}).get("haproxy") or {}).get("pid") or 0)

    def _last_words(self) -> str:
        try:
            path = os.path.join(self._folder, "gateway.log")
            with open(path, encoding="utf-8", errors="replace") as stream:
                lines = [line.strip() for line in stream.read()[-4000:].splitlines() if line.strip()]
        except OSError:
            lines = []
        return lines[-1] if lines else "the gateway ended and said nothing"


def _end(pid: int, number: int, alive: Callable[[], bool], pause: Callable[[float], None]) -> None:
    deadline = time.monotonic() + _STOP_SECONDS
    if not pid or not alive():
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    while alive() and time.monotonic() < deadline:
        pause(0.02)


def _is_haproxy(pid: int) -> bool:
    """Whether such a process lives: a zombie does not, and a later process with its number is another."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stream:
            text = stream.read()
    except OSError:
        return False
    return "(haproxy)" in text and text[text.rfind(")") + 2] not in "ZX"
