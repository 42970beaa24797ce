"""Calls that wait for a thread. A task's time begins with its function: what times out in a queue would be
called all the same, and again by its retry, so that much work became many times as much."""

from __future__ import annotations

from collections.abc import Callable

from .store import Frame
from .turn import Invocation, Turn

__all__ = ["QueuedCalls"]


class QueuedCalls:
    """How long the calls of this process have waited; usable by all its threads."""

    def __init__(self, clock: Callable[[], float]):
        self._clock = clock
        self._waiting: dict[tuple[int, int], float] = {}
        self._waited: dict[tuple[int, int], float] = {}

    def queued(self, invocation: Invocation) -> None:
        self._waiting[_key(invocation)] = self._clock()

    def begun(self, invocation: Invocation) -> None:
        key = _key(invocation)
        since = self._waiting.pop(key, None)
        if since is not None and (seconds := self._clock() - since) > 0:
            self._waited[key] = self._waited.get(key, 0.0) + seconds

    def ended(self, invocation: Invocation) -> None:
        self._waiting.pop(_key(invocation), None)
        self._waited.pop(_key(invocation), None)

    def is_over(self, turn: Turn, frame: Frame) -> bool:
        """Whether the frame's timer is due. One of a call that had to wait is put off by that time."""
        if frame.wake_at is None or frame.wake_at > turn.now:
            return False
        seconds = self._take_waited((frame.id, frame.attempt), turn.now) if frame.status == "running" else 0.0
        if not seconds:
            return True
        if frame.timeout_at is not None:
            frame.timeout_at += seconds
        if frame.heartbeat_at is not None:
            frame.heartbeat_at += seconds
        turn.wait(frame, frame.status, frame.wake_at + seconds)
        return frame.wake_at <= turn.now

    def _take_waited(self, key: tuple[int, int], now: float) -> float:
        """Each second is given once."""
        seconds = self._waited.pop(key, 0.0)
        since = self._waiting.get(key)
        if since is not None:
            self._waiting[key] = max(since, now)
            seconds += max(0.0, now - since)
        return seconds


def _key(invocation: Invocation) -> tuple[int, int]:
    return invocation.frame_id, invocation.attempt
