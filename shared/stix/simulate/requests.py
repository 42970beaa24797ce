"""A log of requests, and an estimate of how long they take."""

from __future__ import annotations

import csv
import json
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from stix.autoscaling.situation import Metrics
from stix.model.errors import InvalidInputError
from stix.simulate.traces import read_trace

__all__ = ["Latencies", "Requests", "read_requests"]

_WINDOW = 60.0
"""Seconds over which the gateway counts."""


@dataclass(frozen=True, slots=True)
class Requests:
    """``counts[i]``: requests that come in tick ``i``."""

    counts: tuple[float, ...]

    @property
    def total(self) -> float:
        return sum(self.counts)


def read_requests(file: Path, tick: float) -> Requests:
    """A request log, counted by ticks of ``tick`` seconds from its first request on. Raises
    ``InvalidInputError``.

    Either JSON as the traces are, with the requests of each tick, or a line for each request that begins with
    its time: epoch seconds or ISO 8601. A first line without a time is a heading.
    """
    if not file.is_file():
        raise InvalidInputError(f"--load: {file} does not exist.")
    if file.suffix == ".json":
        log = read_trace(file)
        share = tick / log.gap
        return Requests(tuple(count * share for count in log.every(tick).counts))
    times = _times(file)
    first = min(times)
    counts = [0.0] * (int((max(times) - first) // tick) + 1)
    for at in times:
        counts[int((at - first) // tick)] += 1.0
    if len(counts) * tick > 366 * 86400:
        raise InvalidInputError(f"--load: {file} spans more than a year.")
    return Requests(tuple(counts))


def _times(file: Path) -> list[float]:
    times: list[float] = []
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            for number, row in enumerate(csv.reader(lines), 1):
                at = _moment(row[0].strip()) if row else None
                if at is not None:
                    times.append(at)
                elif row and (number > 1 or _moment(row[0].strip()[:4]) is not None):
                    raise InvalidInputError(
                        f"--load: line {number} of {file} begins with {json.dumps(row[0][:40])}.",
                        hint="Begin each line with its time: 1700000000.5 or 2030-01-02T03:04:05Z.",
                    )
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise InvalidInputError(f"--load: {file} cannot be read: {exc}.") from exc
    if not times:
        raise InvalidInputError(
            f"--load: {file} holds no request.", hint="Write a line for each, its time first."
        )
    return times


def _moment(text: str) -> float | None:
    """Epoch seconds of a number or an ISO time; UTC where it does not say its zone."""
    try:
        number = float(text)
        return number if math.isfinite(number) and abs(number) < 1e11 else None
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


class Latencies:
    """Requests in a queue without end, first come first served, by replicas that answer at a steady rate.

    Within a tick the load is even and waiting is that of Sakasegawa's approximation for as many servers as
    requests are answered at once; requests that find more waiting than can be answered wait for it, and for a
    replica where there is none.
    """

    def __init__(self, rate: float, seconds: float, tick: float):
        self._rate, self._seconds, self._tick = rate, seconds, tick
        self._waiting: deque[tuple[int, float]] = deque()
        self._at = 0
        self._recent: deque[tuple[float, list[tuple[float, float]]]] = deque(
            maxlen=max(1, round(_WINDOW / tick))
        )
        self.answered: list[tuple[float, float]] = []

    @property
    def unanswered(self) -> float:
        """Requests that still wait."""
        return sum(count for _, count in self._waiting)

    def serve(self, arriving: float, ready: int) -> None:
        """One tick with ``ready`` replicas."""
        speed = ready * self._rate
        room = speed * self._tick
        crowd = self._crowding(arriving / room, ready) if room > 0 else 0.0
        if arriving:
            self._waiting.append((self._at, arriving))
        answered: list[tuple[float, float]] = []
        done = 0.0
        while self._waiting and done < room - 1e-9:
            since, count = self._waiting.popleft()
            part = min(count, room - done)
            if count - part > 1e-9:
                self._waiting.appendleft((since, count - part))
            # They came, and are answered, spread over the tick.
            waited = (self._at - since) * self._tick
            if waited or done:
                waited = max(waited + (done + part / 2) / speed - self._tick / 2, 0.0)
            answered.append((self._seconds + waited + crowd, part))
            done += part
        self.answered += answered
        self._recent.append((arriving, answered))
        self._at += 1

    def _crowding(self, load: float, ready: int) -> float:
        """Mean seconds of waiting at a share of ``load``; at most a tick."""
        servers = max(ready * self._rate * self._seconds, 1.0)
        if load >= 1.0:
            return 0.0
        power = math.sqrt(2.0 * (servers + 1.0)) - 1.0
        return min(self._seconds / servers * math.pow(load, power) / (1.0 - load), self._tick)

    def metrics(self, now: float) -> Metrics:
        """What a gateway would have counted over the last minute."""
        span = max(len(self._recent), 1) * self._tick
        rate = sum(arriving for arriving, _ in self._recent) / span
        answers = [one for _, part in self._recent for one in part]
        in_progress = sum(count for _, count in answers) / span * self._seconds
        return Metrics(
            as_of=now,
            request_rate=rate,
            queue_length=self.unanswered + in_progress,
            latency_p95=quantile(answers, 0.95),
        )

    def quantile(self, share: float) -> float | None:
        """Seconds within which that share of the answered requests was; None without any."""
        return quantile(self.answered, share)


def quantile(values: Sequence[tuple[float, float]], share: float) -> float | None:
    """Of values with weights."""
    total = sum(weight for _, weight in values)
    if total <= 0:
        return None
    passed = 0.0
    for value, weight in sorted(values):
        passed += weight
        if passed >= share * total - 1e-9:
            return value
    return max(value for value, _ in values)
