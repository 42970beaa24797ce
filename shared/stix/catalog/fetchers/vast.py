"""Vast.ai: ``POST /api/v0/bundles``, a market of single machines.

There are no types and no pages: offers are walked in the order of their ids until an answer is empty, and
machines alike in GPU, count, size and country become one row with the lowest price of them. Disk is priced by
the gigabyte and hour apart from ``dph_base``, so it is not in the row's price.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from stix.catalog.fetchers.collect import Rows, items, number
from stix.catalog.fetchers.names import accelerator_name
from stix.catalog.fetchers.web import PriceApi
from stix.catalog.row import CatalogRow
from stix.catalog.source import Fetched, FetchError

__all__ = ["CLOUD", "fetch"]

CLOUD = "vast"
URL = "https://console.vast.ai/api/v0/bundles"
_PAGE = 1000
_MOST_PAGES = 200
_COUNTS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16)


def fetch(api: PriceApi) -> Fetched:
    """Works without a key."""
    now = api.now()
    rows = Rows(CLOUD, now=now)
    cheapest: dict[tuple[str, str], CatalogRow] = {}
    last = 0
    for _ in range(_MOST_PAGES):
        offers = items(api.post(URL, _question(last)), "offers")
        if not offers:
            break
        last = _greatest(offers, last)
        for offer in offers:
            try:
                row = _row(offer, rows, now)
            except (AttributeError, KeyError, TypeError, ValueError) as exc:
                rows.malformed(type(exc).__name__)
                continue
            if row is not None:
                key = (row.region, row.instance_type)
                cheapest[key] = _cheaper(cheapest.get(key), row)
    else:
        raise FetchError(f"vast: more than {_MOST_PAGES} pages of offers.")
    for row in cheapest.values():
        rows.add(row)
    return rows.finish()


def _question(last: int) -> dict[str, Any]:
    return {
        "type": "ondemand",
        "verified": {"eq": True},
        "rentable": {"eq": True},
        "rented": {"eq": False},
        "num_gpus": {"in": list(_COUNTS)},
        "id": {"gt": last},
        "order": [["id", "asc"]],
        "limit": _PAGE,
    }


def _greatest(offers: list[Any], last: int) -> int:
    """The last id of a page. Raises ``FetchError`` when it is not past ``last``: the walk would never end."""
    ids = [offer["id"] for offer in offers if isinstance(offer, dict) and isinstance(offer.get("id"), int)]
    if not ids or max(ids) <= last:
        raise FetchError("vast: a page of offers repeats the one before it.")
    return int(max(ids))


def _row(offer: dict[str, Any], rows: Rows, now: float) -> CatalogRow | None:
    name, memory = str(offer["gpu_name"]), number(offer["gpu_ram"]) / 1024
    count = int(number(offer["num_gpus"]))
    accelerator = accelerator_name(name, memory_gib=memory)
    if not accelerator:
        rows.skip(f"unknown accelerator: {name}")
        return None
    country = str(offer["geolocation"] or "").rpartition(",")[2].strip()
    if len(country) != 2:
        rows.skip("no country")
        return None
    # Machines differ by a few megabytes and half cores: rounded down, so that like ones are one row.
    vcpus, ram_gib = int(number(offer["cpu_cores_effective"])), int(number(offer["cpu_ram"]) / 1024)
    if vcpus < 1 or ram_gib < 1:
        rows.skip("under one core or gigabyte")
        return None
    bid = number(offer["min_bid"]) if offer.get("min_bid") else 0.0
    return CatalogRow(
        cloud=CLOUD,
        region=country,
        zone="",
        instance_type=f"{count}x-{name.replace(' ', '_')}-{vcpus}-{ram_gib * 1024}",
        vcpus=vcpus,
        memory_gib=ram_gib,
        accelerator=accelerator,
        accelerator_count=count,
        accelerator_memory_gib=round(memory, 2),
        arch="arm64" if offer.get("cpu_arch") in ("arm64", "aarch64") else "x86_64",
        price=round(number(offer["dph_base"]), 6),
        spot_price=round(bid, 6) if bid > 0 else None,
        as_of=now,
        source=URL,
    )


def _cheaper(one: CatalogRow | None, other: CatalogRow) -> CatalogRow:
    """The cheaper machine's row with the lowest bid of both."""
    if one is None:
        return other
    bids = [row.spot_price for row in (one, other) if row.spot_price is not None]
    cheaper = min(one, other, key=lambda row: row.price or 0.0)
    return replace(cheaper, spot_price=min(bids, default=None))
