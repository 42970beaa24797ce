"""Events on an EventBridge bus."""

from __future__ import annotations

import json
from typing import Any

from stix.adapters.aws_client import create_client, translated
from stix.model.errors import UnavailableError
from stix.ports.surroundings import Event

__all__ = ["EventBridgeBus"]

_BATCH = 10


class EventBridgeBus:
    """Implements ``EventBus``. ``source`` is ``stix``, ``detail-type`` the event's name, ``detail`` holds
    workspace, subject, moment and what the event says."""

    def __init__(self, bus: str, client: Any = None):
        self._bus = bus
        self._client = create_client("events") if client is None else client

    def publish(self, *events: Event) -> None:
        """Raises ``UnavailableError`` when the bus refuses an event."""
        for start in range(0, len(events), _BATCH):
            entries = [self._entry(event) for event in events[start : start + _BATCH]]
            with translated(f"event bus {self._bus}"):
                result = self._client.put_events(Entries=entries)
            if result.get("FailedEntryCount"):
                raise UnavailableError(f"The event bus {self._bus} refused an event.")

    def _entry(self, event: Event) -> dict[str, str]:
        detail = {"workspace": event.workspace, "subject": event.subject, "at": event.at, **event.detail}
        return {
            "EventBusName": self._bus,
            "Source": "stix",
            "DetailType": event.name,
            "Detail": json.dumps(detail),
        }
