"""Moments written as cron: minute, hour, day of the month, month, day of the week."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from stix.model.problems import refuse, shown

__all__ = ["Cron", "parse_cron", "parse_timezone"]

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 7, _WEEKDAYS),
)
_SHORT = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_DAYS = 8 * 366
"""The rarest date, 29 February, comes at least once in so many days."""
_HINT = 'Write minute, hour, day of the month, month and day of the week, as "0 8 * * mon-fri".'


@dataclass(frozen=True, slots=True)
class Cron:
    """As Vixie's cron reads it: where both kinds of day are restricted, either of them is enough."""

    text: str
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool

    def last(self, now: float, timezone: str = "UTC") -> float:
        """The latest moment at or before ``now``, in epoch seconds."""
        found = (at for at in self._around(now, timezone, -1) if at <= now)
        return next(found)

    def next(self, now: float, timezone: str = "UTC") -> float:
        """The first moment after ``now``, in epoch seconds."""
        found = (at for at in self._around(now, timezone, 1) if at > now)
        return next(found)

    def _around(self, now: float, timezone: str, step: int) -> Iterator[float]:
        """Moments from the day before or after ``now`` on, in order of time or against it.

        A moment that the clocks skip happens as much later; one that they repeat, the first time.
        """
        zone = ZoneInfo(timezone)
        day = datetime.fromtimestamp(now, zone).date() - timedelta(days=step)
        for _ in range(_DAYS + 2):
            if self._on(day.day, day.month, (day.weekday() + 1) % 7):
                moments = sorted(
                    datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone).timestamp()
                    for hour in self.hours
                    for minute in self.minutes
                )
                yield from moments if step > 0 else reversed(moments)
            day += timedelta(days=step)

    def _on(self, day: int, month: int, weekday: int) -> bool:
        if month not in self.months:
            return False
        if self.either_day:
            return day in self.days or weekday in self.weekdays
        return day in self.days and weekday in self.weekdays

    def to_config(self) -> str:
        return self.text


def parse_cron(value: Any) -> Cron:
    """Five fields with ``*``, numbers, names, ranges, lists and steps; or ``@daily`` and the like."""
    if isinstance(value, Cron):
        return value
    if not isinstance(value, str) or len(value) > 200:
        raise refuse(f"{shown(value)} is not a cron expression.", _HINT, value=value)
    parts = _SHORT.get(value.strip().lower(), value).lower().split()
    if len(parts) != len(_FIELDS):
        raise refuse(f"{shown(value)} has {len(parts)} fields, and cron has 5.", _HINT, value=value)
    sets = [_field(part, at, value) for at, part in enumerate(parts)]
    minutes, hours, days, months, weekdays = sets
    weekdays = {day % 7 for day in weekdays}
    both = not parts[2].startswith("*") and not parts[4].startswith("*")
    cron = Cron(
        " ".join(value.split()),
        tuple(sorted(minutes)),
        tuple(sorted(hours)),
        frozenset(days),
        frozenset(months),
        frozenset(weekdays),
        both,
    )
    longest = max(29 if month == 2 else 30 if month in (4, 6, 9, 11) else 31 for month in months)
    if not both and min(days) > longest:
        raise refuse(f"{shown(value)} never happens: no such month has that day.", _HINT, value=value)
    return cron


def _field(text: str, at: int, value: Any) -> set[int]:
    what, least, most, names = _FIELDS[at]
    found: set[int] = set()
    for part in text.split(","):
        span, slash, step_text = part.partition("/")
        first_text, dash, last_text = span.partition("-")
        step = int(step_text) if step_text.isdecimal() and len(step_text) < 4 else 0
        if span == "*":
            first, last = least, most
        else:
            first = _one(first_text, least, names)
            last = _one(last_text, least, names) if dash else most if slash else first
        # Sunday may end a range of days: fri-sun.
        if at == 4 and last == 0 and first > 0:
            last = 7
        if (slash and step < 1) or not least <= first <= last <= most:
            hint = f"The {what} is from {least} to {most}{', or a name as ' + names[1] if names else ''}."
            raise refuse(f"{shown(value)}: {shown(part)} is no {what}.", hint, value=value)
        found.update(range(first, last + 1, step or 1))
    return found


def _one(text: str, least: int, names: tuple[str, ...]) -> int:
    if text in names:
        return names.index(text) + least
    return int(text) if text.isdecimal() and len(text) < 4 else -1


def parse_timezone(value: Any) -> str:
    """A name of the time zone database, such as ``Europe/Berlin``."""
    hint = 'Write a name such as "Europe/Berlin", or leave it out for UTC.'
    if not isinstance(value, str) or not 0 < len(value) < 64:
        raise refuse(f"{shown(value)} is not a time zone.", hint, value=value)
    if value.upper() == "UTC":
        return "UTC"
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise refuse(f"{shown(value)} is not a time zone that is known here.", hint, value=value) from exc
    return value
