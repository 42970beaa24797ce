"""Retry and Catch: which errors match, and how long to wait before the next attempt."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import DATA_LIMIT_EXCEEDED, RUNTIME
from .paths import Path

__all__ = ["Catcher", "Retrier", "matches", "next_delay"]


@dataclass(frozen=True, slots=True)
class Retrier:
    errors: tuple[str, ...]
    interval: float = 1.0
    attempts: int = 3
    rate: float = 2.0
    cap: float | None = None
    full_jitter: bool = False

    def delay(self, used: int, source: random.Random) -> float:
        """Seconds to wait after ``used`` retries of this retrier."""
        try:
            seconds = self.interval * self.rate**used
        except OverflowError:
            seconds = float("inf")
        seconds = min(seconds, self.cap if self.cap is not None else 31_622_400.0)
        return source.uniform(0.0, seconds) if self.full_jitter else seconds


@dataclass(frozen=True, slots=True)
class Catcher:
    errors: tuple[str, ...]
    next: str
    result_path: Path | None  # None discards the error


def matches(errors: Sequence[str], error: str) -> bool:
    """``States.Runtime`` is never matched; ``States.DataLimitExceeded`` only by its own name."""
    if error == RUNTIME:
        return False
    if error in errors:
        return True
    if error == DATA_LIMIT_EXCEEDED:
        return False
    return "States.ALL" in errors or ("States.TaskFailed" in errors and error != "States.Timeout")


def next_delay(
    retriers: Sequence[Retrier], used: Sequence[int], error: str, source: random.Random
) -> tuple[int, float] | None:
    """The first matching retrier's index and delay; None when it is used up or none matches."""
    for index, retrier in enumerate(retriers):
        if matches(retrier.errors, error):
            count = used[index] if index < len(used) else 0
            return (index, retrier.delay(count, source)) if count < retrier.attempts else None
    return None
