"""Hourly housekeeping that keeps the embedded control plane's files from growing."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from stix.model.errors import UnavailableError

__all__ = ["LOG_BYTES", "purge_in_portions", "trim_log"]

logger = logging.getLogger(__name__)

LOG_BYTES = 10 * 1024 * 1024

_PORTION = 200
_PORTIONS = 50


def purge_in_portions(purge: Callable[[int], int]) -> int:
    """Call ``purge(limit)`` until there is no more to do, at most 50 times; how much was removed.

    Portions keep each transaction short, so that nobody waits for the file.
    """
    removed = 0
    try:
        for _ in range(_PORTIONS):
            count = purge(_PORTION)
            removed += count
            if count < _PORTION:
                break
    except UnavailableError:
        logger.exception("housekeeping was cut short")
    return removed


def trim_log(path: Path, limit: int = LOG_BYTES) -> bool:
    """Move the content of a log above ``limit`` bytes to ``<name>.1``; whether it was.

    Its writers go on with the same open file, which they append to.
    """
    try:
        if not path.exists() or path.stat().st_size <= limit:
            return False
        older = path.with_name(path.name + ".1")
        shutil.copyfile(path, older)
        older.chmod(0o600)
        os.truncate(path, 0)
    except OSError:
        logger.exception("the log could not be trimmed")
        return False
    return True
