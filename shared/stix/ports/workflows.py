"""Starting state machine runs and answering their task tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

__all__ = ["TaskTokenError", "Workflows"]


class TaskTokenError(Exception):
    """The token is unknown, already answered, or its task timed out. Callers usually drop it."""


class Workflows(Protocol):
    def start(self, machine: str, name: str, payload: Mapping[str, Any]) -> bool:
        """Start ``machine`` (``launch``, ``terminate`` ...) as a run called ``name``.

        The name makes it idempotent: False when a run of that name was started before (within 90 days).
        Names are at most 80 characters of ``[A-Za-z0-9_-]``.
        """
        ...

    def succeed(self, token: str, output: Mapping[str, Any]) -> None:
        """Answer a task token. Raises ``TaskTokenError``."""
        ...

    def fail(self, token: str, error: str, cause: str) -> None:
        """Fail the task that waits for ``token``. Raises ``TaskTokenError``."""
        ...

    def heartbeat(self, token: str) -> None:
        """Reset the task's heartbeat timer. Raises ``TaskTokenError``."""
        ...
