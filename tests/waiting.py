"""Waiting for what other threads and processes do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["PATIENCE", "eventually"]

PATIENCE = 60.0
"""Seconds that nothing takes: they only keep a failure from hanging."""

T = TypeVar("T")


def eventually(look: Callable[[], T], what: str | Callable[[], str] = "", seconds: float = PATIENCE) -> T:
    """The first true value of ``look``; fails and says ``what`` did not happen after a generous deadline."""
    deadline = time.monotonic() + seconds
    while True:
        if found := look():
            return found
        if time.monotonic() > deadline:
            said = what() if callable(what) else what or f"{look.__qualname__} never came true"
            raise AssertionError(f"{said}: not within {seconds:g} s")
        time.sleep(0.01)
