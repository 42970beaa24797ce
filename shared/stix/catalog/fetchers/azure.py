"""Azure: the public Retail Prices API, a region at a time, by ``$skip``, whatever the length of a page.

Sizes come from their names (``azure_sizes``), or, given an account, all of them from the Resource SKUs API.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from stix.catalog.fetchers.azure_sizes import Size, size_of
from stix.catalog.fetchers.collect import Rows, items, number
from stix.catalog.fetchers.web import PriceApi, epoch
from stix.catalog.source import Fetched, FetchError

__all__ = ["CLOUD", "fetch", "regions", "sizes"]

CLOUD = "azure"
URL = "https://prices.azure.com/api/retail/prices"
SKUS_URL = "https://management.azure.com/subscriptions/{subscription}/providers/Microsoft.Compute/skus"
_MOST_PAGES = 600
_EVERYWHERE = ("Standard_D2s_v3", "Standard_D2s_v5")
"""Sizes that are sold in every region: their prices list the regions."""
_OTHER_PRODUCTS = ("Windows", "Cloud Services", "CloudServices", "Dedicated")
_ARM_REGION = re.compile(r"[a-z]+[a-z0-9]*", re.ASCII)


def regions(api: PriceApi) -> list[str]:
    """Names of the regions with prices. Commercial and government ones alike."""
    found: set[str] = set()
    for size in _EVERYWHERE:
        for item in _walk(api, f"{_VIRTUAL_MACHINES} and armSkuName eq '{size}'"):
            name = item.get("armRegionName")
            if isinstance(name, str) and _ARM_REGION.fullmatch(name):
                found.add(name)
    if not found:
        raise FetchError("azure: no region has a price.")
    return sorted(found)


_VIRTUAL_MACHINES = "serviceName eq 'Virtual Machines' and priceType eq 'Consumption'"


def fetch(api: PriceApi, region: str, known: Mapping[str, Size] | None = None) -> Fetched:
    """The Linux prices of one region. ``known``: what ``sizes`` found; without it, what names give away."""
    now = api.now()
    rows = Rows(CLOUD, now=now)
    newest: dict[tuple[str, bool], tuple[float, float]] = {}
    for item in _walk(api, f"{_VIRTUAL_MACHINES} and armRegionName eq '{region}'"):
        try:
            _take(item, region, newest, now)
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            rows.malformed(type(exc).__name__)
    for name in sorted({name for name, _ in newest}):
        size = known.get(name) if known is not None else size_of(name)
        if size is None:
            rows.skip("unknown size")
            continue
        price, spot_price = (newest.get((name, spot), (0.0, None))[1] for spot in (False, True))
        rows.add(size.row(name, region, price=price, spot_price=spot_price, as_of=now, source=URL))
    return rows.finish()


def _walk(api: PriceApi, query: str) -> Iterator[dict[str, Any]]:
    """Each price once, whatever the pages repeat. ``NextPageLink`` only says whether another page follows.

    Raises ``FetchError`` when a page brings nothing new: the service then repeats itself for ever.
    """
    seen: set[tuple[Any, ...]] = set()
    skip = 0
    for _ in range(_MOST_PAGES):
        params = {"api-version": "2023-01-01-preview", "currencyCode": "USD", "$filter": query}
        page = api.get(URL, params={**params, "$skip": str(skip)})
        listed = items(page, "Items")
        skip += len(listed)
        before = len(seen)
        for item in listed:
            if not isinstance(item, dict):
                continue
            fields = ("meterId", "skuId", "armSkuName", "effectiveStartDate", "tierMinimumUnits")
            identity = tuple(item.get(field) for field in fields)
            if identity not in seen:
                seen.add(identity)
                yield item
        if not listed or not page.get("NextPageLink"):
            return
        if len(seen) == before:
            raise FetchError("azure: a page of prices repeats the ones before it.")
    raise FetchError(f"azure: more than {_MOST_PAGES} pages of prices.")


def _take(
    item: dict[str, Any], region: str, newest: dict[tuple[str, bool], tuple[float, float]], now: float
) -> None:
    """Keep the price that applies now: the latest start that is not in the future."""
    name, sku = str(item["armSkuName"] or ""), str(item["skuName"])
    if item["armRegionName"] != region or not name.startswith("Standard_"):
        return
    if any(word in str(item["productName"]) for word in _OTHER_PRODUCTS) or "Low Priority" in sku:
        return
    if item["type"] != "Consumption" or item["unitOfMeasure"] != "1 Hour" or item["currencyCode"] != "USD":
        return
    since = epoch(item["effectiveStartDate"])
    price = number(item["retailPrice"])
    if since > now or price == 0:
        return
    key = (name, sku.endswith(" Spot"))
    if key not in newest or since > newest[key][0]:
        newest[key] = (since, price)


def sizes(api: PriceApi, *, subscription: str, token: str) -> dict[str, Size]:
    """All virtual machine sizes by name. GPU models, which the API does not tell, are ``azure_sizes``'."""
    found: dict[str, Size] = {}
    url = SKUS_URL.format(subscription=subscription)
    params: dict[str, str] | None = {"api-version": "2021-07-01"}
    visited: set[str] = set()
    while url and url not in visited:
        visited.add(url)
        page = api.get(url, params=params, headers={"Authorization": f"Bearer {token}"})
        for sku in items(page, "value"):
            try:
                size = _size(sku)
            except (AttributeError, KeyError, TypeError, ValueError):
                continue  # of no use without its figures; its price is then counted as of an unknown size
            if size is not None:
                found[sku["name"]] = size
        url, params = page.get("nextLink") or "", None
    if not found:
        raise FetchError("azure: the Resource SKUs API lists no virtual machine.")
    return found


def _size(sku: dict[str, Any]) -> Size | None:
    if sku["resourceType"] != "virtualMachines":
        return None
    named = size_of(sku["name"])
    if named is not None and named.accelerator:
        return named
    told = {one["name"]: one["value"] for one in sku["capabilities"]}
    if number(told.get("GPUs") or 0):
        return None
    vcpus = number(told.get("vCPUsAvailable") or told["vCPUs"])
    arch = "arm64" if told.get("CpuArchitectureType") == "Arm64" else "x86_64"
    return Size(vcpus, number(told["MemoryGB"]), arch=arch)
