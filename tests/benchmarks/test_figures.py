"""The table that judges: a figure over its limit must show, and nothing may go unmeasured."""

from __future__ import annotations

import sys

import pytest

from tests.benchmarks import __main__ as command
from tests.benchmarks.figures import (
    Figure,
    Limit,
    Record,
    UnknownFigureError,
    percentile,
    read_limits,
    table,
)

MOST = Limit("what it is", "s", most=2.0)
FLOOR = Limit("what it is", "MB/s", floor=10.0)


@pytest.mark.parametrize(
    ("limit", "measured", "ratio", "over"),
    [
        (MOST, 1.0, 0.5, False),
        (MOST, 2.0, 1.0, False),
        (MOST, 2.1, 1.05, True),
        (FLOOR, 20.0, 0.5, False),
        (FLOOR, 10.0, 1.0, False),
        (FLOOR, 8.0, 1.25, True),
        (FLOOR, 0.0, float("inf"), True),
    ],
)
def test_figure_is_over_when_it_passes_its_limit(limit, measured, ratio, over):
    figure = Figure("a.b", measured, limit)
    assert figure.ratio == pytest.approx(ratio)
    assert figure.over is over
    assert table([figure]).splitlines()[1].endswith("OVER" if over else "ok")


def test_limit_is_refused_when_it_points_both_ways():
    with pytest.raises(ValueError, match="either most or floor"):
        Limit("what it is", "s", most=1.0, floor=1.0)


def test_record_refuses_a_figure_when_it_has_no_limit():
    with pytest.raises(UnknownFigureError, match=r"\[idle.speed\]"):
        Record("idle", {"size": MOST}).add("speed", 1.0)


def test_record_is_refused_when_a_limit_was_not_measured():
    record = Record("idle", {"size": MOST, "speed": MOST})
    record.add("size", 1.0)
    with pytest.raises(UnknownFigureError, match="speed"):
        record.check_complete()


def test_every_benchmark_has_limits_when_the_file_is_read():
    assert read_limits().keys() == command.BENCHMARKS.keys()


@pytest.mark.parametrize(("percent", "value"), [(50, 50), (95, 95), (100, 100), (0, 1)])
def test_percentile_is_the_nearest_rank_when_values_are_many(percent, value):
    assert percentile(range(100, 0, -1), percent) == value


def measure_nothing_over(record):
    record.add("version_cpu", 0.01)
    record.add("help_cpu", 0.01)
    record.add("status_cpu", 0.01)
    record.add("status_wall", 0.01)


def measure_one_over(record):
    record.add("version_cpu", 99.0)
    record.add("help_cpu", 0.01)
    record.add("status_cpu", 0.01)
    record.add("status_wall", 0.01)


def measure_and_break(record):
    raise OSError("the disk is full")


@pytest.mark.parametrize(
    ("measure", "code", "text"),
    [
        (measure_nothing_over, 0, "commands.version_cpu"),
        (measure_one_over, 1, "over the limit: commands.version_cpu"),
        (measure_and_break, 1, "FAILED: OSError: the disk is full"),
    ],
)
def test_command_ends_with_1_when_something_is_over_or_broke(monkeypatch, capsys, measure, code, text):
    monkeypatch.setitem(command.BENCHMARKS, "commands", measure)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "commands"])
    assert command.main() == code
    assert text in capsys.readouterr().out
