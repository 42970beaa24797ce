"""Time, ids and events where nothing but this machine is at hand."""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time

from stix.ports.surroundings import Event

__all__ = ["LoggingEventBus", "SystemClock", "SystemIds"]

logger = logging.getLogger(__name__)

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base32: its characters are in ASCII order, so that ids sort as their numbers do."""

_RANDOM_BITS = 35
_ID_CHARACTERS = 16


class SystemClock:
    """The operating system's clock."""

    def now(self) -> float:
        return time.time()


class SystemIds:
    """Ids of 45 bits of milliseconds and 35 random bits; within one process never out of order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def new(self, prefix: str) -> str:
        number = time.time_ns() // 1_000_000 << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
        with self._lock:
            if number <= self._last:
                number = self._last + 1
            self._last = number
        return f"{prefix}-{_base32(number)}"

    def secret(self) -> str:
        return secrets.token_urlsafe(32)


class LoggingEventBus:
    """Writes each event as one JSON line to the log, which is the embedded runtime's audit trail."""

    def publish(self, *events: Event) -> None:
        for event in events:
            record = {
                "event": event.name,
                "workspace": event.workspace,
                "subject": event.subject,
                "at": event.at,
                "detail": dict(event.detail),
            }
            logger.info("%s", json.dumps(record, default=str, sort_keys=True))


def _base32(number: int) -> str:
    return "".join(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(_ID_CHARACTERS)))
