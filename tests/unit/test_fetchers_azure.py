from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from stix.catalog.fetchers import azure
from stix.catalog.fetchers.azure_sizes import size_of
from stix.catalog.source import FetchError
from tests.unit.price_answers import NOW, answering, price_api

PRICES = "prices.azure.com/api/retail/prices"
SKUS = "management.azure.com/subscriptions/S/providers/Microsoft.Compute/skus"


def item(name: str = "Standard_D4s_v5", price: float = 0.192, **changes: Any) -> dict[str, Any]:
    short = name.removeprefix("Standard_").replace("_", " ")
    return {
        "currencyCode": "USD",
        "tierMinimumUnits": 0.0,
        "retailPrice": price,
        "unitPrice": price,
        "armRegionName": "westeurope",
        "location": "EU West",
        "effectiveStartDate": "2025-01-01T00:00:00Z",
        "meterId": f"meter {name} {changes.get('skuName')} {changes.get('productName')}",
        "meterName": short,
        "productId": "DZH318Z0BQPS",
        "skuId": f"{name}/00TG",
        "productName": "Virtual Machines Ddsv5 Series",
        "skuName": short,
        "serviceName": "Virtual Machines",
        "serviceFamily": "Compute",
        "unitOfMeasure": "1 Hour",
        "type": "Consumption",
        "isPrimaryMeterRegion": True,
        "armSkuName": name,
        **changes,
    }


def page(items: list[dict[str, Any]], *, more: bool = False) -> dict[str, Any]:
    link = f"https://{PRICES}?$skip=1000" if more else None
    return {"BillingCurrency": "USD", "Items": items, "NextPageLink": link, "Count": len(items)}


def fetch(*items: dict[str, Any]) -> Any:
    return azure.fetch(price_api(answering({PRICES: page(list(items))})), "westeurope")


def test_price_and_spot_price_of_a_size_are_one_row() -> None:
    (row,) = fetch(item(), item(price=0.04, skuName="D4s v5 Spot", meterName="D4s v5 Spot")).rows
    assert (row.region, row.zone, row.instance_type) == ("westeurope", "", "Standard_D4s_v5")
    assert (row.price, row.spot_price, row.vcpus, row.memory_gib) == (0.192, 0.04, 4, 16)
    assert row.as_of == NOW


@pytest.mark.parametrize(
    "other",
    [
        {"productName": "Virtual Machines Ddsv5 Series Windows"},
        {"productName": "Ddsv5 Series Cloud Services"},
        {"productName": "Dsv5 Series Dedicated Host"},
        {"skuName": "D4s v5 Low Priority"},
        {"type": "Reservation"},
        {"unitOfMeasure": "1/Month"},
        {"currencyCode": "EUR"},
        {"armRegionName": "northeurope"},
        {"armSkuName": "Basic_A1"},
        {"armSkuName": ""},
        {"effectiveStartDate": "2031-01-01T00:00:00Z"},
        {"retailPrice": 0.0},
    ],
)
def test_price_of_something_else_is_passed_over(other: dict[str, Any]) -> None:
    (row,) = fetch(item(price=9.9, meterId="other", **{"retailPrice": 9.9, **other}), item()).rows
    assert (row.price, row.spot_price) == (0.192, None)


@pytest.mark.parametrize("newest_first", [True, False])
def test_price_is_the_latest_that_has_begun(newest_first: bool) -> None:
    items = [item(price=0.2, effectiveStartDate="2026-08-01T00:00:00Z"), item(price=0.1)]
    (row,) = fetch(*(items if newest_first else items[::-1])).rows
    assert row.price == 0.2


def paging(
    items: list[dict[str, Any]], *, overlap: int = 0, asked: list[str] | None = None, size: int = 1000
) -> Any:
    """Pages of ``size`` of which each repeats ``overlap`` items of the one before, as when prices move."""

    def handler(request: httpx.Request) -> Any:
        skip = int(request.url.params["$skip"])
        if asked is not None:
            asked.append(request.url.params["$filter"])
        start = max(0, skip - overlap)
        return page(items[start : start + size], more=start + size < len(items))

    return answering({PRICES: handler})


@pytest.mark.parametrize(("size", "overlap"), [(1000, 0), (1000, 100), (100, 0)])
def test_every_page_is_read_whatever_its_length_and_overlap(size: int, overlap: int) -> None:
    sizes = [
        f"Standard_D{vcpus}{features}_v5" for vcpus in (2, 4, 8) for features in ("s", "ds", "as", "ads")
    ]
    noise = [item(f"Standard_B{number}", 1.0) for number in range(2300)]
    items = [*noise[:1990], *(item(name) for name in sizes), *noise[1990:]]
    fetched = azure.fetch(price_api(paging(items, overlap=overlap, size=size)), "westeurope")
    assert {row.instance_type for row in fetched.rows} == set(sizes)
    assert fetched.left_out == {"unknown size": 2300}


def test_pages_that_repeat_themselves_are_an_error() -> None:
    with pytest.raises(FetchError, match="repeats"):
        azure.fetch(price_api(answering({PRICES: page([item()], more=True)})), "westeurope")


def test_regions_are_where_common_sizes_have_a_price() -> None:
    asked: list[str] = []
    items = [
        item(armRegionName=name, meterId=name) for name in ("westeurope", "eastus2", "usgovvirginia", "")
    ]
    assert azure.regions(price_api(paging(items, asked=asked))) == ["eastus2", "usgovvirginia", "westeurope"]
    assert all(re.search("armSkuName eq 'Standard_D2s_v[35]'", query) for query in asked)


@pytest.mark.parametrize(
    ("name", "vcpus", "memory", "arch"),
    [
        ("Standard_D4s_v5", 4, 16, "x86_64"),
        ("Standard_D8pls_v5", 8, 16, "arm64"),
        ("Standard_E16ads_v5", 16, 128, "x86_64"),
        ("Standard_F8s_v2", 8, 16, "x86_64"),
        ("Standard_F8ams_v6", 8, 64, "x86_64"),
        ("Standard_F8als_v6", 8, 16, "x86_64"),
        ("Standard_D96ps_v6", 96, 384, "arm64"),
    ],
)
def test_size_is_read_from_a_regular_name(name: str, vcpus: float, memory: float, arch: str) -> None:
    size = size_of(name)
    assert size is not None
    assert (size.vcpus, size.memory_gib, size.arch, size.accelerator) == (vcpus, memory, arch, "")


@pytest.mark.parametrize(
    "name",
    [
        "Standard_E96s_v5",
        "Standard_E16-4s_v5",
        "Standard_B2s",
        "Standard_DC2s_v3",
        "Standard_M64s",
        "Standard_D2_v2",
    ],
)
def test_size_is_unknown_when_the_name_does_not_give_it(name: str) -> None:
    assert size_of(name) is None


def test_gpu_size_is_from_the_table() -> None:
    (row,) = fetch(item("Standard_ND96amsr_A100_v4", 32.77)).rows
    assert (row.accelerator, row.accelerator_count, row.accelerator_memory_gib) == ("A100-80GB", 8, 80)
    (row,) = fetch(item("Standard_NV6ads_A10_v5", 0.454)).rows
    assert (row.accelerator, row.accelerator_count) == ("A10", 0.167)


def sku(name: str, **told: str) -> dict[str, Any]:
    return {
        "resourceType": "virtualMachines",
        "name": name,
        "locations": ["westeurope"],
        "capabilities": [{"name": key, "value": value} for key, value in told.items()],
        "restrictions": [],
    }


def test_sizes_are_the_accounts_when_there_is_one() -> None:
    first = {
        "value": [
            sku("Standard_M64s", vCPUs="64", MemoryGB="1024", CpuArchitectureType="x64"),
            {"resourceType": "disks", "name": "P10"},
        ],
        "nextLink": f"https://{SKUS}?page=2",
    }
    second = {
        "value": [
            sku("Standard_E16-4s_v5", vCPUs="16", vCPUsAvailable="4", MemoryGB="128"),
            sku("Standard_NC24ads_A100_v4", vCPUs="24", MemoryGB="220", GPUs="1"),
            sku("Standard_NX1_v9", vCPUs="24", MemoryGB="220", GPUs="1"),
            sku("Standard_P2s_v9", vCPUs="2", MemoryGB="8", CpuArchitectureType="Arm64"),
        ]
    }

    def skus(request: httpx.Request) -> Any:
        assert request.headers["Authorization"] == "Bearer T"
        return second if "page" in request.url.params else first

    known = azure.sizes(price_api(answering({SKUS: skus})), subscription="S", token="T")
    assert set(known) == {
        "Standard_M64s",
        "Standard_E16-4s_v5",
        "Standard_NC24ads_A100_v4",
        "Standard_P2s_v9",
    }
    assert (known["Standard_E16-4s_v5"].vcpus, known["Standard_P2s_v9"].arch) == (4, "arm64")
    api = price_api(answering({PRICES: page([item("Standard_M64s", 6.7), item("Standard_NX1_v9", 1.0)])}))
    fetched = azure.fetch(api, "westeurope", known)
    assert [(row.instance_type, row.memory_gib) for row in fetched.rows] == [("Standard_M64s", 1024)]


@pytest.mark.parametrize(
    "broken", [item(effectiveStartDate="soon"), item(retailPrice="cheap"), {"armSkuName": "Standard_D2s_v5"}]
)
def test_prices_are_not_believed_when_many_are_broken(broken: dict[str, Any]) -> None:
    with pytest.raises(FetchError, match="malformed"):
        fetch({**broken, "meterId": "broken"}, item())
