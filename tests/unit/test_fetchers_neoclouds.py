from __future__ import annotations

from typing import Any

import httpx
import pytest

from stix.catalog.fetchers import cudo, ibm, lambda_cloud, oci, paperspace, runpod, vast
from stix.catalog.row import CatalogRow
from stix.catalog.source import FetchError
from tests.unit.price_answers import (
    NOW,
    answering,
    body_of,
    cudo_type,
    lambda_answer,
    lambda_type,
    price_api,
    runpod_answers,
    runpod_gpu,
    runpod_sizes,
    vast_offer,
)

LAMBDA = "cloud.lambda.ai/api/v1/instance-types"
VAST = "console.vast.ai/api/v0/bundles"
CUDO = "rest.compute.cudo.org/v1/vms/machine-types-2"
PAPERSPACE = "api.paperspace.com/v1/machine-availability"
OCI = "www.oracle.com/a/ocom/docs/cloudestimator2/data"


# Lambda


def test_lambda_has_a_row_in_every_region_with_capacity() -> None:
    fetched = lambda_cloud.fetch(price_api(answering({LAMBDA: lambda_answer(lambda_type())})))
    assert [row.region for row in fetched.rows] == ["us-west-1", "us-east-1"]
    row = fetched.rows[0]
    assert (row.instance_type, row.accelerator, row.accelerator_count) == ("gpu_8x_h100_sxm5", "H100", 8)
    assert (row.vcpus, row.memory_gib, row.accelerator_memory_gib, row.local_disk_gib) == (
        208,
        1800,
        80,
        22528,
    )
    assert (row.price, row.spot_price, row.as_of) == (23.92, None, NOW)


@pytest.mark.parametrize(
    ("described", "accelerator", "arch"),
    [
        ("A100 (40 GB SXM4)", "A100", "x86_64"),
        ("A100 (80 GB SXM4)", "A100-80GB", "x86_64"),
        ("RTX 6000 (24 GB)", "RTX6000", "x86_64"),
        ("A6000 (48 GB)", "A6000", "x86_64"),
        ("GH200 (96 GB)", "GH200", "arm64"),
        ("B200 (180 GB SXM6)", "B200", "x86_64"),
        ("Tesla V100 (16 GB)", "V100", "x86_64"),
    ],
)
def test_lambda_gpu_is_named_as_in_the_catalog(described: str, accelerator: str, arch: str) -> None:
    answer = lambda_answer(lambda_type("x", described, regions=("us-west-1",)))
    (row,) = lambda_cloud.fetch(price_api(answering({LAMBDA: answer}))).rows
    assert (row.accelerator, row.arch) == (accelerator, arch)


def test_lambda_leaves_out_with_the_reason_what_is_no_offer() -> None:
    answer = lambda_answer(
        lambda_type(),
        lambda_type("cpu_4x_general", "N/A", cents=20, gpus=0),
        lambda_type("gpu_1x_new", "Future 9 (1 GB)"),
        lambda_type("gpu_1x_a10", "A10 (24 GB PCIe)", regions=()),
    )
    fetched = lambda_cloud.fetch(price_api(answering({LAMBDA: answer})))
    assert {row.instance_type for row in fetched.rows} == {"gpu_8x_h100_sxm5", "cpu_4x_general"}
    assert fetched.left_out == {"unknown accelerator: Future 9 (1 GB)": 1, "no capacity anywhere": 1}


@pytest.mark.parametrize("answer", [[], {"data": []}, {"error": {"code": "x"}}])
def test_lambda_is_not_believed_when_the_format_changed(answer: Any) -> None:
    with pytest.raises(FetchError, match="format may have changed"):
        lambda_cloud.fetch(price_api(answering({LAMBDA: answer})))


def test_lambda_is_not_believed_when_records_are_broken() -> None:
    broken = lambda_type("gpu_1x_a10", "A10 (24 GB PCIe)")
    del broken["instance_type"]["specs"]["vcpus"]
    with pytest.raises(FetchError, match="malformed: KeyError"):
        lambda_cloud.fetch(price_api(answering({LAMBDA: lambda_answer(lambda_type(), broken)})))


# RunPod


def test_runpod_has_a_row_per_tier_count_and_data_centre() -> None:
    fetched = runpod.fetch(price_api(answering(runpod_answers(runpod_gpu(), runpod_sizes()))))
    gpus = [row for row in fetched.rows if row.accelerator]
    assert len(gpus) == 2 * (4 + 1)  # two places; secure 1, 2, 4 and 8, community 1
    by_place = {(row.instance_type, row.zone): row for row in gpus}
    row = by_place["4x_H100-SXM_SECURE", "EUR-IS-1"]
    assert (row.region, row.vcpus, row.memory_gib, row.accelerator_memory_gib) == ("IS", 64, 500, 80)
    assert (row.price, row.spot_price) == (11.96, 7.0)
    assert by_place["1x_H100-SXM_COMMUNITY", "US-KS-2"].price == 2.69
    assert by_place["1x_H100-SXM_COMMUNITY", "US-KS-2"].spot_price is None


def test_runpod_leaves_out_places_without_stock_and_counts_without_a_size() -> None:
    sizes = runpod_sizes(secure8={"minVcpu": None, "minMemory": None})
    fetched = runpod.fetch(price_api(answering(runpod_answers(runpod_gpu(), sizes))))
    assert "CA-MTL-1" not in {row.zone for row in fetched.rows}
    assert "8x_H100-SXM_SECURE" not in {row.instance_type for row in fetched.rows}
    assert fetched.left_out == {"out of stock: no size known": 1}


def test_runpod_cpus_come_in_powers_of_two() -> None:
    fetched = runpod.fetch(price_api(answering(runpod_answers(runpod_gpu(), runpod_sizes()))))
    cpus = [row for row in fetched.rows if not row.accelerator]
    assert [(row.instance_type, row.vcpus, row.memory_gib, row.price) for row in cpus] == [
        ("cpu3c-2-4", 2, 4, 0.06),
        ("cpu3c-4-8", 4, 8, 0.12),
        ("cpu3c-8-16", 8, 16, 0.24),
    ]
    assert {(row.region, row.zone) for row in cpus} == {("RO", "EU-RO-1")}


def test_runpod_asks_for_stock_with_the_product_that_it_requires() -> None:
    asked: list[httpx.URL] = []

    def gpus(request: httpx.Request) -> Any:
        asked.append(request.url)
        return {"gpus": [runpod_gpu()]}

    answers = {**runpod_answers(runpod_gpu(), runpod_sizes()), "api.runpod.io/v2/catalog/gpus": gpus}
    runpod.fetch(price_api(answering(answers)))
    assert [dict(url.params) for url in asked] == [
        {"include": "AVAILABILITY", "product": "POD", "cloud": cloud} for cloud in ("SECURE", "COMMUNITY")
    ]


def test_runpod_fails_with_its_words_when_graphql_refuses() -> None:
    refusal = {"errors": [{"message": 'Cannot query field "minVcpu"'}]}
    with pytest.raises(FetchError, match="Cannot query field"):
        runpod.fetch(price_api(answering(runpod_answers(runpod_gpu(), refusal))))


def test_runpod_machine_has_no_place_when_it_is_sold_out_everywhere() -> None:
    gone = runpod_gpu(availability="NONE")
    del gone["dataCenters"]  # as documented: omitted entirely
    fetched = runpod.fetch(price_api(answering(runpod_answers(gone, runpod_sizes()))))
    assert not [row for row in fetched.rows if row.accelerator]


# Vast


def vast_server(offers: list[dict[str, Any]], page: int = 2) -> Any:
    """Filters and cuts as the API does: ids above the one asked for, in order, a page at most."""

    def handler(request: httpx.Request) -> Any:
        after = body_of(request)["id"]["gt"]
        assert body_of(request)["order"] == [["id", "asc"]]
        left = sorted((offer for offer in offers if offer["id"] > after), key=lambda offer: offer["id"])
        return {"offers": left[:page]}

    return answering({VAST: handler})


def test_vast_walks_every_page_when_they_are_shorter_than_asked() -> None:
    offers = [
        vast_offer(number, geolocation=f"Somewhere, {code}")
        for number, code in enumerate(("CZ", "US", "DE", "FR", "TH"), start=7)
    ]
    fetched = vast.fetch(price_api(vast_server(offers)))
    assert {row.region for row in fetched.rows} == {"CZ", "US", "DE", "FR", "TH"}


def test_vast_like_machines_are_one_row_at_the_lowest_price_and_bid() -> None:
    offers = [
        vast_offer(1, dph_base=0.9, min_bid=0.3, cpu_ram=65700),
        vast_offer(2, dph_base=0.7, min_bid=0.5),
        vast_offer(3, num_gpus=4, dph_base=1.4),
    ]
    fetched = vast.fetch(price_api(vast_server(offers)))
    assert {row.instance_type: (row.price, row.spot_price) for row in fetched.rows} == {
        "2x-RTX_4090-32-65536": (0.7, 0.3),
        "4x-RTX_4090-32-65536": (1.4, 0.4),
    }
    row = fetched.rows[0]
    assert (row.accelerator, row.accelerator_count, row.vcpus, row.memory_gib) == ("RTX4090", 2, 32, 64)


def test_vast_fails_when_a_page_is_repeated() -> None:
    with pytest.raises(FetchError, match="repeats"):
        vast.fetch(price_api(answering({VAST: {"offers": [vast_offer(1)]}})))


def test_vast_leaves_out_machines_that_nobody_can_place() -> None:
    offers = [
        vast_offer(1),
        vast_offer(2, geolocation=None),
        vast_offer(3, gpu_name="GTX 480"),
        vast_offer(4, cpu_cores_effective=0.5),
    ]
    fetched = vast.fetch(price_api(vast_server(offers, page=9)))
    assert len(fetched.rows) == 1
    assert fetched.left_out == {
        "no country": 1,
        "unknown accelerator: GTX 480": 1,
        "under one core or gigabyte": 1,
    }


# Cudo


def test_cudo_price_is_linear_in_what_is_asked() -> None:
    fetched = cudo.fetch(price_api(answering({CUDO: {"machineTypes": [cudo_type()]}})))
    rows = {row.instance_type: row for row in fetched.rows}
    row = rows["ice-lake-a40-compute_1x4v8gb"]
    assert row.price == pytest.approx(4 * 0.0025 + 8 * 0.0036 + 0.3504 + 0.0035)
    assert (row.accelerator, row.accelerator_count, row.accelerator_memory_gib) == ("A40", 1, 48)
    twice = rows["ice-lake-a40-compute_2x4v8gb"]
    assert twice.price == pytest.approx(row.price + 0.3504)


def test_cudo_sizes_keep_to_the_bounds_of_the_type() -> None:
    fetched = cudo.fetch(price_api(answering({CUDO: {"machineTypes": [cudo_type()]}})))
    assert fetched.rows
    for row in fetched.rows:
        assert row.accelerator_count <= 2
        assert row.vcpus <= min(24, 13 * row.accelerator_count)
        assert 0.25 * row.memory_gib <= row.vcpus <= row.memory_gib <= 64


def test_cudo_type_without_gpu_is_a_plain_machine() -> None:
    plain = cudo_type(gpuModel="", gpuModelId="", gpuPriceHr=None, maxGpuFree=0, machineType="epyc-milan")
    fetched = cudo.fetch(price_api(answering({CUDO: {"machineTypes": [plain]}})))
    assert fetched.rows
    assert all(
        row.accelerator == "" and row.instance_type.startswith("epyc-milan_0x") for row in fetched.rows
    )


@pytest.mark.parametrize("changes", [{"vcpuPriceHr": {"value": "cheap"}}, {"gpuPriceHr": {"amount": "1"}}])
def test_cudo_is_not_believed_when_a_price_is_broken(changes: dict[str, Any]) -> None:
    with pytest.raises(FetchError, match="malformed"):
        cudo.fetch(price_api(answering({CUDO: {"machineTypes": [cudo_type(**changes)]}})))


# Paperspace


def published(cloud: str, region: str, name: str, price: float = 5.95, **changes: Any) -> CatalogRow:
    figures = {"vcpus": 16.0, "memory_gib": 64.0, "as_of": NOW - 1e6, "source": "list", **changes}
    return CatalogRow(cloud, region, "", name, price=price, **figures)


def test_paperspace_keeps_the_published_price_and_age_of_what_is_available() -> None:
    rows = [published("paperspace", "ny2", name) for name in ("H100", "A100")]

    def available(request: httpx.Request) -> Any:
        assert request.url.params["region"] == "ny2"
        return {"available": request.url.params["machineType"] == "H100"}

    fetched = paperspace.fetch(price_api(answering({PAPERSPACE: available})), rows)
    assert fetched.rows == (rows[0],)
    assert fetched.left_out == {"not available": 1}


def test_paperspace_is_not_believed_when_it_does_not_say() -> None:
    with pytest.raises(FetchError, match="malformed: available"):
        paperspace.fetch(price_api(answering({PAPERSPACE: {}})), [published("paperspace", "ny2", "H100")])


# IBM


def ibm_profile(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "family": "gpu",
        "status": "current",
        "resource_type": "instance_profile",
        "vcpu_architecture": {"type": "fixed", "value": "amd64", "default": "amd64"},
        "vcpu_count": {"type": "fixed", "value": 16},
        "memory": {"type": "fixed", "value": 80},
        **changes,
    }


def ibm_answers(*profiles: dict[str, Any], token: Any = None) -> dict[str, Any]:
    home = "us-south.iaas.cloud.ibm.com/v1"
    region = {"name": "eu-de", "endpoint": "https://eu-de.iaas.cloud.ibm.com", "status": "available"}
    closed = {"name": "eu-xx", "endpoint": "https://eu-xx.iaas.cloud.ibm.com", "status": "unavailable"}
    zones = [{"name": f"eu-de-{number}", "status": "available"} for number in (1, 2)]

    def listed(request: httpx.Request) -> Any:
        assert request.headers["Authorization"] == "Bearer T"
        assert request.url.params["generation"] == "2"
        return {"profiles": list(profiles)}

    return {
        "iam.cloud.ibm.com/identity/token": token or {"access_token": "T", "expires_in": 3600},
        f"{home}/regions": {"regions": [region, closed]},
        f"{home}/regions/eu-de/zones": {"zones": zones},
        "eu-de.iaas.cloud.ibm.com/v1/instance/profiles": listed,
    }


def test_ibm_joins_live_profiles_and_zones_with_published_prices() -> None:
    gpu = ibm_profile(
        "gx3-16x80x1l4",
        gpu_count={"type": "fixed", "value": 1},
        gpu_model={"type": "enum", "values": ["L4"]},
        gpu_memory={"type": "fixed", "value": 24},
    )
    answers = ibm_answers(gpu, ibm_profile("bx2-16x64"), ibm_profile("cx3d-2x5"))
    prices = [published("ibm", "eu-de", "gx3-16x80x1l4", 0.98), published("ibm", "us-south", "bx2-16x64")]
    fetched = ibm.fetch(price_api(answering(answers)), prices, key="K")
    assert [(row.zone, row.price, row.as_of) for row in fetched.rows] == [
        ("eu-de-1", 0.98, NOW - 1e6),
        ("eu-de-2", 0.98, NOW - 1e6),
    ]
    assert (fetched.rows[0].accelerator, fetched.rows[0].accelerator_memory_gib) == ("L4", 24)
    assert fetched.left_out == {"no published price": 2}


def test_ibm_fails_when_there_is_no_token() -> None:
    answers = ibm_answers(token={"errorCode": "BXNIM0415E"})
    with pytest.raises(FetchError, match="access_token"):
        ibm.fetch(price_api(answering(answers)), [], key="K")


# Oracle


def oci_shape(name: str, kind: str, products: dict[str, tuple[str, float]], **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "hidden": False,
        "status": "ACTIVE",
        "bundleMemoryQty": 0,
        "gpuQty": None,
        "gpuMemoryQty": None,
        "processorType": {"value": "amd"},
        "shapeType": {"value": "vm"},
        "subType": {"value": kind},
        "products": [
            {"type": {"value": part}, "partNumber": number, "qty": quantity}
            for part, (number, quantity) in products.items()
        ],
        **changes,
    }


def oci_product(number: str, price: float, **changes: Any) -> dict[str, Any]:
    prices = [{"model": "PAY_AS_YOU_GO", "value": price}]
    euros = {"currencyCode": "EUR", "prices": [{"model": "PAY_AS_YOU_GO", "value": price * 9}]}
    return {
        "partNumber": number,
        "billingModel": "UCM",
        "pricetype": "HOUR",
        "currencyCodeLocalizations": [euros, {"currencyCode": "USD", "prices": prices}],
        **changes,
    }


def oci_answers(*shapes: dict[str, Any]) -> dict[str, Any]:
    products = [
        oci_product("B1", 0.025),
        oci_product("B2", 0.0015),
        oci_product("B3", 2.95),
        oci_product("B4", 9.0, pricetype="MONTH"),
        {"partNumber": "B5", "pricetype": "HOUR"},
    ]
    return {f"{OCI}/products.json": {"items": products}, f"{OCI}/shapes.json": {"items": list(shapes)}}


OCI_PUBLISHED = [
    published("oci", "us-ashburn-1", "VM.GPU3.1"),
    published("oci", "eu-frankfurt-1", "VM.Standard.E4.Flex$_2_8"),
]
E4 = oci_shape("VM.Standard.E4.Flex", "flexible", {"ocpu": ("B1", 1), "memory": ("B2", 1)})


def test_oci_flexible_shape_is_priced_by_core_and_gigabyte_in_every_region() -> None:
    fetched = oci.fetch(price_api(answering(oci_answers(E4))), OCI_PUBLISHED)
    rows = {(row.region, row.instance_type): row for row in fetched.rows}
    row = rows["us-ashburn-1", "VM.Standard.E4.Flex$_8_64"]
    assert row.price == pytest.approx(4 * 0.025 + 64 * 0.0015)
    assert row.spot_price == pytest.approx(row.price / 2)
    assert ("eu-frankfurt-1", "VM.Standard.E4.Flex$_8_64") in rows


def test_oci_gpu_shape_is_priced_by_gpu_where_it_is_known_to_be() -> None:
    v100 = oci_shape("VM.GPU3.1", "gpu", {"ocpu": ("B3", 6)}, gpuQty=1, bundleMemoryQty=90)
    a10 = oci_shape("VM.GPU.A10.1", "gpu", {"ocpu": ("B3", 15)}, gpuQty=1, bundleMemoryQty=240)
    fetched = oci.fetch(price_api(answering(oci_answers(E4, v100, a10))), OCI_PUBLISHED)
    (row,) = (row for row in fetched.rows if row.accelerator)
    assert (row.region, row.accelerator, row.vcpus, row.memory_gib) == ("us-ashburn-1", "V100", 12, 90)
    assert (row.price, row.spot_price) == (2.95, None)
    assert fetched.left_out == {"no region known": 1}


def test_oci_arm_core_is_one_vcpu() -> None:
    a1 = oci_shape(
        "VM.Standard.A1.Flex",
        "flexible",
        {"ocpu": ("B1", 1), "memory": ("B2", 1)},
        processorType={"value": "arm"},
    )
    fetched = oci.fetch(price_api(answering(oci_answers(a1))), OCI_PUBLISHED)
    assert {row.arch for row in fetched.rows} == {"arm64"}
    assert {row.vcpus for row in fetched.rows} == {1, 2, 4, 8, 16, 32, 64}


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        (oci_shape("VM.Old", "standard", {"ocpu": ("B1", 1)}, hidden=True), "retired"),
        (oci_shape("VM.Monthly", "standard", {"ocpu": ("B4", 1)}), "unpriced"),
        (oci_shape("VM.Gone", "standard", {"ocpu": ("B9", 1)}), "unpriced"),
        (oci_shape("VM.GPU9.1", "gpu", {"ocpu": ("B3", 1)}, gpuQty=1), "unknown accelerator: VM.GPU9.1"),
    ],
)
def test_oci_leaves_out_with_the_reason_what_is_no_offer(shape: dict[str, Any], reason: str) -> None:
    fetched = oci.fetch(price_api(answering(oci_answers(E4, shape))), OCI_PUBLISHED)
    assert fetched.left_out == {reason: 1}


def test_oci_fails_when_no_region_is_known() -> None:
    with pytest.raises(FetchError, match="no region"):
        oci.fetch(price_api(answering(oci_answers(E4))), [])
