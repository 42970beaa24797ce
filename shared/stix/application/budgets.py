"""A workspace's budget: USD a calendar month, held against the ledger before anything new is started."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from stix.application.ledger import entries_since
from stix.application.world import World
from stix.model.errors import ConflictError, ForbiddenError
from stix.ports.state_store import Item, Key, VersionConflictError

__all__ = ["budget_view", "check_budget", "set_budget"]

_TRIES = 10


def set_budget(world: World, workspace: str, monthly: float | None) -> dict[str, Any]:
    """The body of ``Budget`` afterwards."""
    for _ in range(_TRIES):
        stored = world.store.get(_key(workspace))
        item = Item(_key(workspace), {"monthly": monthly}, version=0 if stored is None else stored.version)
        try:
            world.store.put(item)
        except VersionConflictError:
            continue
        return budget_view(world, workspace)
    raise ConflictError("The budget is being changed by others too often.", hint="Try again.", code="busy")


def budget_view(world: World, workspace: str) -> dict[str, Any]:
    """The body of ``Budget``: reads the month's part of the ledger."""
    now = world.clock.now()
    since, until = _month(now)
    spent = rate = 0.0
    for entry in entries_since(world, workspace, since):
        spent += entry.cost(now, since=since)
        rate += entry.price * entry.count if entry.ended_at is None else 0.0
    return {
        "monthly": _monthly(world, workspace),
        "spent": spent,
        "rate": rate,
        "since": since,
        "until": until,
    }


def check_budget(world: World, workspace: str) -> None:
    """Before anything that costs money is started. Raises ``ForbiddenError`` (``budget_exceeded``)."""
    monthly = _monthly(world, workspace)
    if monthly is None:
        return
    spent = budget_view(world, workspace)["spent"]
    if spent >= monthly:
        raise ForbiddenError(
            f"This month's budget is spent: {spent:.2f} of {monthly:.2f} USD.",
            hint="Raise it with `stix budget set USD`, or wait for the next month; what runs goes on.",
            code="budget_exceeded",
        )


def _monthly(world: World, workspace: str) -> float | None:
    item = world.store.get(_key(workspace))
    return None if item is None or item.body["monthly"] is None else float(item.body["monthly"])


def _key(workspace: str) -> Key:
    return Key.top(workspace, "budget", "monthly")


def _month(now: float) -> tuple[float, float]:
    """The first seconds of this calendar month and of the next one, UTC."""
    today = datetime.fromtimestamp(now, UTC)
    first = datetime(today.year, today.month, 1, tzinfo=UTC)
    following = datetime(today.year + today.month // 12, today.month % 12 + 1, 1, tzinfo=UTC)
    return first.timestamp(), following.timestamp()
