"""When a call is tried again, and how long it may take."""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["FIRST_CONTACT_PATIENCE", "HOLD_PATIENCE", "RETRIED_STATUS", "Backoff", "Pace"]

RETRIED_STATUS = frozenset({429, 502, 503, 504})
_PATIENCE = 5.0
# Someone who follows a job should survive a restart of the control plane.
HOLD_PATIENCE = 60.0
# A server that was not there at the first call is seldom there a moment later.
FIRST_CONTACT_PATIENCE = 1.5
_LONGEST_DELAY = 5.0
# Every failed try counts for this much at least: a try that timed out has cost time as well.
_LEAST_COST = 0.1


@dataclass(frozen=True, slots=True)
class Pace:
    """Time and randomness of the client, in one place so that tests can hold them. Seconds."""

    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random
    nonce: Callable[[], str] = lambda: os.urandom(12).hex()

    def idempotency_key(self, content: bytes) -> str:
        """Unique for one call of one content: the same call made again on purpose is a new call."""
        return f"{hashlib.sha256(content).hexdigest()[:32]}-{self.nonce()}"


class Backoff:
    """Full jitter over a doubling delay, until ``patience`` seconds of the clock have gone."""

    def __init__(self, pace: Pace, patience: float | None = None):
        self._pace = pace
        self._patience = _PATIENCE if patience is None else patience
        self._began = pace.monotonic()
        self._least = 0.0
        self._tries = 0

    def wait(self, retry_after: str | None = None, *, patience: float | None = None) -> bool:
        """Sleep before the next try; False, without sleeping, when there shall be none."""
        patience = self._patience if patience is None else min(patience, self._patience)
        self._tries += 1
        self._least += _LEAST_COST
        delay = min(_LONGEST_DELAY, 0.2 * 2**self._tries) * (0.5 + self._pace.random() / 2)
        if retry_after and retry_after.replace(".", "", 1).isdigit():
            delay = max(delay, float(retry_after))
        spent = max(self._least, self._pace.monotonic() - self._began)
        if spent + delay > patience:
            return False
        self._least += delay
        self._pace.sleep(delay)
        return True
