"""Moments as providers write them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

__all__ = ["rfc3339_seconds"]


def rfc3339_seconds(text: Any) -> float:
    """Since 1970, of a time like 2026-11-27T07:15:00Z; 0 where there is none."""
    return datetime.fromisoformat(str(text)).timestamp() if text else 0.0
