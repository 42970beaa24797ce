"""How it is found out whether a replica of a service is ready."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stix.model.plain import given_fields
from stix.model.problems import refuse, shown
from stix.model.shapes import Parser, free_mapping, mapping, named, number, text

__all__ = [
    "DAY_SECONDS",
    "ReadinessProbe",
    "parse_header_name",
    "parse_path",
    "parse_probe",
    "seconds_above_zero",
    "seconds_of_a_day",
]

DAY_SECONDS = 86_400
"""The gateway takes no time above a day."""
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ReadinessProbe:
    """An HTTP request (GET, or POST with ``post_data``) that a ready replica answers; times in seconds."""

    path: str
    initial_delay_seconds: float = 1200
    timeout_seconds: float = 15
    endpoint_probe_interval_seconds: float = 10
    consecutive_failure_threshold_timeout: float = 180
    post_data: str | Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def to_config(self) -> dict[str, Any] | str:
        config = given_fields(self)
        return config if len(config) > 1 else self.path


def parse_path(value: Any) -> str:
    hint = "Write a path of the service, such as /health."
    path = str(text("a path", hint)(value))
    if not path.startswith("/"):
        raise refuse(f"{shown(path)} does not begin with a slash.", hint, value=path)
    if not all("!" <= one <= "~" for one in path):
        raise refuse(f"{shown(path)} has a blank, or a character beyond ASCII.", hint, value=path)
    return path


def parse_header_name(value: str) -> str:
    if not _HEADER_NAME.fullmatch(value):
        raise refuse(f"{shown(value)} is not the name of a header.", "Write one such as X-Key.", value=value)
    return value


def _header(value: Any) -> str:
    found = str(text("a header's text")(value))
    if "\r" in found or "\n" in found:
        raise refuse(f"{shown(found)} has a line break.", "Write one line.", value=found)
    return found


def _post_data(value: Any) -> Any:
    if isinstance(value, Mapping):
        return free_mapping("post_data")(value)
    return text("data to post", "Write JSON as text, or a mapping.")(value)


def _within_a_day(parser: Parser) -> Parser:
    def parse(value: Any) -> float:
        seconds = float(parser(value))
        if seconds > DAY_SECONDS:
            raise refuse(
                f"{shown(value)} is more than a day.", f"Write at most {DAY_SECONDS} seconds.", value=value
            )
        return seconds

    return parse


seconds_of_a_day = _within_a_day(number(0, unit="seconds"))
seconds_above_zero = _within_a_day(number(above=True, unit="seconds"))
_PROBE = mapping(
    "readiness_probe",
    {
        "path": parse_path,
        "initial_delay_seconds": seconds_of_a_day,
        "timeout_seconds": seconds_above_zero,
        "endpoint_probe_interval_seconds": seconds_above_zero,
        "consecutive_failure_threshold_timeout": seconds_of_a_day,
        "post_data": _post_data,
        "headers": named(_header, "name: text", key=parse_header_name),
    },
    required=("path",),
)


def parse_probe(value: Any) -> ReadinessProbe:
    if isinstance(value, str):
        return ReadinessProbe(parse_path(value))
    return ReadinessProbe(**_PROBE(value))
