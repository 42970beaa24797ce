"""Waiting for what was asked for: operations, line by line."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from stix.sdk.responses import Operation

if TYPE_CHECKING:
    from stix.sdk.client import Client

__all__ = ["ENDED", "follow_operation", "rest"]

ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})
_POLL_SECONDS = 1.0


def follow_operation(client: Client, operation_id: str, on_progress: Callable[[str], None]) -> Operation:
    """Give each progress line once, in order, until the operation has ended; the ended operation."""
    seen, status = 0, ""
    while True:
        asked_at = client.pace.monotonic()
        operation = client.operation(operation_id, seen=seen)
        for line in operation["progress"][seen:]:
            on_progress(line["message"])
        if operation["status"] in ENDED:
            return operation
        news = len(operation["progress"]) > seen or operation["status"] != status
        seen, status = len(operation["progress"]), operation["status"]
        if not news:
            rest(client, asked_at)


def rest(client: Client, asked_at: float) -> None:
    """Sleep up to a second where the server answered at once though there was nothing new (it holds no
    requests)."""
    elapsed = client.pace.monotonic() - asked_at
    if elapsed < _POLL_SECONDS:
        client.pace.sleep(_POLL_SECONDS - elapsed)
