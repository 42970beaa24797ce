"""A small pool of threads that start when there is work for them."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar, cast

__all__ = ["WorkerPool", "run_in_thread"]

logger = logging.getLogger(__name__)

T = TypeVar("T")
_Entry = tuple[float, int, Callable[[], None] | None]
_Queue = queue.PriorityQueue[_Entry] | queue.SimpleQueue[_Entry]


class WorkerPool:
    """At most ``size`` threads that run what is submitted, in order of arrival where ``order`` is equal, or
    always where the pool is not ``ordered``, which costs less.

    The threads are daemons: an invocation that hangs must not keep the process from ending. After ``close``
    whatever is submitted is dropped.
    """

    def __init__(self, name: str, size: int, *, ordered: bool = True):
        self._name = name
        self._size = size
        self._lock = threading.Lock()
        self._work: _Queue = queue.PriorityQueue() if ordered else queue.SimpleQueue()
        self._arrivals = itertools.count()
        self._threads: list[threading.Thread] = []
        self._unfinished = 0
        self._closed = False

    def submit(self, work: Callable[[], None], order: float = 0.0) -> None:
        """Run ``work`` soon, before all that waits with a greater ``order``. It must not raise; if it does,
        that is logged."""
        with self._lock:
            if self._closed:
                return
            self._unfinished += 1
            if self._unfinished > len(self._threads) and len(self._threads) < self._size:
                thread = threading.Thread(
                    target=self._run, name=f"{self._name}-{len(self._threads)}", daemon=True
                )
                self._threads.append(thread)
                thread.start()
        self._work.put((order, next(self._arrivals), work))

    def stop(self) -> None:
        """Take no more work; what was queued and not begun is dropped."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            threads = len(self._threads)
        while True:
            try:
                self._work.get_nowait()
            except queue.Empty:
                break
        for _ in range(threads):
            self._work.put((math.inf, next(self._arrivals), None))

    def join(self, seconds: float) -> bool:
        """Wait for the work in progress; False when some of it is still running after ``seconds``."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while (work := self._work.get()[2]) is not None:
            try:
                work()
            except Exception:
                logger.exception("a worker of the pool %s failed", self._name)
            finally:
                del work  # it may hold a large payload; an idle thread must not
                with self._lock:
                    self._unfinished -= 1


async def run_in_thread(submit: Callable[[Callable[[], None]], None], work: Callable[[], T]) -> T:
    """What ``work`` returns or raises when ``submit`` has a thread run it.

    It is dropped if it has not begun when the caller is cancelled.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return  # its caller was cancelled
        if error is None:
            future.set_result(cast(T, result))
        else:
            future.set_exception(error)

    def run() -> None:
        if future.cancelled():
            return
        outcome: tuple[T | None, BaseException | None]
        try:
            outcome = work(), None
        except BaseException as exc:  # noqa: BLE001 - carried over to the caller
            outcome = None, exc
        with suppress(RuntimeError):  # the loop was closed: nobody waits
            loop.call_soon_threadsafe(settle, *outcome)

    submit(run)
    return await future
