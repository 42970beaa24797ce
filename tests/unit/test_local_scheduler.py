from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stix.adapters.sqlite_database import SqliteDatabase
from stix.local.scheduler import Recurring, Scheduler


class ManualClock:
    def __init__(self, now: float = 1_000_000.0):
        self.time = now

    def now(self) -> float:
        return self.time


class Beats:
    """A scheduler of one minute's beat, and how often it fired."""

    def __init__(self, path: Path, clock: ManualClock):
        self.count = 0
        self.clock = clock
        self.scheduler = Scheduler(SqliteDatabase(path), clock, [Recurring("sweep", 60.0, self._beat)])

    def _beat(self) -> None:
        self.count += 1


@pytest.fixture
def beats(tmp_path: Path) -> Beats:
    return Beats(tmp_path / "state.db", ManualClock())


def test_schedule_fires_at_once_when_it_is_new(beats: Beats) -> None:
    assert beats.scheduler.fire_due() == 60.0
    assert beats.count == 1


def test_schedule_waits_for_its_beat_when_it_has_fired(beats: Beats) -> None:
    beats.scheduler.fire_due()
    beats.clock.time += 59
    assert beats.scheduler.fire_due() == 1.0
    assert beats.count == 1
    beats.clock.time += 1
    beats.scheduler.fire_due()
    assert beats.count == 2


def test_beat_does_not_drift_when_it_is_fired_late(beats: Beats) -> None:
    beats.scheduler.fire_due()
    beats.clock.time += 67
    assert beats.scheduler.fire_due() == 53.0


def test_missed_beats_fire_once_when_nothing_ran_for_long(tmp_path: Path) -> None:
    clock = ManualClock()
    Beats(tmp_path / "state.db", clock).scheduler.fire_due()
    clock.time += 3600 * 5 + 7
    later = Beats(tmp_path / "state.db", clock)
    assert later.scheduler.fire_due() == 53.0
    assert later.count == 1


def test_due_time_survives_when_the_process_is_started_again(tmp_path: Path) -> None:
    clock = ManualClock()
    Beats(tmp_path / "state.db", clock).scheduler.fire_due()
    clock.time += 10
    later = Beats(tmp_path / "state.db", clock)
    assert later.scheduler.fire_due() == 50.0
    assert later.count == 0


def test_wait_is_at_most_an_interval_when_the_clock_was_set_back(beats: Beats) -> None:
    beats.scheduler.fire_due()
    beats.clock.time -= 86_400
    assert beats.scheduler.fire_due() == 60.0
    assert beats.count == 1


def test_beat_is_repeated_when_the_process_dies_before_it_is_recorded(tmp_path: Path) -> None:
    clock = ManualClock()
    database = SqliteDatabase(tmp_path / "state.db")

    def die() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Scheduler(database, clock, [Recurring("sweep", 60.0, die)]).fire_due()
    later = Beats(tmp_path / "state.db", clock)
    later.scheduler.fire_due()
    assert later.count == 1


def test_thread_fires_and_ends_when_started_and_stopped(tmp_path: Path) -> None:
    fired = threading.Event()
    scheduler = Scheduler(
        SqliteDatabase(tmp_path / "state.db"), ManualClock(), [Recurring("sweep", 60.0, fired.set)]
    )
    scheduler.start()
    assert fired.wait(30)
    scheduler.stop()
    assert scheduler._thread is not None
    assert not scheduler._thread.is_alive()


@given(steps=st.lists(st.floats(min_value=0, max_value=400), max_size=30))
def test_next_beat_is_ahead_and_within_the_interval_when_time_passes(
    steps: list[float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    clock = ManualClock()
    beats = Beats(tmp_path_factory.mktemp("schedule") / "state.db", clock)
    for step in steps:
        clock.time += step
        before = beats.count
        assert 0 < beats.scheduler.fire_due() <= 60.0
        assert beats.count - before <= 1
    if steps:
        assert beats.count >= 1 + int(max(0.0, *steps[1:], 0.0) >= 60.0)
