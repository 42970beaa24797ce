"""Threads for the interpreter: one sleeps until something is due; the caller's executors run the calls."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from .engine import Interpreter, Outcome
from .turn import Invocation

__all__ = ["WorkflowDriver"]

logger = logging.getLogger(__name__)

# The longest sleep. Conditions wait by the monotonic clock, which stands still while a laptop sleeps, and
# timers are epoch seconds: without this a timer could be late by as long as the sleep was.
_LONGEST_SLEEP = 60.0
_PURGE_SECONDS = 3_600.0
_RETRY_SECONDS = 1.0


class WorkflowDriver:
    """Runs an ``Interpreter``: a dispatcher thread for timers and ready frames, ``submit`` for every call.

    ``submit(function, call, order)`` hands the zero-argument ``call`` to the executor of that function and
    returns at once. ``order`` is smaller for runs that began earlier: where calls have to wait, what has
    begun is to end before more begins, or all of it is late together. The thread that ran a call also writes
    its result and starts what follows. A result that cannot be written (a full disk) is kept and written
    later.
    """

    def __init__(
        self,
        interpreter: Interpreter,
        submit: Callable[[str, Callable[[], None], float], None],
        *,
        clock: Callable[[], float] = time.time,
    ):
        self._interpreter = interpreter
        self._submit = submit
        self._clock = clock
        self._condition = threading.Condition()
        self._wanted_at: float | None = None
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._unwritten: deque[tuple[Invocation, Outcome]] = deque()

    def start(self) -> int:
        """Go on, beginning with the calls that were in flight when the last process ended; answers how many.

        Call it once."""
        self._interpreter.attach(self._hand_over, self._notify)
        recovered = self._interpreter.recover()
        self._thread = threading.Thread(target=self._run, name="stix-workflows", daemon=True)
        self._thread.start()
        return recovered

    def stop(self, timeout: float | None = 10.0) -> None:
        """End the dispatcher. Calls in flight may still write their results; nothing new is submitted."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    @property
    def unwritten(self) -> int:
        """Results that wait to be written; more than 0 for long means that the database cannot be written."""
        return len(self._unwritten)

    def _hand_over(self, invocation: Invocation) -> None:
        if self._stopping:
            return  # its frame stays "running" and the next start runs it
        try:
            self._submit(invocation.function, lambda: self._perform(invocation), invocation.frame_id)
        except (
            Exception
        ):  # the edge to the caller's executors: one that was shut down must not fail the machine
            logger.exception("call could not be submitted", extra={"function": invocation.function})

    def _perform(self, invocation: Invocation) -> None:
        if self._stopping:
            return
        outcome = self._interpreter.call(invocation)
        try:
            self._interpreter.complete(invocation, outcome)
        except Exception:  # the edge of a worker thread: the outcome must not be lost with the exception
            logger.exception("result could not be written", extra={"function": invocation.function})
            self._unwritten.append((invocation, outcome))
            self._notify(self._clock() + _RETRY_SECONDS)

    def _notify(self, at: float) -> None:
        with self._condition:
            if self._wanted_at is None or at < self._wanted_at:
                self._wanted_at = at
                self._condition.notify_all()

    def _run(self) -> None:
        purge_at = self._clock() + _PURGE_SECONDS
        while not self._stopping:
            try:
                self._write_late_results()
                while not self._stopping and self._interpreter.step():
                    pass
                if self._clock() >= purge_at:
                    purge_at = self._clock() + _PURGE_SECONDS
                    self._interpreter.purge()
                self._sleep(self._interpreter.next_wakeup())
            except Exception:  # the edge of the thread: it must outlive a full disk or a locked file
                logger.exception("workflow dispatcher failed; it tries again")
                self._sleep(self._clock() + _RETRY_SECONDS, ignore_notices=True)

    def _write_late_results(self) -> None:
        while self._unwritten:
            invocation, outcome = self._unwritten[0]
            self._interpreter.complete(invocation, outcome)
            self._unwritten.popleft()

    def _sleep(self, until: float | None, *, ignore_notices: bool = False) -> None:
        """Until that time or an earlier one that somebody asked for meanwhile."""
        longest = self._clock() + _LONGEST_SLEEP
        end = longest if until is None else min(until, longest)
        with self._condition:
            while not self._stopping:
                wanted = end if self._wanted_at is None or ignore_notices else min(end, self._wanted_at)
                remaining = wanted - self._clock()
                if remaining <= 0:
                    break
                self._condition.wait(remaining)
            self._wanted_at = None
