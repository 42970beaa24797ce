"""What machines cost: one entry for each time that a gang of them ran."""

from __future__ import annotations

from typing import ClassVar

from stix.model.offer import Offer
from stix.model.record import Record

__all__ = ["LedgerEntry"]


class LedgerEntry(Record):
    """Written when machines start and settled once, when the provider says that they ended; never changed
    afterwards, except for one of no length, whose machines were not started after all: that of their next
    start takes its place. ``price``: USD per machine-hour as quoted at the start, ``price_as_of`` its moment,
    and ``source`` where it is from. ``token`` names the creation, ``period`` counts its starts."""

    kind: ClassVar[str] = "ledger"

    cluster_id: str
    cluster_name: str
    user: str = ""
    labels: dict[str, str] = {}
    token: str
    period: int
    offer: Offer
    count: int
    price: float
    price_as_of: float = 0.0
    source: str = ""
    started_at: float
    ended_at: float | None = None
    reason: str = ""

    def seconds(self, now: float, *, since: float = 0.0) -> float:
        """Of one machine, from ``since`` on, until ``now`` where it still runs."""
        until = now if self.ended_at is None else self.ended_at
        return max(0.0, until - max(self.started_at, since))

    def cost(self, now: float, *, since: float = 0.0) -> float:
        """USD of all its machines, from ``since`` on."""
        return self.seconds(now, since=since) / 3600.0 * self.price * self.count
