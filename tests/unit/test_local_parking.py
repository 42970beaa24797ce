from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stix.local.parking import Parking, ParkingWake

LONG = 30.0


def run(scenario: Callable[[Parking, asyncio.Future[None]], Awaitable[Any]], **options: Any) -> Any:
    async def main() -> Any:
        loop = asyncio.get_running_loop()
        parking = Parking(**options)
        parking.attach(loop)
        return await asyncio.wait_for(scenario(parking, loop.create_future()), LONG)

    return asyncio.run(main())


def test_wait_ends_when_another_thread_wakes_the_topic() -> None:
    async def scenario(parking: Parking, gone: asyncio.Future[None]) -> bool:
        waiting = asyncio.ensure_future(parking.wait("t", since=parking.sequence(), seconds=LONG, gone=gone))
        while not len(parking):
            await asyncio.sleep(0)
        threading.Thread(target=ParkingWake(parking).wake, args=("t",)).start()
        return await waiting

    assert run(scenario) is True


def test_wait_returns_at_once_when_the_topic_was_woken_since_the_look() -> None:
    async def scenario(parking: Parking, gone: asyncio.Future[None]) -> tuple[bool, int]:
        look = parking.sequence()
        parking.wake("t")
        return await parking.wait("t", since=look, seconds=LONG, gone=gone), len(parking)

    assert run(scenario) == (True, 0)


def test_wait_does_not_end_when_only_other_or_earlier_wakes_happened() -> None:
    async def scenario(parking: Parking, gone: asyncio.Future[None]) -> bool:
        parking.wake("t")
        look = parking.sequence()
        parking.wake("other")
        return await parking.wait("t", since=look, seconds=0.01, gone=gone)

    assert run(scenario) is False


def test_wait_ends_unwoken_when_the_client_is_gone() -> None:
    async def scenario(parking: Parking, gone: asyncio.Future[None]) -> tuple[bool, int]:
        waiting = asyncio.ensure_future(parking.wait("t", since=0, seconds=LONG, gone=gone))
        while not len(parking):
            await asyncio.sleep(0)
        gone.set_result(None)
        return await waiting, len(parking)

    assert run(scenario) == (False, 0)


def test_everyone_leaves_when_the_parking_closes() -> None:
    async def scenario(parking: Parking, gone: asyncio.Future[None]) -> list[bool]:
        waits = [
            asyncio.ensure_future(parking.wait(f"t{n % 3}", since=0, seconds=LONG, gone=gone))
            for n in range(9)
        ]
        while len(parking) < 9:
            await asyncio.sleep(0)
        parking.close()
        late = await parking.wait("t", since=0, seconds=LONG, gone=gone)
        return [*await asyncio.gather(*waits), late]

    assert run(scenario) == [False] * 10


def test_nothing_is_left_behind_when_a_waiter_is_cancelled() -> None:
    async def scenario(parking: Parking, gone: asyncio.Future[None]) -> tuple[int, int]:
        waiting = asyncio.ensure_future(parking.wait("t", since=0, seconds=LONG, gone=gone))
        while not len(parking):
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return len(parking), len(parking._waiting)

    assert run(scenario) == (0, 0)


def test_wake_is_not_lost_when_its_topic_was_forgotten() -> None:
    async def scenario(parking: Parking, gone: asyncio.Future[None]) -> tuple[bool, int]:
        look = parking.sequence()
        parking.wake("t")
        for number in range(100):
            parking.wake(f"other{number}")
        return await parking.wait("t", since=look, seconds=LONG, gone=gone), len(parking._woken)

    assert run(scenario, remembered_topics=10) == (True, 10)


def test_wake_is_harmless_when_the_loop_has_ended() -> None:
    parking = Parking()

    async def main() -> None:
        parking.attach(asyncio.get_running_loop())
        waiting = asyncio.ensure_future(
            parking.wait("t", since=0, seconds=LONG, gone=asyncio.get_running_loop().create_future())
        )
        await asyncio.sleep(0)
        assert not waiting.done()

    asyncio.run(main())
    parking._waiting["t"] = set()
    parking.wake("t")
    assert parking.sequence() == 1


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc")), max_size=60), st.integers(1, 3))
def test_no_wake_is_lost_when_looks_and_wakes_interleave(
    steps: list[tuple[bool, str]], remembered: int
) -> None:
    """Whoever looked before a wake of the topic never waits, however much is forgotten."""

    async def scenario(parking: Parking, gone: asyncio.Future[None]) -> None:
        looks: list[tuple[int, int]] = []
        woken: list[str] = []
        for is_wake, topic in steps:
            if is_wake:
                parking.wake(topic)
                woken.append(topic)
            else:
                looks.append((parking.sequence(), len(woken)))
        for sequence, seen in looks:
            for topic in set(woken[seen:]):
                assert await parking.wait(topic, since=sequence, seconds=0, gone=gone)

    run(scenario, remembered_topics=remembered)
