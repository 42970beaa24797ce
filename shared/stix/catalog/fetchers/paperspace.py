"""Paperspace: ``GET /v1/machine-availability`` for what can be had; prices are not in any API of theirs.

The rows are the published ones that the caller passes (with their own ``as_of``), less what the API says is
not to be had.
"""

from __future__ import annotations

from collections.abc import Iterable

from stix.catalog.fetchers.collect import Rows
from stix.catalog.fetchers.web import PriceApi
from stix.catalog.row import CatalogRow
from stix.catalog.source import Fetched

__all__ = ["CLOUD", "fetch"]

CLOUD = "paperspace"
URL = "https://api.paperspace.com/v1/machine-availability"


def fetch(api: PriceApi, published: Iterable[CatalogRow]) -> Fetched:
    """The client sends ``Authorization: Bearer`` with a key."""
    rows = Rows(CLOUD, now=api.now())
    for row in published:
        answer = api.get(URL, params={"machineType": row.instance_type, "region": row.region})
        available = answer.get("available") if isinstance(answer, dict) else None
        if available is True:
            rows.add(row)
        elif available is False:
            rows.skip("not available")
        else:
            rows.malformed("available")
    return rows.finish()
