"""Azure: mainstream series of the price table; sizes follow from the names."""

from __future__ import annotations

import re
from collections.abc import Iterator

from catalog.price_table import PriceTable
from stix.catalog.fetchers.azure_sizes import size_of
from stix.catalog.row import CatalogRow

__all__ = ["offers", "sized"]

# ``standardd2sv4`` -> ``Standard_D2s_v4``: premium-disk general, memory and compute series.
_KEY = re.compile(r"standard(?P<family>[def])(?P<vcpus>\d+)(?P<features>s|as|ds)v(?P<version>[2-5])")
# The table still has the names of regions that were closed, and those of other partitions.
_NOT_PUBLIC = re.compile(r"usgov.*|germanycentral|germanynortheast")


def offers(table: PriceTable) -> Iterator[CatalogRow]:
    for key, prices in table.compute["azure_linux"].items():
        match = _KEY.fullmatch(key)
        if (
            match is None
            or match["version"] not in "24"
            or (match["version"] == "2") != (match["family"] == "f")
        ):
            continue
        name = f"Standard_{match['family'].upper()}{match['vcpus']}{match['features']}_v{match['version']}"
        for region, price in prices.items():
            if price and not _NOT_PUBLIC.fullmatch(region):
                row = sized(name, region, price, as_of=table.as_of, source="libcloud")
                if row is not None:
                    yield row


def sized(
    name: str, region: str, price: float, *, as_of: float, source: str, spot_price: float | None = None
) -> CatalogRow | None:
    """None for a size whose figures its name does not give."""
    size = size_of(name)
    if size is None:
        return None
    return size.row(name, region, price=price, spot_price=spot_price, as_of=as_of, source=source)
