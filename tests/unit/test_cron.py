"""Moments written as cron, against a search minute by minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from stix.model.cron import parse_cron, parse_timezone

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]


def epoch(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "now", "last", "following"),
    [
        ("0 8 * * mon-fri", "2030-01-05 12:00", "2030-01-04 08:00", "2030-01-07 08:00"),
        ("*/15 9-17/4 * * *", "2030-01-05 12:50", "2030-01-05 09:45", "2030-01-05 13:00"),
        ("0 0 29 feb *", "2031-05-05 00:00", "2028-02-29 00:00", "2032-02-29 00:00"),
        # Where both kinds of day are restricted, either is enough: the 13th, and Fridays.
        ("30 6 13 * fri", "2030-01-12 00:00", "2030-01-11 06:30", "2030-01-13 06:30"),
        ("0 12 * * fri-sun", "2030-01-06 12:00", "2030-01-06 12:00", "2030-01-11 12:00"),
        ("0 12 * * 7", "2030-01-07 00:00", "2030-01-06 12:00", "2030-01-13 12:00"),
        ("@monthly", "2030-01-31 23:59", "2030-01-01 00:00", "2030-02-01 00:00"),
        ("5,10 * * * *", "2030-01-01 00:07", "2030-01-01 00:05", "2030-01-01 00:10"),
    ],
)
def test_moments_are_found_around_now(text, now, last, following):
    cron = parse_cron(text)
    assert cron.last(epoch(now)) == epoch(last)
    assert cron.next(epoch(now)) == epoch(following)


FIELDS = st.tuples(
    st.sampled_from(["*", "0", "*/20", "10-50/15", "7,59"]),
    st.sampled_from(["*", "2", "1-3", "*/6", "0,23"]),
    st.sampled_from(["*", "1", "31", "10-20/5"]),
    st.sampled_from(["*", "mar,oct", "1-12/3"]),
    st.sampled_from(["*", "sun", "mon-fri", "2,4"]),
)


@given(FIELDS, st.sampled_from(ZONES), st.integers(0, 366 * 24 * 60))
@settings(max_examples=150)
def test_last_and_next_agree_with_a_search_of_local_minutes(fields, timezone, minutes):
    cron, zone = parse_cron(" ".join(fields)), ZoneInfo(timezone)
    now = epoch("2030-01-01 00:00") + minutes * 60 + 7

    def moments(day):
        """Local minutes of one day; those that the clocks skip come later, repeated ones once."""
        midnight = datetime(day.year, day.month, day.day)
        weekday = (day.weekday() + 1) % 7
        by_date, by_weekday = day.day in cron.days, weekday in cron.weekdays
        restricted = fields[2][0] != "*" and fields[4][0] != "*"
        if day.month not in cron.months or not (
            (by_date or by_weekday) if restricted else by_date and by_weekday
        ):
            return []
        all_minutes = (midnight + timedelta(minutes=at) for at in range(24 * 60))
        return [
            at.replace(tzinfo=zone).timestamp()
            for at in all_minutes
            if at.minute in cron.minutes and at.hour in cron.hours
        ]

    today = datetime.fromtimestamp(now, zone).date()
    near = sorted(at for day in range(-1, 2) for at in moments(today + timedelta(days=day)))
    before, after = [at for at in near if at <= now], [at for at in near if at > now]
    if before:
        assert cron.last(now, timezone) == before[-1]
    else:
        assert cron.last(now, timezone) < now - 86400 + 7200
    if after:
        assert cron.next(now, timezone) == after[0]
    else:
        assert cron.next(now, timezone) > now + 86400 - 7200


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (8, "not a cron expression"),
        ("0 8 * *", "has 4 fields"),
        ("60 8 * * *", "is no minute"),
        ("0 8 * * mun", "is no day of the week"),
        ("0 8 0 * *", "is no day of the month"),
        ("*/0 8 * * *", "is no minute"),
        ("0 17-8 * * *", "is no hour"),
        ("0 0 31 feb,apr *", "never happens"),
        ("@reboot", "has 1 fields"),
    ],
)
def test_what_is_no_cron_is_told(text, told):
    with pytest.raises(PydanticCustomError, match=told):
        parse_cron(text)


@pytest.mark.parametrize("name", ["Mars", "", 5, "../etc/passwd", "Europe"])
def test_what_is_no_time_zone_is_told(name):
    with pytest.raises(PydanticCustomError, match="time zone"):
        parse_timezone(name)
