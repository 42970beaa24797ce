"""How old the catalog's prices are, for every command that shows some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stix.cli.amounts import age

if TYPE_CHECKING:
    from stix.catalog.index import CatalogIndex
    from stix.catalog.snapshot import ActiveCatalog

__all__ = ["prices_document", "prices_line"]


def prices_document(active: ActiveCatalog, index: CatalogIndex, now: float) -> dict[str, Any]:
    """Where the prices are from; the epoch seconds and the ages of the oldest and the newest."""
    clouds = index.clouds()
    oldest, newest = min(cloud.oldest for cloud in clouds), max(cloud.newest for cloud in clouds)
    return {
        "shipped": active.shipped,
        "oldest": oldest,
        "newest": newest,
        "oldest_age_seconds": max(0.0, now - oldest),
        "newest_age_seconds": max(0.0, now - newest),
    }


def prices_line(prices: dict[str, Any]) -> str:
    """``Prices that came with Stix, 14d to 1288d old. ...``, for people."""
    origin = "that came with Stix" if prices["shipped"] else "of this machine's catalog"
    newest, oldest = age(prices["newest_age_seconds"]), age(prices["oldest_age_seconds"])
    span = f"{newest} to {oldest}" if newest != oldest else oldest
    return f"Prices {origin}, {span} old (`stix catalog info`). `stix catalog refresh` fetches new ones."
