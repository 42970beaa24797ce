"""Who runs first where one interpreter lock serves all threads: those who ask, then the work on that."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["Turns"]

SHARE = 0.25
"""Of one core, for work while requests never end: nobody who asks without a pause holds it up for good."""
PATIENCE_SECONDS = 0.1
"""How long work waits at least for requests before it takes a turn of that share."""
QUIET_SECONDS = 0.005
"""After the last answer. Clients that ask one request after the other leave shorter pauses than this."""

_EXPECTED_SECONDS = 0.005
"""Of CPU: what a turn is charged when it begins. Its end corrects that."""
_LONGEST_DEBT_SECONDS = 1.0


class Turns:
    """Lets work begin once no request is being answered, else in turns that keep it at ``SHARE`` of a core.

    Only time on the processor counts: a turn that waits for a provider takes nothing from the others.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._head = threading.Lock()  # One waits for the end of the requests, the others for that one.
        self._changed = threading.Condition()
        self._requests = 0
        self._answered = 0.0
        self._next = 0.0

    def request(self, answer: Callable[[], None]) -> Callable[[], None]:
        """``answer``, which is being waited for from now until it has run."""
        with self._changed:
            self._requests += 1

        def run() -> None:
            try:
                answer()
            finally:
                with self._changed:
                    self._requests -= 1
                    self._answered = self._clock()
                    if not self._requests:
                        self._changed.notify()

        return run

    def run(self, work: Callable[[], None]) -> None:
        """Run ``work`` when its time has come."""
        asked = self._clock()
        with self._head:
            charged = self._await_turn(asked + PATIENCE_SECONDS)
        began = time.thread_time()
        try:
            work()
        finally:
            if charged:
                self._charge(time.thread_time() - began - _EXPECTED_SECONDS)

    def _await_turn(self, patience: float) -> bool:
        """Whether it takes a turn, because requests do not end."""
        with self._changed:
            while True:
                now = self._clock()
                quiet = self._answered + QUIET_SECONDS
                if not self._requests and now >= quiet:
                    return False
                turn = max(patience, self._next)
                if now >= turn:
                    self._next = now + _EXPECTED_SECONDS / SHARE
                    return True
                self._changed.wait((turn if self._requests else min(turn, quiet)) - now)

    def _charge(self, cpu_seconds: float) -> None:
        with self._changed:
            self._next = min(self._next + cpu_seconds / SHARE, self._clock() + _LONGEST_DEBT_SECONDS)
