"""What those who run a deployment ask, version 1: rebuilding the table's view of machines, and budgets."""

from __future__ import annotations

from pydantic import Field

from stix.api.v1 import Request, Response

__all__ = ["Budget", "BudgetRequest", "Rebuild", "RebuildRequest"]


class RebuildRequest(Request):
    """``places``: places besides those that were ever used, as ``CLOUD/REGION``."""

    places: list[str] = Field(default=[], max_length=100)


class Rebuild(Response):
    """Whether machines that the table does not know may be ended (``armed``), and why not (``reason``);
    places that a rebuild still has to visit, and those it has; the names of the ``clusters`` it found."""

    armed: bool
    reason: str = ""
    waiting: tuple[str, ...] = ()
    visited: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()


class BudgetRequest(Request):
    """USD a calendar month (UTC) for the workspace; None takes the budget away."""

    monthly: float | None = Field(gt=0, le=1e9, allow_inf_nan=False)


class Budget(Response):
    """``monthly``: USD a calendar month, None without a budget; ``spent`` in this one up to now, ``rate`` USD
    per hour of what runs, ``since`` and ``until`` the month's first second and the next month's."""

    monthly: float | None
    spent: float
    rate: float
    since: float
    until: float
