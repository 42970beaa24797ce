"""Works of many threads done as one: whoever comes first leads, and does what waits behind it too."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, cast

__all__ = ["GroupCommit", "Work"]

R = TypeVar("R")
T = TypeVar("T")


class Work(Generic[R]):
    """One thread's part. ``error`` is what it raised, or what ended the whole group."""

    def __init__(self, do: Callable[[R], Any]):
        self.do = do
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = False
        self._signal = threading.Lock()
        self._signal.acquire()

    def wait(self) -> None:
        self._signal.acquire()

    def wake(self) -> None:
        self._signal.release()


class GroupCommit(Generic[R]):
    """Nobody waits for company: a work that comes alone is done at once. Those that come meanwhile wait, in
    order, and are all done together after it."""

    def __init__(self, do_all: Callable[[Sequence[Work[R]]], None]):
        """``do_all`` runs in the thread that leads and sets each work's ``result`` or ``error``; what it
        raises is the end of all of them."""
        self._do_all = do_all
        self._mutex = threading.Lock()
        self._waiting: list[Work[R]] = []
        self._led = False

    def do(self, work: Callable[[R], T]) -> T:
        """What ``work`` returns or raises, once its group is done. It may run in another thread."""
        mine = Work(work)
        with self._mutex:
            self._waiting.append(mine)
            leads, self._led = not self._led, True
        if not leads:
            mine.wait()  # until it is done, or is the first of those that wait and has to lead
        if not mine.done:
            self._lead()
        if mine.error is not None:
            raise mine.error
        return cast(T, mine.result)

    def _lead(self) -> None:
        with self._mutex:
            works, self._waiting = self._waiting, []
        try:
            self._do_all(works)
        except BaseException as exc:  # noqa: BLE001 - carried over to the callers
            for work in works:
                work.error = exc
        for work in works:
            work.done = True
        with self._mutex:
            following = self._waiting[:1]
            self._led = bool(following)
        for work in (*following, *works[1:]):
            work.wake()
