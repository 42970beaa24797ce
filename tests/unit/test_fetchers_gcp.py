from __future__ import annotations

from typing import Any

import httpx
import pytest

from stix.catalog.fetchers import gcp
from stix.catalog.fetchers.gcp_skus import Parts
from stix.catalog.source import FetchError
from tests.unit.price_answers import NOW, answering, price_api

SKUS = "cloudbilling.googleapis.com/v1/services/6F81-5844-456A/skus"
COMPUTE = "compute.googleapis.com/compute/v1/projects/p/aggregated"


def sku(description: str, price: float, usage: str = "OnDemand", **changes: Any) -> dict[str, Any]:
    units, nanos = divmod(round(price * 1e9), 10**9)
    rates = [
        {"startUsageAmount": 0, "unitPrice": {"currencyCode": "USD", "units": str(units), "nanos": nanos}}
    ]
    family = "Storage" if description.startswith("SSD backed") else "Compute"
    return {
        "name": "services/6F81-5844-456A/skus/0000-1111-2222",
        "skuId": "0000-1111-2222",
        "description": description,
        "category": {
            "serviceDisplayName": "Compute Engine",
            "resourceFamily": family,
            "resourceGroup": "CPU",
            "usageType": usage,
        },
        "serviceRegions": ["us-central1", "us-east1"],
        "pricingInfo": [{"summary": "", "pricingExpression": {"usageUnit": "h", "tieredRates": rates}}],
        "serviceProviderName": "Google",
        **changes,
    }


def machine(name: str, vcpus: int, gib: float, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "compute#machineType",
        "name": name,
        "guestCpus": vcpus,
        "memoryMb": int(gib * 1024),
        **changes,
    }


def with_gpus(kind: str, count: int) -> dict[str, Any]:
    return {"accelerators": [{"guestAcceleratorType": kind, "guestAcceleratorCount": count}]}


N2 = [
    sku("N2 Instance Core running in Americas", 0.03),
    sku("N2 Instance Ram running in Americas", 0.004),
    sku("Spot Preemptible N2 Instance Core running in Americas", 0.01, "Preemptible"),
    sku("Spot Preemptible N2 Instance Ram running in Americas", 0.001, "Preemptible"),
]
N2_8 = machine("n2-standard-8", 8, 32)
EMPTY = {"warning": {"code": "NO_RESULTS_ON_PAGE", "message": "There are no results for scope."}}


def scoped(kind: str, **zones: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {
        f"zones/{zone.replace('_', '-')}": {kind: things} if things else EMPTY
        for zone, things in zones.items()
    }
    return {"kind": f"compute#{kind}AggregatedList", "items": found | {"global": EMPTY}}


def server(
    skus: list[dict[str, Any]], machines: Any, attachable: Any = None, *, page: int = 1000
) -> dict[str, Any]:
    def list_skus(request: httpx.Request) -> Any:
        start = int(request.url.params.get("pageToken") or 0)
        following = str(start + page) if start + page < len(skus) else ""
        return {"skus": skus[start : start + page], "nextPageToken": following}

    return {
        SKUS: list_skus,
        f"{COMPUTE}/machineTypes": machines,
        f"{COMPUTE}/acceleratorTypes": attachable or scoped("acceleratorTypes", us_central1_a=[]),
    }


def fetch(answers: dict[str, Any]) -> Any:
    return gcp.fetch(price_api(answering(answers)), project="p")


def test_machine_costs_what_its_parts_cost() -> None:
    machines = scoped("machineTypes", us_central1_a=[N2_8], us_east1_b=[], europe_west4_a=[N2_8])
    fetched = fetch(server(N2, machines))
    (row,) = fetched.rows
    assert (row.region, row.zone, row.instance_type) == ("us-central1", "us-central1-a", "n2-standard-8")
    assert row.price == pytest.approx(8 * 0.03 + 32 * 0.004)
    assert row.spot_price == pytest.approx(8 * 0.01 + 32 * 0.001)
    assert (row.vcpus, row.memory_gib, row.as_of) == (8, 32, NOW)
    assert fetched.left_out == {"unpriced": 1}


@pytest.mark.parametrize("page", [1, 3])
def test_every_page_of_skus_is_read(page: int) -> None:
    (row,) = fetch(server(N2, scoped("machineTypes", us_central1_a=[N2_8]), page=page)).rows
    assert row.spot_price is not None


def test_every_page_of_machines_is_read() -> None:
    def machines(request: httpx.Request) -> Any:
        if "pageToken" not in request.url.params:
            return {**scoped("machineTypes", us_central1_a=[N2_8]), "nextPageToken": "T"}
        return scoped("machineTypes", us_central1_a=[N2_8], us_central1_b=[N2_8])

    assert {row.zone for row in fetch(server(N2, machines)).rows} == {"us-central1-a", "us-central1-b"}


def test_pages_that_do_not_end_are_an_error() -> None:
    answers = server(N2, scoped("machineTypes", us_central1_a=[N2_8]))
    answers[SKUS] = {"skus": N2, "nextPageToken": "again"}
    with pytest.raises(FetchError, match="do not end"):
        fetch(answers)


@pytest.mark.parametrize(
    ("description", "part"),
    [
        ("N2D AMD Instance Core running in Americas", "core n2d"),
        ("C4A Arm Instance Ram running in Iowa", "ram c4a"),
        ("N1 Predefined Instance Core running in Americas", "core n1"),
        ("Compute optimized Core running in Americas", "core c2"),
        ("Compute optimized Instance Ram running in Paris", "ram c2"),
        ("Memory-optimized Instance Core running in Americas", "core m1"),
        ("M3 Memory-optimized Instance Core running in Tokyo", "core m3"),
        ("A3Plus Instance Core running in Tokyo", "core a3plus"),
        ("Nvidia Tesla T4 GPU running in Americas", "gpu T4"),
        ("Nvidia Tesla A100 GPU running in Americas", "gpu A100"),
        ("Nvidia Tesla A100 80GB GPU running in Americas", "gpu A100-80GB"),
        ("Nvidia H100 80GB GPU running in Iowa", "gpu H100"),
        ("Nvidia H100 80GB Mega GPU running in Tokyo", "gpu H100-MEGA"),
        ("Nvidia L4 GPU running in Americas", "gpu L4"),
    ],
)
def test_sku_is_read_as_the_part_that_it_prices(description: str, part: str) -> None:
    parts = Parts()
    parts.add(sku(description, 1.25))
    assert parts.price(part, "us-east1", spot=False) == 1.25
    assert parts.price(part, "us-east1", spot=True) is None


@pytest.mark.parametrize(
    "other",
    [
        sku("N2 Custom Instance Core running in Americas", 9),
        sku("N2 Custom Extended Instance Ram running in Americas", 9),
        sku("N2 Instance Core running in Americas", 9, "Commit1Yr"),
        sku("Commitment v1: N2 Cpu in Americas for 1 Year", 9),
        sku("N2 Sole Tenancy Instance Core running in Americas", 9),
        sku("Sole Tenancy Premium for N2 Sole Tenancy Instance Core running in Americas", 9),
        sku("Reserved N2 Instance Core in Americas", 9),
        sku("DWS Calendar Mode N2 Instance Core running in Americas", 9),
        sku("Network Internet Egress from Americas", 9),
    ],
)
def test_sku_of_something_else_changes_no_price(other: dict[str, Any]) -> None:
    machines = scoped("machineTypes", us_central1_a=[N2_8])
    (row,) = fetch(server([*N2, other], machines)).rows
    assert row.price == pytest.approx(8 * 0.03 + 32 * 0.004)


def test_price_is_the_paid_tiers_when_the_first_is_free() -> None:
    free = sku("N2 Instance Core running in Americas", 0.03)
    rates = free["pricingInfo"][0]["pricingExpression"]["tieredRates"]
    rates.insert(0, {"startUsageAmount": 0, "unitPrice": {"currencyCode": "USD", "units": "0", "nanos": 0}})
    parts = Parts()
    parts.add(free)
    assert parts.price("core n2", "us-east1", spot=False) == 0.03


def test_gpu_machine_costs_its_gpus_and_disks_too() -> None:
    skus = [
        sku("A2 Instance Core running in Americas", 0.03),
        sku("A2 Instance Ram running in Americas", 0.004),
        sku("Nvidia Tesla A100 80GB GPU running in Americas", 3.9),
        sku("SSD backed Local Storage", 0.08),
        sku(
            "Nvidia Tesla A100 80GB GPU attached to Spot Preemptible VMs running in Americas",
            1.9,
            "Preemptible",
        ),
    ]
    ultra = machine(
        "a2-ultragpu-1g", 12, 170, bundledLocalSsds={"partitionCount": 1}, **with_gpus("nvidia-a100-80gb", 1)
    )
    (row,) = fetch(server(skus, scoped("machineTypes", us_central1_a=[ultra]))).rows
    assert row.price == pytest.approx(12 * 0.03 + 170 * 0.004 + 3.9 + 375 * 0.08 / 730, abs=1e-6)
    assert row.spot_price is None  # its cores and memory have no spot price
    assert (row.accelerator, row.accelerator_count, row.local_disk_gib) == ("A100-80GB", 1, 375)


def test_machine_that_is_not_sold_on_demand_has_a_spot_price_alone() -> None:
    kinds = {"Core": 0.03, "Ram": 0.004}
    skus = [sku(f"A3 Instance {part} running in Americas", price) for part, price in kinds.items()]
    skus += [
        sku(f"Spot Preemptible A3 Instance {part} running in Americas", price / 3, "Preemptible")
        for part, price in kinds.items()
    ]
    gpu = "Nvidia H100 80GB GPU"
    skus += [
        sku(f"{gpu} running in Americas", 9.0),
        sku(f"{gpu} attached to Spot Preemptible VMs running in Americas", 3.0, "Preemptible"),
    ]
    machines = [
        machine(f"a3-highgpu-{count}g", 26 * count, 234 * count, **with_gpus("nvidia-h100-80gb", count))
        for count in (4, 8)
    ]
    four, eight = fetch(server(skus, scoped("machineTypes", us_central1_a=machines))).rows
    assert (four.instance_type, four.price) == ("a3-highgpu-4g", None)
    assert four.spot_price == pytest.approx((104 * 0.03 + 936 * 0.004) / 3 + 4 * 3, abs=1e-6)
    assert eight.price == pytest.approx(208 * 0.03 + 1872 * 0.004 + 8 * 9, abs=1e-6)


def test_n1_machine_is_offered_with_the_gpus_that_its_zone_attaches() -> None:
    skus = [
        sku("N1 Predefined Instance Core running in Americas", 0.03),
        sku("N1 Predefined Instance Ram running in Americas", 0.004),
        sku("Nvidia Tesla V100 GPU running in Americas", 2.48),
    ]
    kinds = [machine("n1-standard-8", 8, 30), machine("n1-standard-32", 32, 120)]
    attachable = scoped("acceleratorTypes", us_central1_a=[{"name": "nvidia-tesla-v100"}, {"name": "ct5lp"}])
    machines = scoped("machineTypes", us_central1_a=kinds, us_central1_b=kinds)
    fetched = fetch(server(skus, machines, attachable))
    found = {(row.zone, row.instance_type): row for row in fetched.rows}
    in_a = {name for zone, name in found if zone == "us-central1-a"}
    assert in_a == {
        *("n1-standard-8", "n1-standard-32"),
        *(f"n1-standard-8+V100:{count}" for count in (1, 2, 4, 8)),
        *(f"n1-standard-32+V100:{count}" for count in (4, 8)),
    }
    assert {name for zone, name in found if zone == "us-central1-b"} == {"n1-standard-8", "n1-standard-32"}
    row = found["us-central1-a", "n1-standard-8+V100:2"]
    assert row.price == pytest.approx(8 * 0.03 + 30 * 0.004 + 2 * 2.48)
    assert (row.accelerator, row.accelerator_count) == ("V100", 2)


def test_shared_core_is_billed_by_its_share() -> None:
    skus = [
        sku("E2 Instance Core running in Americas", 0.02),
        sku("E2 Instance Ram running in Americas", 0.003),
    ]
    (row,) = fetch(server(skus, scoped("machineTypes", us_central1_a=[machine("e2-small", 2, 2)]))).rows
    assert row.price == pytest.approx(0.5 * 0.02 + 2 * 0.003)
    assert row.vcpus == 2


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (machine("n2-old", 8, 32, deprecated={"state": "DEPRECATED"}), "retired or not sold by part"),
        (machine("f1-micro", 1, 0.6), "retired or not sold by part"),
        (
            machine("c4-standard-8-lssd", 8, 32, bundledLocalSsds={"partitionCount": 1}),
            "local disks of unknown size",
        ),
        (machine("ct5lp-hightpu-4t", 112, 192, **with_gpus("ct5lp", 4)), "unknown accelerator: ct5lp"),
        (machine("z9-standard-8", 8, 32), "unpriced"),
    ],
)
def test_machine_is_left_out_with_the_reason_when_it_is_no_offer(kind: dict[str, Any], reason: str) -> None:
    fetched = fetch(server(N2, scoped("machineTypes", us_central1_a=[N2_8, kind])))
    assert [row.instance_type for row in fetched.rows] == ["n2-standard-8"]
    assert fetched.left_out == {reason: 1}


@pytest.mark.parametrize(
    "broken", [{"description": "x"}, sku("N2 Instance Core running in Americas", 1, pricingInfo=[])]
)
def test_skus_are_not_believed_when_many_are_broken(broken: dict[str, Any]) -> None:
    with pytest.raises(FetchError, match="malformed: SKU"):
        fetch(server([*N2, broken], scoped("machineTypes", us_central1_a=[N2_8])))


def test_prices_in_another_currency_are_malformed() -> None:
    euro = sku("N2 Instance Core running in Americas", 0.03)
    euro["pricingInfo"][0]["pricingExpression"]["tieredRates"][0]["unitPrice"]["currencyCode"] = "EUR"
    with pytest.raises(FetchError, match="SKU ValueError"):
        fetch(server([euro, *N2[1:]], scoped("machineTypes", us_central1_a=[N2_8])))
