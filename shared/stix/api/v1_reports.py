"""What the API tells of a cluster after the fact, version 1: why it is what it is, and what it cost."""

from __future__ import annotations

from typing import Any

from stix.api.v1 import Attempt, Progress, Response

__all__ = ["CostLine", "CostReport", "ExplainedOffer", "Explanation"]


class ExplainedOffer(Response):
    """An offer, USD per machine-hour, and why it is where it is."""

    place: str
    instance_type: str
    spot: bool = False
    price: float
    price_as_of: float = 0.0
    reason: str = ""


class Explanation(Response):
    """Why a cluster is what it is. ``next``: what a launch under way would try; ``cost``: USD up to now."""

    name: str
    id: str
    status: str
    reason: str = ""
    since: float
    created_at: float
    requested: dict[str, Any]
    num_nodes: int
    offers: int
    chosen: ExplainedOffer | None = None
    attempts: list[Attempt]
    next: list[ExplainedOffer]
    decisions: list[Progress]
    cost: float
    ends_at: float | None = None
    ends_because: str = ""


class CostLine(Response):
    """One time that machines of a cluster ran; USD. ``seconds`` and ``cost`` are those within the report."""

    cluster: str
    cluster_id: str
    user: str = ""
    labels: dict[str, str]
    cloud: str
    region: str
    zone: str = ""
    instance_type: str
    spot: bool = False
    num_nodes: int
    hourly_price: float
    price_as_of: float = 0.0
    started_at: float
    ended_at: float | None = None
    seconds: float
    cost: float


class CostReport(Response):
    since: float
    until: float
    lines: list[CostLine]
    truncated: bool = False
