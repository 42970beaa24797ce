"""Figures of the services: counters and gauges from HAProxy's statistics, response times from its access
log."""

from __future__ import annotations

import json
import math
import os
from collections import deque
from typing import Any, Deque, Dict, List, Mapping, Optional, Sequence, Tuple

from .files import Json
from .runtime_api import ANSWERS, Load

Loads = Mapping[Tuple[str, str], Load]

_WINDOW = 60.0
_SHORT = 10.0
_SAMPLES = 2000
_READ_BYTES = 1 << 19
_COUNTERS = ("requests", "bytes_in", "bytes_out", "connect_errors", "response_errors", "retries")


class AccessLog:
    """Reads what was appended, and keeps the file below ``most_bytes`` with one older part beside it.

    Of more than half a megabyte since the last time only the newest part is read: response times are then
    those of a sample. HAProxy has the file open for its whole life, so it is copied and cut; a line that is
    written in the microseconds between is lost.
    """

    def __init__(self, path: str, most_bytes: int = 64 << 20) -> None:
        self._path, self._most = path, most_bytes
        self._offset = self._size()

    def read(self) -> List[Json]:
        size = self._size()
        self._offset = min(self._offset, size)
        start = max(self._offset, size - _READ_BYTES)
        if size == self._offset:
            return []
        with open(self._path, "rb") as stream:
            stream.seek(start)
            data = stream.read(size - start)
        end = data.rfind(b"\n") + 1
        lines = data[:end].splitlines()
        if start > self._offset:
            lines = lines[1:]  # The first one is cut.
        self._offset = start + end
        if size > self._most:
            self._rotate()
        return [line for line in map(_parse, lines) if line is not None]

    def _size(self) -> int:
        try:
            return os.stat(self._path).st_size
        except FileNotFoundError:
            return 0

    def _rotate(self) -> None:
        with open(self._path, "rb") as source, open(f"{self._path}.1", "wb") as target:
            while True:
                data = source.read(1 << 20)
                if not data:
                    break
                target.write(data)
        os.truncate(self._path, 0)
        self._offset = 0


class Metrics:
    """``observe`` what HAProxy says now and then, ``of_service`` for the figures."""

    def __init__(self) -> None:
        self._pid = 0
        self._now: Dict[Tuple[str, str], Dict[str, int]] = {}
        self._base: Dict[Tuple[str, str], Dict[str, int]] = {}
        self._loads: Loads = {}
        self._old: Sequence[Loads] = ()
        self._waiting: Mapping[str, int] = {}
        self._history: Dict[str, Deque[Tuple[float, int]]] = {}
        self._times: Dict[str, Deque[Tuple[float, float]]] = {}

    def observe(
        self,
        pid: int,
        loads: Loads,
        old: Sequence[Loads],
        waiting: Mapping[str, int],
        lines: Sequence[Json],
        now: float,
    ) -> None:
        """``loads`` of the process ``pid``, ``old`` those of the ones that are finishing; ``waiting`` by
        service; ``lines`` of the log."""
        if pid != self._pid:
            # Another process counts from zero.
            self._base = {key: self._total(key) for key in self._now}
            self._pid = pid
        self._now = {key: _counted(load) for key, load in loads.items()}
        self._loads, self._old, self._waiting = loads, old, waiting
        for proxy, server in loads:
            if server == "FRONTEND":
                history = self._history.setdefault(proxy, deque())
                history.append((now, self._total((proxy, server))["requests"]))
                while len(history) > 2 and history[1][0] < now - _WINDOW:
                    history.popleft()
        for line in lines:
            if line["status"] >= 200 or line["status"] == 101:
                times = self._times.setdefault(line["service"], deque(maxlen=_SAMPLES))
                times.append((now, line["total_ms"] / 1000))

    def begin(self, proxy: str, now: float) -> None:
        """A service that is new: its requests count from zero."""
        self._history[proxy] = deque([(now, 0)])

    def start_anew(self, proxy: str, server: str) -> None:
        """From now on the server stands for another replica."""
        self._base[proxy, server] = {
            name: -count for name, count in self._now.get((proxy, server), {}).items()
        }

    def in_flight(self, proxy: str, server: str) -> int:
        """Requests in progress, in processes from before a reload too."""
        return sum(
            each[proxy, server].in_flight for each in (self._loads, *self._old) if (proxy, server) in each
        )

    def is_down(self, proxy: str, server: str) -> bool:
        """Whether HAProxy itself cannot connect to a server that is to be used."""
        load = self._loads.get((proxy, server))
        return load is not None and load.status.startswith("DOWN")

    def of_server(self, proxy: str, server: str) -> Json:
        total = self._total((proxy, server))
        return {"in_flight": self.in_flight(proxy, server), **{name: total[name] for name in _COUNTERS}}

    def of_service(self, proxy: str, now: float) -> Json:
        """Rates are requests per second, times seconds; a figure that there is none for is None."""
        total = self._total((proxy, "FRONTEND"))
        times = self._times.get(proxy, deque())
        while times and times[0][0] < now - _WINDOW:
            times.popleft()
        ordered = sorted(seconds for _, seconds in times)
        return {
            "requests": total["requests"],
            "answers": {kind: total[kind] for kind in ANSWERS},
            "bytes_in": total["bytes_in"],
            "bytes_out": total["bytes_out"],
            "rate_10s": self._rate(proxy, now, _SHORT),
            "rate_60s": self._rate(proxy, now, _WINDOW),
            "in_flight": self.in_flight(proxy, "BACKEND"),
            "waiting": self._waiting.get(proxy, 0),
            "response_seconds": {
                name: percentile(ordered, part) for name, part in (("p50", 50), ("p95", 95), ("p99", 99))
            },
            "response_samples": len(ordered),
        }

    def _total(self, key: Tuple[str, str]) -> Dict[str, int]:
        now, base = self._now.get(key, {}), self._base.get(key, {})
        return {name: now.get(name, 0) + base.get(name, 0) for name in (*_COUNTERS, *ANSWERS)}

    def _rate(self, proxy: str, now: float, window: float) -> Optional[float]:
        history = self._history.get(proxy, deque())
        if len(history) < 2:
            return None
        newest = history[-1]
        oldest = next((point for point in history if point[0] >= now - window), history[0])
        if oldest[0] >= newest[0]:
            oldest = history[-2]
        return round(max(0, newest[1] - oldest[1]) / (newest[0] - oldest[0]), 3)


def percentile(ordered: Sequence[float], percent: float) -> Optional[float]:
    """Nearest rank of sorted values."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def _counted(load: Load) -> Dict[str, int]:
    return {**{name: getattr(load, name) for name in _COUNTERS}, **load.answers}


def _parse(line: bytes) -> Optional[Json]:
    try:
        value: Any = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) and {"service", "status", "total_ms"} <= value.keys() else None
