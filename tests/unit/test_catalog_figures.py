"""Accelerators' figures, egress tiers and disk prices: the tables that ship, and what is read from them."""

from __future__ import annotations

import csv
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import stix.catalog
from stix.catalog.accelerators import accelerators, find_accelerator, marketed_memory
from stix.catalog.disks import HOURS_PER_MONTH, disk_hourly_price, disk_price
from stix.catalog.egress import EgressTier, egress_area, egress_cost, egress_kind, egress_tiers
from stix.model.accelerators import MANUFACTURERS

DATA = Path(stix.catalog.__file__).parent / "data"
TEN_TB, FIFTY_TB = 10_240.0, 51_200.0


def lines(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_accelerators_are_at_least_40_with_every_figure_and_a_listed_source() -> None:
    specs = accelerators().values()
    assert len(specs) >= 40
    listed = (Path(__file__).parents[2] / "docs" / "reference" / "catalog.md").read_text()
    for spec in specs:
        assert spec.manufacturer in MANUFACTURERS, spec
        assert 4 <= spec.memory_gb <= 300, spec
        assert 2 <= spec.fp16_tflops <= 3000, spec
        assert 40 <= spec.bandwidth_gb_s <= 9000, spec
        assert f"`{spec.source}`" in listed, spec


def test_names_and_aliases_of_accelerators_mean_one_each() -> None:
    names = [name.lower() for spec in accelerators().values() for name in (spec.name, *spec.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("asked", "found"),
    [("h100", "H100"), ("A6000", "RTXA6000"), ("a100-sxm4-80gb", "A100-80GB-SXM"), ("TPU-V5E", "tpu-v5e")],
)
def test_accelerator_is_found_by_name_and_alias_in_any_case(asked: str, found: str) -> None:
    spec = find_accelerator(asked)
    assert spec is not None
    assert spec.name == found


@pytest.mark.parametrize(
    ("name", "reported", "memory"),
    [
        ("H100", 79.6, 80),
        ("A10G", 22.4, 24),
        ("L4", 0, 24),
        ("RTX4090", 48, 48),
        ("Zeta9", 7, 7),
        ("Zeta9", 0, 0),
    ],
)
def test_reported_memory_becomes_the_marketed_when_it_is_about_that(
    name: str, reported: float, memory: float
) -> None:
    assert marketed_memory(name, reported) == memory


def test_accelerator_is_none_when_it_is_not_in_the_table() -> None:
    assert find_accelerator("H1000") is None


@pytest.mark.parametrize("name", ["egress.csv", "disks.csv"])
def test_every_price_has_a_source_and_a_date(name: str) -> None:
    for line in lines(name):
        assert line["source"].startswith("https://"), line
        assert date.fromisoformat(line["as_of"]) > date(2020, 1, 1), line


def test_tiers_of_every_route_grow_and_end_without_a_limit() -> None:
    routes: dict[tuple[str, ...], list[float]] = {}
    for line in lines("egress.csv"):
        key = (line["cloud"], line["kind"], line["from_region"], line["to_region"])
        routes.setdefault(key, []).append(float(line["up_to_gb"] or "inf"))
    for key, limits in routes.items():
        assert limits == sorted(set(limits)), key
        assert limits[-1] == float("inf"), key


@pytest.mark.parametrize(
    ("places", "kind"),
    [
        (("aws", "us-east-1", "gcp", "us-central1"), "internet"),
        (("aws", "us-east-1", "aws", "us-west-2"), "between_regions"),
        (("aws", "us-east-1", "aws", "us-east-1"), "within_region"),
    ],
)
def test_kind_of_egress_follows_from_the_two_places(places: tuple[str, str, str, str], kind: str) -> None:
    assert egress_kind(*places) == kind


@pytest.mark.parametrize(
    ("places", "first"),
    [
        (("aws", "us-east-1", "gcp", "us-central1"), 0.09),
        (("aws", "sa-east-1", "gcp", "us-central1"), 0.15),
        (("aws", "us-east-1", "aws", "us-west-2"), 0.02),
        (("aws", "us-east-1", "aws", "us-east-2"), 0.01),
        (("aws", "ap-south-1", "aws", "us-east-1"), 0.086),
        (("gcp", "us-central1", "gcp", "us-east1"), 0.02),
        (("gcp", "us-central1", "gcp", "europe-west4"), 0.05),
        (("gcp", "us-central1", "gcp", "asia-east1"), 0.08),
        (("azure", "eastus", "azure", "westus2"), 0.02),
        (("azure", "eastus", "azure", "westeurope"), 0.05),
        (("azure", "brazilsouth", "aws", "us-east-1"), 0.181),
        (("oci", "us-ashburn-1", "aws", "us-east-1"), 0.0),
        (("lambda", "us-east-1", "aws", "us-east-1"), 0.0),
    ],
)
def test_first_tier_is_that_of_the_nearest_rule(places: tuple[str, str, str, str], first: float) -> None:
    tiers = egress_tiers(*places)
    assert tiers is not None
    assert tiers[0].usd_per_gb == first


REGIONS = [
    ("aws", region)
    for region in ("us-east-1", "us-east-2", "us-west-1", "us-west-2", "eu-west-1", "sa-east-1")
]
REGIONS += [
    ("gcp", region)
    for region in ("us-central1", "us-west1", "europe-west4", "me-west1", "southamerica-east1")
]
REGIONS += [("azure", region) for region in ("eastus", "eastus2", "westeurope", "brazilsouth", "japaneast")]


def test_regions_of_one_area_pay_the_same_to_every_other_place() -> None:
    pairs = [
        (one, other)
        for one in REGIONS
        for other in REGIONS
        if one != other and one[0] == other[0] and egress_area(*one) == egress_area(*other)
    ]
    assert {("aws", "us-west-1"), ("aws", "us-west-2")} in [set(pair) for pair in pairs]
    for one, other in pairs:
        assert egress_tiers(*one, *other) == egress_tiers(*other, *one)
        for third in REGIONS:
            if third not in (one, other):
                assert egress_tiers(*one, *third) == egress_tiers(*other, *third)
                assert egress_tiers(*third, *one) == egress_tiers(*third, *other)


def test_area_differs_when_one_route_has_its_own_price() -> None:
    assert egress_area("aws", "us-east-1") != egress_area("aws", "us-west-2")
    assert egress_area("gcp", "europe-west4") != egress_area("gcp", "us-central1")


def test_tiers_are_none_when_nothing_is_published() -> None:
    assert egress_tiers("vast", "US", "aws", "us-east-1") is None


@pytest.mark.parametrize(
    ("gb", "usd"),
    [
        (0, 0),
        (1, 0.09),
        (TEN_TB, 921.6),
        (TEN_TB + 100, 921.6 + 8.5),
        (FIFTY_TB, 921.6 + 40_960 * 0.085),
        (200_000, 921.6 + 40_960 * 0.085 + 102_400 * 0.07 + 46_400 * 0.05),
    ],
)
def test_cost_of_egress_goes_through_the_tiers(gb: float, usd: float) -> None:
    tiers = egress_tiers("aws", "us-east-1", "gcp", "us-central1")
    assert tiers is not None
    assert egress_cost(gb, tiers) == pytest.approx(usd)


@given(
    st.lists(st.tuples(st.floats(1, 1e5), st.floats(0, 1)), max_size=4, unique_by=lambda tier: tier[0]),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
)
def test_cost_of_egress_never_falls_with_the_volume(
    limits: list[tuple[float, float]], less: float, more: float
) -> None:
    tiers = (*(EgressTier(*tier) for tier in sorted(limits)), EgressTier(float("inf"), 0.01))
    less, more = sorted((less, more))
    assert egress_cost(less, tiers) <= egress_cost(more, tiers) + 1e-6


def test_disk_costs_by_the_gb_and_for_its_extra_performance() -> None:
    high = disk_price("aws", "high")
    assert high is not None
    assert high.usd_per_month == 35
    assert disk_hourly_price("aws", "high", 100) == pytest.approx((8 + 35) / HOURS_PER_MONTH)


def test_disk_costs_nothing_when_no_price_is_published() -> None:
    assert disk_price("lambda", "medium") is None
    assert disk_hourly_price("lambda", "medium", 1000) == 0


def test_disk_tier_is_medium_when_none_is_asked_and_best_is_the_highest_there_is() -> None:
    assert disk_price("aws", "") == disk_price("aws", "medium")
    assert disk_price("aws", "best") == disk_price("aws", "ultra")
    assert disk_price("azure", "best") == disk_price("azure", "high")
    assert disk_price("vast", "best") is None


def test_disks_cost_more_from_tier_to_tier() -> None:
    for cloud in ("aws", "gcp", "azure", "oci"):
        tiers = ("low", "medium", "high", *(("ultra",) if disk_price(cloud, "ultra") else ()))
        prices = [disk_hourly_price(cloud, tier, 500) for tier in tiers]
        assert prices == sorted(set(prices)), cloud
