"""The task's own script for the moment at which its machine is about to be taken."""

from __future__ import annotations

import os
import threading
import time
from typing import Callable

from .http_channel import RefusedError, UnreachableError
from .membership import GoneError, RefusedForGoodError, StoppedError
from .phase import Phase

_MOST_OUTPUT = 64 * 1024


class PreemptionHook:
    """Has half of the grace; then a TERM comes to it and to the task, which has the rest. ``ended`` is set
    while it does not run."""

    def __init__(self, script: str, phase: Phase, note: Callable[[str], None]) -> None:
        self.script = script
        self.ended = threading.Event()
        self.ended.set()
        self._phase, self._note = phase, note

    def run(self, start: Callable[[Phase], None], task: Phase, grace: float) -> None:
        """Run it, then end the task. What it wrote and how it ended is in the log of the job."""
        began = time.monotonic()
        try:
            words = self._run(start, grace / 2)
            task.end(max(1.0, grace - (time.monotonic() - began)))
            for suffix in ("out", "err"):
                text = _tail(self._phase.path(suffix))
                if text:
                    self._note(text)
            self._note(words)
        finally:
            self.ended.set()

    def _run(self, start: Callable[[Phase], None], seconds: float) -> str:
        try:
            start(self._phase)
        except (OSError, UnreachableError, RefusedError, RefusedForGoodError, GoneError, StoppedError) as exc:
            return f"the preemption hook could not run: {exc}"
        code = self._phase.wait_for(seconds)
        return (
            "the preemption hook was cut off"
            if code is None
            else f"the preemption hook exited with code {code}"
        )


def _tail(path: str) -> str:
    """The end of a script's output, as much as a note of the log may be."""
    try:
        with open(path, "rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _MOST_OUTPUT))
            return stream.read().decode("utf-8", "replace").rstrip("\n")
    except OSError:
        return ""
