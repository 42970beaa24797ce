"""Requests that wait until there is something to say, without holding a thread."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping

__all__ = ["Parking", "ParkingWake"]

# More than are woken between a caller's look and its parking; launches make new topics for ever.
_REMEMBERED_TOPICS = 2_000


class Parking:
    """Waiters by topic, and the number of each topic's last wake.

    Every wake takes the next number. A caller notes ``sequence()`` before it looks whether there is anything
    to say; parking with that number returns at once when the topic was woken since, so that no wake between
    the look and the parking is lost. Wakes come from any thread; waiting happens on the loop of ``attach``.

    Memory is bounded: of the topics woken longest ago only the greatest number is kept, for all of them
    together. A forgotten topic may thus seem woken when it was not, never the other way round.
    """

    def __init__(self, *, remembered_topics: int = _REMEMBERED_TOPICS):
        self._lock = threading.Lock()
        self._remembered = remembered_topics
        self._sequence = 0
        self._forgotten = 0
        self._woken: OrderedDict[str, int] = OrderedDict()
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._count = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def __len__(self) -> int:
        """How many requests are parked now."""
        return self._count

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Name the loop that parks; wakes before that are only remembered."""
        self._loop = loop

    def sequence(self) -> int:
        return self._sequence

    def wake(self, topic: str) -> None:
        """Let everyone who waits on ``topic`` look again. From any thread."""
        with self._lock:
            self._sequence += 1
            self._woken[topic] = self._sequence
            self._woken.move_to_end(topic)
            if len(self._woken) > self._remembered:
                _, self._forgotten = self._woken.popitem(last=False)
            waited_for = topic in self._waiting
        if waited_for:
            self._call(lambda: self._release(topic))

    async def wait(self, topic: str, *, since: int, seconds: float, gone: asyncio.Future[None]) -> bool:
        """True when ``topic`` was woken after ``since``; False when ``seconds`` passed, ``gone`` was done, or
        the parking was closed."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        with self._lock:
            if max(self._woken.get(topic, 0), self._forgotten) > since:
                return True
            if self._closed or gone.done() or seconds <= 0:
                return False
            self._waiting.setdefault(topic, set()).add(turn)
            self._count += 1
        timer = loop.call_later(seconds, turn.cancel)
        stop = _cancels(turn)
        gone.add_done_callback(stop)
        try:
            await asyncio.wait((turn,))
            return not turn.cancelled()
        finally:
            timer.cancel()
            gone.remove_done_callback(stop)
            with self._lock:
                self._count -= 1
                waiters = self._waiting.get(topic)
                if waiters is not None:
                    waiters.discard(turn)
                    if not waiters:
                        del self._waiting[topic]

    def close(self) -> None:
        """Let everyone go, and park nobody from now on."""
        with self._lock:
            self._closed = True
        self._call(self._release_all)

    def _call(self, action: Callable[[], None]) -> None:
        loop = self._loop
        if loop is None:
            return
        try:
            loop.call_soon_threadsafe(action)
        except RuntimeError:
            # The loop has ended, and with it everybody who waited.
            return

    def _release(self, topic: str) -> None:
        with self._lock:
            turns = list(self._waiting.get(topic, ()))
        for turn in turns:
            if not turn.done():
                turn.set_result(None)

    def _release_all(self) -> None:
        with self._lock:
            turns = list(itertools.chain.from_iterable(self._waiting.values()))
        for turn in turns:
            turn.cancel()


class ParkingWake:
    """The port ``Wake`` where requests are parked in this very process. ``also``: who else hears of topics,
    by their first word; they return at once."""

    def __init__(self, parking: Parking, also: Mapping[str, Callable[[], None]] | None = None):
        self._parking = parking
        self._also = dict(also or {})

    def wake(self, topic: str) -> None:
        hears = self._also.get(topic.partition("/")[0])
        if hears is not None:
            hears()
        self._parking.wake(topic)


def _cancels(turn: asyncio.Future[None]) -> Callable[[asyncio.Future[None]], None]:
    def cancel(_: asyncio.Future[None]) -> None:
        turn.cancel()

    return cancel
