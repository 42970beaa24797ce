"""When an idle cluster stops by itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict

from stix.model.fields import AUTOSTOP
from stix.model.names import did_you_mean
from stix.model.problems import refuse, shown
from stix.model.shapes import text, whole

__all__ = ["DEFAULT_IDLE_MINUTES", "Autostop", "WaitFor", "parse_autostop"]

DEFAULT_IDLE_MINUTES = 5
"""What ``autostop: true`` means, as the command line's default."""

WaitFor = Literal["jobs_and_ssh", "jobs", "none"]

_MOST_MINUTES = 366 * 24 * 60
_DURATION = re.compile(r"([0-9]{1,9})([mhdw]?)", re.ASCII | re.IGNORECASE)
_MINUTES = {"": 1, "m": 1, "h": 60, "d": 24 * 60, "w": 7 * 24 * 60}
_script = text("a script", "Write the commands as text.", longest=16 * 1024)
_timeout = whole(1)
_HINT = (
    'Write minutes (10), a duration ("10m", "2h", "1d", "1w"), true, false or {idle_minutes: 10, down: true}.'
)


def _minutes(value: Any) -> int:
    minutes = None
    if isinstance(value, int) and not isinstance(value, bool):
        minutes = value
    elif isinstance(value, str) and (found := _DURATION.fullmatch(value.strip())):
        minutes = int(found[1]) * _MINUTES[found[2].lower()]
    if minutes is None:
        raise refuse(f"{shown(value)} is not an idle time.", _HINT, value=value)
    if not 0 <= minutes <= _MOST_MINUTES:
        raise refuse(
            f"{shown(value)} is not between 0 minutes and a year.",
            "Write false for a cluster that never stops by itself.",
            value=value,
        )
    return minutes


def _idle_minutes(value: Any) -> int:
    return DEFAULT_IDLE_MINUTES if value is None else _minutes(value)


def _down(value: Any) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    raise refuse(f"{shown(value)} is neither true nor false.", "Write true or false.", value=value)


def _wait_for(value: Any) -> str:
    choices: tuple[str, ...] = get_args(WaitFor)
    folded = value.strip().lower() if isinstance(value, str) else "jobs_and_ssh" if value is None else ""
    if folded not in choices:
        raise refuse(f"{shown(value)} is nothing to wait for.", did_you_mean(folded, choices), value=value)
    return folded


def _hook(value: Any) -> str | None:
    return None if value is None else str(_script(value))


def _hook_timeout(value: Any) -> int | None:
    return None if value is None else int(_timeout(value))


class Autostop(BaseModel):
    """Stop, or with ``down`` terminate, after ``idle_minutes`` without what ``wait_for`` names."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    idle_minutes: int = DEFAULT_IDLE_MINUTES
    down: bool = False
    wait_for: WaitFor = "jobs_and_ssh"
    hook: str | None = None
    hook_timeout: int | None = None

    def to_wire(self) -> dict[str, Any]:
        """As agents and API clients read it."""
        return {"idle_minutes": self.idle_minutes, "down": self.down, "wait_for": self.wait_for}

    def to_config(self) -> dict[str, Any]:
        """The fields that differ from their defaults, and always the minutes."""
        config: dict[str, Any] = {"idle_minutes": self.idle_minutes}
        if self.down:
            config["down"] = True
        if self.wait_for != "jobs_and_ssh":
            config["wait_for"] = self.wait_for
        if self.hook is not None:
            config["hook"] = self.hook
        if self.hook_timeout is not None:
            config["hook_timeout"] = self.hook_timeout
        return config


class _Written(BaseModel):
    """The fields as people write them. ``Autostop`` itself is read from the table with each cluster, where
    they are in order."""

    model_config = ConfigDict(hide_input_in_errors=True)

    idle_minutes: Annotated[int, BeforeValidator(_idle_minutes)] = DEFAULT_IDLE_MINUTES
    down: Annotated[bool, BeforeValidator(_down)] = False
    wait_for: Annotated[WaitFor, BeforeValidator(_wait_for)] = "jobs_and_ssh"
    hook: Annotated[str | None, BeforeValidator(_hook)] = None
    hook_timeout: Annotated[int | None, BeforeValidator(_hook_timeout)] = None


def parse_autostop(value: Any) -> Autostop | None:
    """Null and false are None, true is the default, a time is its minutes."""
    if value is None or value is False:
        return None
    if value is True:
        return Autostop()
    if isinstance(value, Autostop):
        return value
    if isinstance(value, Mapping):
        return Autostop(**AUTOSTOP.read(value, _Written.model_validate).model_dump())
    return Autostop(idle_minutes=_minutes(value))
