"""The loop around bounded steps: of a managed job, a pool, a service."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from stix.application.world import World
from stix.ports.state_store import VersionConflictError

__all__ = ["OVER", "take_steps"]

OVER = math.inf
"""What a step answers of something that has ended: nobody looks at it again."""
_SOON = 50
"""Seconds: the sweep comes every minute; what is due earlier, the run that looked waits for."""


def take_steps(world: World, step: Callable[[], float | None], most: int) -> dict[str, Any]:
    """Step until there is nothing to do now, ``most`` times. ``step`` reads anew and says when to look again:
    None for at once, as after a conflict of versions.

    ``outcome``: ENDED; SETTLED; SOON, where the next moment is less than a minute away, ``wait_seconds`` from
    now; or BUSY, where the steps did not do.
    """
    for _ in range(most):
        try:
            due_at = step()
        except VersionConflictError:
            continue
        if due_at is None:
            continue
        if due_at == OVER:
            return {"outcome": "ENDED", "wait_seconds": 0}
        wait = math.ceil(due_at - world.clock.now())
        soon = wait < _SOON
        return {"outcome": "SOON" if soon else "SETTLED", "wait_seconds": max(wait, 1) if soon else 0}
    return {"outcome": "BUSY", "wait_seconds": 0}
