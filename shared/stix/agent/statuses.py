"""Job statuses in their order: a later one wins."""

from __future__ import annotations

ORDER = (
    "INIT",
    "PENDING",
    "SETTING_UP",
    "RUNNING",
    "FAILED_DRIVER",
    "SUCCEEDED",
    "FAILED",
    "FAILED_SETUP",
    "CANCELLED",
)
TERMINAL = frozenset(ORDER[4:])

# What one rank of a job is doing. ARRIVED: it reached every other rank. READY: it waits for the start.
PREPARING = "PREPARING"
ARRIVED = "ARRIVED"
SETTING_UP = "SETTING_UP"
READY = "READY"
RUNNING = "RUNNING"
ENDED = "ENDED"
