"""Waiting times between attempts: doubling, capped, with full jitter above a floor."""

from __future__ import annotations

import random


class Backoff:
    def __init__(self, first: float, last: float) -> None:
        self._first, self._last = first, last
        self._next = first

    def reset(self) -> None:
        self._next = self._first

    def next(self) -> float:
        """Seconds to wait now; between half and the whole of a bound that doubles up to ``last``."""
        bound = self._next
        self._next = min(self._next * 2, self._last)
        return bound * random.uniform(0.5, 1.0)
