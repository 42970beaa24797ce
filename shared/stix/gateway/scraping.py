"""Asks ready replicas for the custom metric of their service, in Prometheus' text format."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import Callable, Dict, Iterable, Optional, Tuple

from .health import Health
from .probes import Key
from .view import Metric, Replica, View

log = logging.getLogger("stix.gateway")

_EVERY_SECONDS = 5.0
_TIMEOUT = 4.0
_FRESH_SECONDS = 30.0
_MOST_BYTES = 4 << 20


class Scraper:
    """``run`` in a task; ``total`` for the newest sum."""

    def __init__(
        self, health: Callable[[], Dict[Key, Health]], clock: Callable[[], float] = time.time
    ) -> None:
        self._health, self._clock = health, clock
        self._wanted: Dict[Key, Tuple[Replica, Metric]] = {}
        self._values: Dict[Key, Tuple[float, float]] = {}

    def update(self, view: View) -> None:
        before, self._wanted = (
            self._wanted,
            {
                (service.name, replica.key): (replica, service.metric)
                for service in view.services
                if service.metric is not None
                for replica in service.replicas
                if replica.state == "ready"
            },
        )
        self._values = {
            key: value for key, value in self._values.items() if self._wanted.get(key) == before.get(key)
        }

    def total(self, name: str, now: float) -> Optional[float]:
        """Of the replicas that have shown it lately; None where none has."""
        fresh = [
            value
            for (service, _), (at, value) in self._values.items()
            if service == name and at > now - _FRESH_SECONDS
        ]
        return math.fsum(fresh) if fresh else None

    async def run(self) -> None:
        while True:
            health = self._health()
            ready = [key for key in self._wanted if key in health and health[key].state == "ready"]
            await asyncio.gather(*(self._ask(key) for key in ready))
            await asyncio.sleep(_EVERY_SECONDS)

    async def _ask(self, key: Key) -> None:
        replica, metric = self._wanted[key]
        try:
            text = await asyncio.wait_for(_get(replica, metric.path), _TIMEOUT)
            value = read_metric(text.splitlines(), metric.name)
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.TimeoutError) as exc:
            log.info(
                "no metric", extra={"detail": f"{key[0]}, replica {replica.id}: {exc or type(exc).__name__}"}
            )
            return
        if value is not None and key in self._wanted:
            self._values[key] = (self._clock(), value)


def read_metric(lines: Iterable[str], name: str) -> Optional[float]:
    """The sum of a metric's samples, whatever their labels; None where there is none."""
    found = []
    for line in lines:
        if not line.startswith(name) or line[len(name) : len(name) + 1] not in ("{", " ", "\t"):
            continue
        after = line[line.rindex("}") + 1 :] if line[len(name)] == "{" else line[len(name) :]
        value = float(after.split()[0])
        if math.isfinite(value):
            found.append(value)
    return math.fsum(found) if found else None


async def _get(replica: Replica, path: str) -> str:
    """The body of a GET. Raises ValueError for an answer that is not 200."""
    reader, writer = await asyncio.open_connection(replica.address, replica.port, limit=1 << 16)
    try:
        host = f"[{replica.address}]" if ":" in replica.address else replica.address
        # By HTTP/1.0 the answer ends with the connection, and comes in one piece.
        head = f"GET {path} HTTP/1.0\r\nHost: {host}:{replica.port}\r\nAccept: text/plain\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n".encode())
        words = (await reader.readuntil(b"\n")).split(None, 2)
        if len(words) < 2 or words[1] != b"200":
            raise ValueError(f"{path} answers {b' '.join(words[1:]).decode('latin-1').strip()}")
        most = _MOST_BYTES
        while True:
            name, _, text = (await reader.readuntil(b"\n")).strip().lower().partition(b":")
            if not name:
                break
            if name == b"content-length":
                most = min(most, int(text))
        body = bytearray()
        while len(body) < most:
            part = await reader.read(1 << 16)
            if not part:
                break
            body += part
        return body.decode("utf-8", "replace")
    finally:
        writer.transport.abort()
