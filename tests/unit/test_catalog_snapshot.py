"""The catalog that ships, and the one that takes its place."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from catalog import typed_offers
from stix.catalog.accelerators import find_accelerator
from stix.catalog.own_rows import refresh_clouds, replace_clouds
from stix.catalog.row import ARCHITECTURES, CatalogRow
from stix.catalog.snapshot import SNAPSHOT, active_catalog, snapshot_rows, use_rows
from stix.catalog.source import WHOLE_CLOUD, Fetched, FetchError, Source
from stix.clouds.gcp.facts import sold_on_demand

ROWS = snapshot_rows()
MIB = 1024 * 1024
# The beginnings of 2023 and 2100.
OLDEST, NEWEST = 1_672_531_200, 4_102_444_800
ROW = CatalogRow("vast", "US", "", "1x-TEST", 4, 16, price=1.0, as_of=1_800_000_000.0, source="test")


def source(fetch: list[CatalogRow] | FetchError, cloud: str = "vast") -> Source:
    def answer(_: str) -> Fetched:
        if isinstance(fetch, FetchError):
            raise fetch
        return Fetched(tuple(fetch))

    return Source(cloud, lambda: (WHOLE_CLOUD,), answer, moving=True)


def offers(home: Path) -> list[CatalogRow]:
    index = active_catalog(home).open()
    try:
        return list(index.rows())
    finally:
        index.close()


def test_snapshot_has_the_clouds_and_the_number_of_offers_that_we_promise() -> None:
    counts = Counter(row.cloud for row in ROWS)
    assert len(ROWS) >= 3000
    assert set(counts) == {
        "aws", "azure", "gcp", "lambda", "runpod", "vast", "cudo", "paperspace", "oci", "ibm"
    }  # fmt: skip
    assert len({row.region for row in ROWS if row.cloud == "aws"}) >= 25
    assert len({row.region for row in ROWS if row.cloud == "azure"}) >= 30
    assert len({row.region for row in ROWS if row.cloud == "gcp"}) >= 20


@pytest.mark.parametrize("cloud", ["aws", "azure", "gcp"])
def test_snapshot_has_accelerators_and_arm_machines_of_each_large_cloud(cloud: str) -> None:
    found = [row for row in ROWS if row.cloud == cloud]
    assert {"A100", "A100-80GB", "H100"} <= {row.accelerator for row in found}
    assert "arm64" in {row.arch for row in found}


def test_every_offer_has_a_price_a_date_and_a_source() -> None:
    for row in ROWS:
        assert (row.price is None) == (row.cloud == "gcp" and not sold_on_demand(row.instance_type)), row
        prices = [price for price in (row.spot_price, row.price) if price is not None]
        assert prices == sorted(prices), row
        assert all(0 < price < 300 for price in prices), row
        assert prices, row
        assert OLDEST < row.as_of < NEWEST, row
        assert row.source.startswith("https://"), row
        assert row.arch in ARCHITECTURES, row
        assert row.vcpus > 0, row
        assert row.memory_gib > 0, row


def test_every_accelerator_has_figures_and_its_marketed_memory() -> None:
    for row in ROWS:
        if row.accelerator:
            spec = find_accelerator(row.accelerator)
            assert spec is not None, row
            assert row.accelerator_memory_gib == spec.memory_gb, row
            assert 0.1 < row.accelerator_count <= 16, row


@pytest.mark.parametrize(
    ("place", "name", "price"),
    [
        (("aws", "us-east-1"), "m5.large", 0.096),
        (("aws", "us-east-1"), "p5.48xlarge", 55.04),
        (("aws", "eu-central-1"), "g6.xlarge", 1.0064),
        (("azure", "eastus"), "Standard_D2s_v4", 0.096),
        (("azure", "westeurope"), "Standard_NC24ads_A100_v4", 4.775),
        (("gcp", "us-central1"), "a3-highgpu-8g", 88.49),
        (("gcp", "us-central1"), "n2-standard-4", 0.194236),
        (("oci", "us-ashburn-1"), "BM.GPU.H100.8", 80.0),
        (("lambda", "us-east-1"), "gpu_8x_h100_sxm5", 31.92),
    ],
)
def test_snapshot_has_the_published_price(place: tuple[str, str], name: str, price: float) -> None:
    found = {row.price for row in ROWS if (row.cloud, row.region) == place and row.instance_type == name}
    assert list(found) == pytest.approx([price])


def test_machines_with_accelerators_are_listed_by_zone_on_aws() -> None:
    zones = {row.zone for row in ROWS if row.instance_type == "g6.xlarge" and row.region == "us-east-1"}
    assert len(zones) > 1
    assert all(zone.startswith("us-east-1") for zone in zones)


def test_snapshot_is_small() -> None:
    assert SNAPSHOT.stat().st_size < MIB / 4


def test_shipped_catalog_is_used_and_nothing_is_written_when_the_home_has_none(tmp_path: Path) -> None:
    active = active_catalog(tmp_path / "home")
    assert active.shipped
    assert len(offers(tmp_path / "home")) == len(ROWS)
    assert not (tmp_path / "home").exists()


def test_own_catalog_wins(tmp_path: Path) -> None:
    use_rows(tmp_path, [ROW])
    assert not active_catalog(tmp_path).shipped
    assert offers(tmp_path) == [ROW]


def test_replaced_cloud_has_only_the_new_offers_and_others_stay(tmp_path: Path) -> None:
    total = replace_clouds(tmp_path, {"vast": [ROW]})
    found = offers(tmp_path)
    assert [row for row in found if row.cloud == "vast"] == [ROW]
    assert len(found) == total == len(ROWS) - sum(row.cloud == "vast" for row in ROWS) + 1


def test_replaced_cloud_forgets_what_was_fetched_of_its_regions(tmp_path: Path) -> None:
    fetched = [replace(ROW, region="US", instance_type="fetched")]
    regional = Source("vast", lambda: ("US",), lambda _: Fetched(tuple(fetched)), moving=True)
    refresh_clouds(tmp_path, [regional])
    assert "fetched" in {row.instance_type for row in offers(tmp_path)}
    replace_clouds(tmp_path, {"vast": [ROW]})
    assert [row for row in offers(tmp_path) if row.cloud == "vast"] == [ROW]


def test_refresh_replaces_what_was_fetched_and_keeps_the_rest(tmp_path: Path) -> None:
    broken = source(FetchError("the list could not be read"), cloud="oci")
    reports, total = refresh_clouds(tmp_path, [source([ROW]), broken])
    assert [(report.cloud, bool(report.error)) for report in reports] == [("vast", False), ("oci", True)]
    found = offers(tmp_path)
    assert len(found) == total
    assert [row for row in found if row.cloud == "vast"] == [ROW]
    assert Counter(row.cloud for row in found)["oci"] == Counter(row.cloud for row in ROWS)["oci"]


def test_refresh_that_fetched_nothing_leaves_the_shipped_catalog_in_use(tmp_path: Path) -> None:
    reports, total = refresh_clouds(tmp_path, [source(FetchError("no network"))])
    assert [report.error for report in reports] == ["no network"]
    assert total == len(ROWS)
    assert active_catalog(tmp_path).shipped


def test_every_typed_price_is_in_the_snapshot() -> None:
    shipped = {(row.cloud, row.region, row.zone, row.instance_type): row for row in ROWS}
    urls = typed_offers.sources()
    for typed in typed_offers.offers():
        row = shipped[typed.cloud, typed.region, typed.zone, typed.instance_type]
        assert row.as_of >= typed.as_of
        if row.as_of == typed.as_of:
            assert (row.price, row.spot_price) == (typed.price, typed.spot_price)
            assert row.source == urls[typed.source]
