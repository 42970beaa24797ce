"""A helper process that is kept running: it outlives this agent, and the next one finds it by a file."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import List, Sequence

from .detached import spawn_detached
from .files import read_json, remove_quietly, write_json
from .processes import is_alive, start_ticks

_FIRST_WAIT, _LONGEST_WAIT = 1.0, 15.0
_STEADY_SECONDS = 30.0


class KeptProcess:
    """``path`` without its ending is where its file and its log are. Not thread-safe."""

    def __init__(self, path: str, command: Sequence[str]) -> None:
        self._file, self._log = f"{path}.json", f"{path}.log"
        self._command: List[str] = list(command)
        self._wait = _FIRST_WAIT
        self._begun = float("-inf")

    def ensure(self) -> None:
        """Start it where it does not run as it should, not too often."""
        kept = read_json(self._file) or {}
        pid = int(kept.get("pid") or 0)
        with contextlib.suppress(ChildProcessError):
            if pid:
                os.waitpid(pid, os.WNOHANG)  # Where it is this agent's own child that has ended.
        if is_alive(pid, int(kept.get("started") or 0)):
            if kept.get("command") == self._command:
                return
            self.stop()
        now = time.monotonic()
        if now < self._begun + self._wait:
            return
        steady = now > self._begun + _STEADY_SECONDS
        self._wait = _FIRST_WAIT if steady else min(2 * self._wait, _LONGEST_WAIT)
        self._begun = now
        descriptor = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            pid = spawn_detached(self._command, descriptor, os.environ)
        finally:
            os.close(descriptor)
        write_json(self._file, {"pid": pid, "started": start_ticks(pid), "command": self._command})

    def stop(self) -> None:
        """An absent one is success."""
        kept = read_json(self._file) or {}
        pid = int(kept.get("pid") or 0)
        if is_alive(pid, int(kept.get("started") or 0)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        remove_quietly(self._file)
