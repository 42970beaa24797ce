"""Work gives way to requests, and gets its share of the processor where they never end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from stix.local.turns import SHARE, Turns

DEADLINE = 60.0


@contextmanager
def a_request(turns: Turns) -> Iterator[None]:
    """One that is being answered meanwhile."""
    begun, go_on = threading.Event(), threading.Event()
    run = turns.request(lambda: begun.set() or (go_on.wait(DEADLINE) and None))
    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(DEADLINE)
    try:
        yield
    finally:
        go_on.set()
        thread.join(DEADLINE)


def spend(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        continue


def in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_work_begins_at_once_when_nobody_asks() -> None:
    turns = Turns(clock=lambda: 1000.0)  # which never advances: nothing may wait for it
    ran: list[int] = []
    turns.run(lambda: ran.append(1))
    assert ran == [1]


def test_work_waits_when_a_request_is_being_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stix.local.turns.PATIENCE_SECONDS", DEADLINE)
    turns, order = Turns(), []
    with a_request(turns):
        thread = in_thread(lambda: turns.run(lambda: order.append("work")))
        time.sleep(0.05)
        order.append("answer")
    thread.join(DEADLINE)
    assert order == ["answer", "work"]


def test_work_keeps_to_its_share_when_requests_never_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stix.local.turns.PATIENCE_SECONDS", 0.0)
    turns = Turns()
    with a_request(turns):
        began = time.monotonic()
        for _ in range(4):
            turns.run(lambda: spend(0.02))
        passed = time.monotonic() - began
    # What the last one used is only charged to the next.
    assert passed >= 0.02 * 3 / SHARE


def test_work_that_waits_takes_nothing_from_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stix.local.turns.PATIENCE_SECONDS", 0.0)
    turns, together = Turns(), threading.Barrier(6)
    with a_request(turns):
        threads = [in_thread(lambda: turns.run(lambda: together.wait(DEADLINE) and None)) for _ in range(6)]
        for thread in threads:  # each only ends once all have begun
            thread.join(DEADLINE)
    assert not together.broken


def test_work_that_raises_is_charged_and_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stix.local.turns.PATIENCE_SECONDS", 0.0)
    turns, ran = Turns(), []
    with a_request(turns):
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                turns.run(lambda: 1 / 0 and None)
        turns.run(lambda: ran.append(1))
    assert ran == [1]
    with pytest.raises(ZeroDivisionError):
        turns.request(lambda: 1 / 0 and None)()
    turns.run(lambda: ran.append(2))
    assert ran == [1, 2]
