"""The HAProxy process: found, started, reloaded without losing a connection, taken over, ended."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from typing import Callable, List, Optional

from .files import Json
from .render import CONFIG, MASTER_SOCKET
from .runtime_api import RuntimeApi, RuntimeApiError

ACCESS_LOG = "access.log"
OWN_LOG = "haproxy.log"
_LEAST_VERSION = (2, 6)
_START_SECONDS = 20.0
_STOP_SECONDS = 5.0
_INSTALL = "Install it: `apt-get install haproxy` (Debian, Ubuntu), `dnf install haproxy` (Fedora, Red Hat)."


class HaproxyError(Exception):
    """HAProxy is absent, too old, or refuses its configuration."""


def find_haproxy() -> str:
    """The program's path. Raises ``HaproxyError`` that says how to install it."""
    places = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin:/usr/local/sbin"
    found = shutil.which("haproxy", path=places)
    if found is None:
        raise HaproxyError(f"The gateway needs HAProxy, and this machine has none. {_INSTALL}")
    shown = subprocess.run([found, "-vv"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    text = shown.stdout.decode(errors="replace")
    version = re.search(r"version (\d+)\.(\d+)", text)
    if not version or (int(version.group(1)), int(version.group(2))) < _LEAST_VERSION:
        given = version.group(0) if version else "an unknown version"
        raise HaproxyError(f"The gateway needs HAProxy 2.6 or newer; {found} is {given}. {_INSTALL}")
    for feature in ("LUA", "OPENSSL"):
        if f"+{feature}" not in text:
            raise HaproxyError(f"{found} was built without {feature}. {_INSTALL}")
    return found


class Haproxy:
    """The HAProxy of a state folder. It outlives this process; the next one takes it over by ``adopt``."""

    def __init__(
        self, folder: str, binary: str, api: RuntimeApi, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._folder, self._binary, self._api, self._pause = folder, binary, api, pause
        self._child: Optional[subprocess.Popen[bytes]] = None
        self.pid = 0
        self._started = 0

    @property
    def alive(self) -> bool:
        if self._child is not None and self._child.poll() is not None:
            return False
        return self.pid > 0 and _start_ticks(self.pid) == self._started != 0

    def to_json(self) -> Json:
        return {"pid": self.pid, "started": self._started}

    def adopt(self, kept: Json) -> bool:
        """Whether the process that ``to_json`` told of still runs and answers; it is this one's from now
        on."""
        self.pid, self._started = int(kept.get("pid") or 0), int(kept.get("started") or 0)
        if self.alive:
            with contextlib.suppress(RuntimeApiError):
                self._api.pid()
                return True
            self._end(signal.SIGKILL)
        self.pid = 0
        return False

    def check(self) -> None:
        """Raises ``HaproxyError`` with HAProxy's words when the configuration will not do."""
        done = subprocess.run(
            [self._binary, "-c", "-f", CONFIG],
            cwd=self._folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.returncode != 0:
            raise HaproxyError(
                "HAProxy refuses its configuration: " + _alerts(done.stdout.decode(errors="replace"))
            )

    def start(self) -> None:
        """Raises ``HaproxyError`` when it ends at once or does not answer."""
        own_log = os.path.join(self._folder, OWN_LOG)
        access_log = os.path.join(self._folder, ACCESS_LOG)
        with open(access_log, "ab", opener=_private) as access, open(
            own_log, "wb", opener=_private
        ) as errors:
            self._child = subprocess.Popen(
                [self._binary, "-W", "-db", "-S", f"unix@{MASTER_SOCKET},mode,600", "-f", CONFIG],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=access,
                stderr=errors,
                start_new_session=True,  # What ends this process must not end that one.
            )
        self.pid, self._started = self._child.pid, _start_ticks(self._child.pid)
        self._await_worker(0)

    def reload(self) -> int:
        """New requests go to a new process; the old one finishes what it has. Returns the old one's pid."""
        old = self._api.pid()
        os.kill(self.pid, signal.SIGUSR2)
        self._await_worker(old)
        return old

    def stop(self, grace: float = _STOP_SECONDS) -> None:
        """Stops listening, waits up to ``grace`` seconds for requests in progress, ends."""
        if self.alive:
            self._end(signal.SIGUSR1, grace)
        if self.alive:
            self._end(signal.SIGTERM, _STOP_SECONDS)
        if self.alive:
            self._end(signal.SIGKILL, _STOP_SECONDS)

    def _end(self, number: int, grace: float = _STOP_SECONDS) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)
        deadline = time.monotonic() + grace
        while self.alive and time.monotonic() < deadline:
            self._pause(0.02)

    def _await_worker(self, old: int) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(RuntimeApiError):
                if self._api.pid() != old:
                    return
            if not self.alive:
                raise HaproxyError("HAProxy ended: " + self._last_words())
            self._pause(0.02)
        raise HaproxyError("HAProxy does not take its configuration: " + self._last_words())

    def _last_words(self) -> str:
        with open(os.path.join(self._folder, OWN_LOG), encoding="utf-8", errors="replace") as stream:
            return _alerts(stream.read()[-4000:])


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _alerts(text: str) -> str:
    lines: List[str] = [line for line in text.splitlines() if "[ALERT]" in line] or text.splitlines()[-3:]
    return " | ".join(line.split(" : ", 1)[-1] for line in lines[:5])


def _start_ticks(pid: int) -> int:
    """0 when the process is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stream:
            text = stream.read()
    except OSError:
        return 0
    cells = text[text.rfind(")") + 2 :].split()
    return 0 if cells[0] in ("Z", "X") else int(cells[19])
