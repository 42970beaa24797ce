"""Lengths of time and deadlines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from stix.model.accelerators import parse_accelerator
from stix.model.problems import refuse, shown
from stix.model.quantities import number_text
from stix.model.shapes import named

__all__ = [
    "DEFAULT",
    "Deadline",
    "DurationByAccelerator",
    "Seconds",
    "duration_text",
    "parse_deadline",
    "parse_duration",
    "parse_estimate",
    "seconds_or_duration",
]

DEFAULT = "default"
"""The key of ``estimated_duration`` for every accelerator that is not named, and for none."""

_SECONDS = {"w": 7 * 86400, "d": 86400, "h": 3600, "m": 60, "s": 1}
_PART = r"([0-9]{1,9}(?:\.[0-9]{1,3})?)\s*([wdhms])"
_DURATION = re.compile(rf"{_PART}(?:\s*{_PART})*", re.ASCII | re.IGNORECASE)
_PARTS = re.compile(_PART, re.ASCII | re.IGNORECASE)
_LONGEST = 10 * 366 * 86400
_HINT = 'Write it with a unit: "90s", "45m", "2h", "1h30m", "7d" or "1w".'


class Seconds(float):
    """A length of time that has been read; a plain number is not one."""

    def to_config(self) -> str:
        return duration_text(self)


def parse_duration(value: Any) -> Seconds:
    """``90s``, ``45m``, ``1h30m``, ``1.5h``, ``7d``, ``1w``, or a ``timedelta``, in seconds, from 1 second
    to 10 years. A number without its unit is refused: minutes and seconds are too easily taken for each
    other."""
    if isinstance(value, Seconds):
        return value
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, str) and len(value) < 100 and _DURATION.fullmatch(value.strip()):
        parts = [(float(number), unit.lower()) for number, unit in _PARTS.findall(value)]
        seconds = sum(number * _SECONDS[unit] for number, unit in parts)
    else:
        raise refuse(f"{shown(value)} is not a length of time.", _HINT, value=value)
    seconds = Seconds(round(seconds, 3))
    if not 1 <= seconds <= _LONGEST:
        raise refuse(f"{shown(value)} is not between 1 second and 10 years.", _HINT, value=value)
    return seconds


def seconds_or_duration(value: Any) -> Seconds:
    """As ``parse_duration``; a plain number (also in quotes) is seconds, and 0 is a length too."""
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value) if len(value) < 12 else value
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= _LONGEST:
        return Seconds(round(float(value), 3))
    return parse_duration(value)


def duration_text(seconds: float) -> str:
    """The shortest text of whole units that reads back as ``seconds``: ``1h30m``."""
    if seconds != int(seconds) or seconds == 0:
        return f"{number_text(seconds)}s"
    rest, text = int(seconds), ""
    for unit in "dhms":
        count, rest = divmod(rest, _SECONDS[unit])
        text += f"{count}{unit}" if count else ""
    return text


@dataclass(frozen=True, slots=True)
class DurationByAccelerator:
    """Seconds by accelerator: canonical name (``A100``) or name and count (``A100:8``), or ``default``."""

    seconds: tuple[tuple[str, Seconds], ...]

    def of(self, name: str, count: float) -> Seconds | None:
        """For ``count`` of ``name`` on each node (an empty name: no accelerator); None where nothing is said.
        The entry with that very count counts first, then the name's, then ``default``."""
        known = dict(self.seconds)
        for key in (f"{name}:{number_text(count)}", name, DEFAULT):
            if key in known:
                return known[key]
        return None

    def to_config(self) -> dict[str, str]:
        return {key: duration_text(seconds) for key, seconds in self.seconds}


def _accelerator_key(value: str) -> str:
    if value.strip().lower() == DEFAULT:
        return DEFAULT
    one = parse_accelerator(value)
    if not one.name:
        raise refuse(f"{shown(value)} names no accelerator.", "Write one's name, or default.", value=value)
    return str(one) if ":" in value else one.name


_by_accelerator = named(
    parse_duration, "A100: 2h for each accelerator, and default: 3h", key=_accelerator_key, least=1
)


def parse_estimate(value: Any) -> Seconds | DurationByAccelerator | None:
    """``2h``, or ``{A100:8: 2h, H100: 45m, default: 6h}``."""
    if value is None or isinstance(value, DurationByAccelerator):
        return value
    if isinstance(value, Mapping):
        return DurationByAccelerator(tuple(_by_accelerator(value).items()))
    return parse_duration(value)


@dataclass(frozen=True, slots=True)
class Deadline:
    """Either ``at``, an epoch second, or ``after``, seconds from the submission."""

    at: float | None = None
    after: float | None = None

    def epoch(self, submitted_at: float) -> float:
        """The deadline as an epoch second."""
        return self.at if self.at is not None else submitted_at + (self.after or 0.0)

    def __str__(self) -> str:
        if self.at is None:
            return duration_text(self.after or 0.0)
        return datetime.fromtimestamp(self.at, UTC).isoformat().replace("+00:00", "Z")

    def to_config(self) -> str:
        return str(self)


def parse_deadline(value: Any) -> Deadline | None:
    """``2025-06-30T18:00:00+02:00``, ``2025-06-30 16:00Z``, a ``datetime`` with its zone; or a length of time
    from the submission, ``6h``."""
    if value is None or isinstance(value, Deadline):
        return value
    hint = (
        'Write a time with its zone, "2030-06-30T18:00:00+02:00" or "2030-06-30 16:00Z", or a length, "6h".'
    )
    if isinstance(value, timedelta) or (isinstance(value, str) and _DURATION.fullmatch(value.strip()[:100])):
        return Deadline(after=parse_duration(value))
    moment = value
    if isinstance(value, str) and len(value) < 64:
        try:
            moment = datetime.fromisoformat(value.strip())
        except ValueError:
            moment = None
    if not isinstance(moment, datetime):
        raise refuse(f"{shown(value)} is not a deadline.", hint, value=value)
    if moment.tzinfo is None:
        raise refuse(f"{shown(value)} does not say its time zone.", hint, value=value)
    if not 2000 <= moment.year < 2200:
        raise refuse(f"{shown(value)} is not in this century or the next.", hint, value=value)
    return Deadline(at=moment.replace(microsecond=0).timestamp())
