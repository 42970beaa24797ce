"""The one list of schedules: EventBridge rules are synthesized from it, the embedded scheduler runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stix.application.refresh_catalog import EVERY_SECONDS

__all__ = ["SCHEDULES", "Schedule"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Invoke ``function`` with ``payload`` every ``every_seconds`` (whole minutes: EventBridge's grain)."""

    name: str
    every_seconds: int
    function: str
    payload: Mapping[str, str] = field(default_factory=dict)


SCHEDULES = (
    Schedule("sweep-due-items", 60, "monitor", {"action": "sweep"}),
    Schedule("refresh-catalog", EVERY_SECONDS, "catalog", {"action": "start"}),
)
