"""Seeded spot availability: runs with and without machines whose lengths have heavy tails, as recorded ones
do."""

from __future__ import annotations

import random

TICK = 600.0


def availability(
    seed: int, ticks: int = 1781, *, up_hours: float = 2.0, down_hours: float = 1.5
) -> list[int]:
    """Ticks of ten minutes; mean lengths of the runs in hours. Most runs are short, a few last for a day."""
    rng = random.Random(seed)
    found: list[int] = []
    up = rng.random() < up_hours / (up_hours + down_hours)
    while len(found) < ticks:
        mean = (up_hours if up else down_hours) * 3600.0 / TICK
        # Log-normal with sigma 1.3: its mean is exp(mu + sigma^2 / 2).
        length = rng.lognormvariate(0.0, 1.3) / 2.328 * mean
        found += [int(up)] * max(1, round(length))
        up = not up
    return found[:ticks]
