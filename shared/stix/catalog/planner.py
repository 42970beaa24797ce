"""A plan with the catalog's own prices of data and disks: what ``stix plan`` shows and a launch follows."""

from __future__ import annotations

from stix.catalog.accelerators import accelerators
from stix.catalog.disks import disk_hourly_price
from stix.catalog.egress import egress_area, egress_tiers
from stix.optimizer.catalog import Catalog
from stix.optimizer.from_catalog import facts_of, rates_of
from stix.optimizer.optimize import optimize
from stix.optimizer.plan import Plan
from stix.optimizer.request import Request

__all__ = ["priced_plan"]


def priced_plan(request: Request, catalog: Catalog, *, now: float) -> Plan:
    """The best plan for ``request``. Raises ``NoOfferError`` and ``InvalidInputError``, as ``optimize``."""
    return optimize(
        request,
        catalog,
        now=now,
        rates=rates_of(egress_tiers, disk_hourly_price, egress_area),
        facts=facts_of(accelerators()),
    )
