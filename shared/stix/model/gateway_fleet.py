"""The machines that are a workspace's gateways."""

from __future__ import annotations

from typing import ClassVar

from stix.model.record import Record

__all__ = ["GATEWAYS_OWNER", "GatewayFleet"]

GATEWAYS_OWNER = "gateways"
"""Whose the clusters of gateways are."""


class GatewayFleet(Record):
    """``on``: there are gateways, or are to be. ``asked_at``: when a service last needed one. ``clusters``:
    of one node each, those that end not included. ``failures``: launches in a row that came to nothing;
    nothing is launched before ``not_before``.
    """

    kind: ClassVar[str] = "gateway_fleet"

    on: bool = True
    reason: str = ""
    asked_at: float
    clusters: tuple[str, ...] = ()
    failures: int = 0
    not_before: float = 0.0
