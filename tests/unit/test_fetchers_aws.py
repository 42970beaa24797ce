from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.stub import Stubber

from stix.catalog.fetchers import aws
from stix.catalog.fetchers.web import PriceApi
from stix.catalog.source import FetchError
from stix.model.errors import CredentialsError, ThrottledError
from tests.unit.price_answers import NOW, answering, price_api

HOST = "pricing.us-east-1.amazonaws.com/offers/v1.0/aws/AmazonEC2/current"
REGION = "us-east-1"
# Of the file's 90 or so columns those that are read, and two that are not, in the published order.
COLUMNS = (
    *("SKU", "TermType", "Unit", "PricePerUnit", "Currency", "serviceCode", "Location Type", "Instance Type"),
    *("vCPU", "Physical Processor", "Memory", "Storage", "Tenancy", "Operating System", "GPU"),
    *("CapacityStatus", "Pre Installed S/W", "Region Code", "MarketOption"),
)
PREAMBLE = (
    ("FormatVersion", "v1.0"),
    ("Disclaimer", "This pricing list is for informational purposes only, and more."),
    ("Publication Date", "2026-09-20T21:40:11Z"),
    ("Version", "20260920214011"),
    ("OfferCode", "AmazonEC2"),
)


def line(name: str = "m6i.large", price: str = "0.0960000000", **changes: str) -> dict[str, str]:
    figures = {
        "SKU": "ABC",
        "TermType": "OnDemand",
        "Unit": "Hrs",
        "PricePerUnit": price,
        "Currency": "USD",
        "serviceCode": "AmazonEC2",
        "Location Type": "AWS Region",
        "Instance Type": name,
        "vCPU": "2",
        "Physical Processor": "Intel Xeon 8375C (Ice Lake)",
        "Memory": "8 GiB",
        "Storage": "EBS only",
        "Tenancy": "Shared",
        "Operating System": "Linux",
        "GPU": "",
        "CapacityStatus": "Used",
        "Pre Installed S/W": "NA",
        "Region Code": REGION,
        "MarketOption": "OnDemand",
    }
    return figures | {name.replace("_", " "): value for name, value in changes.items()}


def price_file(*lines: Mapping[str, str], columns: tuple[str, ...] = COLUMNS) -> str:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows(PREAMBLE)
    writer.writerow(columns)
    writer.writerows([entry[column] for column in columns] for entry in lines)
    return text.getvalue()


def serving(text: str) -> PriceApi:
    return price_api(answering({f"{HOST}/{REGION}/index.csv": lambda _: httpx.Response(200, text=text)}))


def test_region_row_is_made_of_the_price_list_when_there_is_no_account() -> None:
    fetched = aws.fetch(serving(price_file(line())), REGION, None)
    (row,) = fetched.rows
    assert (row.region, row.zone, row.instance_type) == (REGION, "", "m6i.large")
    assert (row.vcpus, row.memory_gib, row.price, row.spot_price) == (2, 8, 0.096, None)
    assert (row.arch, row.accelerator, row.as_of) == ("x86_64", "", NOW)


@pytest.mark.parametrize(
    "other",
    [
        {"TermType": "Reserved"},
        {"Tenancy": "Dedicated"},
        {"Operating_System": "Windows"},
        {"CapacityStatus": "UnusedCapacityReservation"},
        {"MarketOption": "CapacityBlock"},
        {"Pre_Installed_S/W": "SQL Web"},
        {"Unit": "Quantity"},
        {"Currency": "CNY"},
        {"Location_Type": "AWS Local Zone"},
        {"Region_Code": "us-east-1-bos-1"},
        {"PricePerUnit": "0.0000000000"},
        {"Instance_Type": ""},
    ],
)
def test_price_of_something_else_is_passed_over(other: dict[str, str]) -> None:
    text = price_file(line("m6i.large", "9.99", **other), line("m6i.large"))
    fetched = aws.fetch(serving(text), REGION, None)
    assert [row.price for row in fetched.rows] == [0.096]
    assert fetched.left_out == {}


@pytest.mark.parametrize(
    ("entry", "accelerator", "count", "arch", "disk"),
    [
        (line("p5.48xlarge", GPU="8", Storage="8 x 3840 NVMe SSD"), "H100", 8, "x86_64", 28610.2),
        (line("p4de.24xlarge", GPU="8"), "A100-80GB", 8, "x86_64", 0),
        (line("g5g.xlarge", GPU="1", Physical_Processor="AWS Graviton2 Processor"), "T4g", 1, "arm64", 0),
        (line("inf2.48xlarge"), "Inferentia2", 12, "x86_64", 0),
        (line("c7gn.large", Physical_Processor="AWS Graviton3 Processor"), "", 0, "arm64", 0),
    ],
)
def test_listed_machine_has_its_familys_accelerator(
    entry: dict[str, str], accelerator: str, count: float, arch: str, disk: float
) -> None:
    (row,) = aws.fetch(serving(price_file(entry)), REGION, None).rows
    assert (row.accelerator, row.accelerator_count, row.arch) == (accelerator, count, arch)
    assert row.local_disk_gib == disk


@pytest.mark.parametrize("name", ["g6f.large", "p9.48xlarge", "trn3.48xlarge", "f2.6xlarge", "vt1.3xlarge"])
def test_accelerated_machine_is_left_out_when_nobody_says_with_what(name: str) -> None:
    fetched = aws.fetch(serving(price_file(line(), line(name))), REGION, None)
    assert [row.instance_type for row in fetched.rows] == ["m6i.large"]
    assert fetched.left_out == {"accelerator unknown without an account": 1}


def test_price_list_is_fetched_again_when_it_ends_in_the_middle_of_a_line() -> None:
    whole = price_file(*(line(f"m6i.{size}xlarge") for size in range(2, 30)))
    texts = [whole[: len(whole) - 60], whole]
    server = answering({f"{HOST}/{REGION}/index.csv": lambda _: httpx.Response(200, text=texts.pop(0))})
    assert len(aws.fetch(price_api(server), REGION, None).rows) == 28
    assert texts == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no header"),
        (price_file(line(), columns=COLUMNS[:-1]), "no column 'MarketOption'"),
        (price_file(), "no usable row"),
        (price_file(*[line(Memory="8 MB")] * 3), "malformed: price list line"),
    ],
)
def test_price_list_is_not_believed_when_its_format_changed(text: str, message: str) -> None:
    with pytest.raises(FetchError, match=message):
        aws.fetch(serving(text), REGION, None)


def test_regions_are_those_with_a_price_list_and_no_local_zones() -> None:
    names = ("us-east-1", "us-west-2", "us-west-2-lax-1", "us-gov-west-1", "us-east-1-wl1-bos-wlz-1")
    index = {"formatVersion": "v1.0", "regions": {name: {"regionCode": name} for name in names}}
    api = price_api(answering({f"{HOST}/region_index.json": index}))
    assert aws.regions(api, None) == ["us-east-1", "us-gov-west-1", "us-west-2"]


# With an account: the SDK's own client, whose answers the stubber checks against the service's model.


Script = Callable[[Stubber], None]


@contextmanager
def account(script: Script) -> Iterator[aws.Clients]:
    client = boto3.client(
        "ec2", region_name=REGION, aws_access_key_id="AKIAEXAMPLE", aws_secret_access_key="example"
    )
    with ExitStack() as stack:
        stubber = stack.enter_context(Stubber(client))
        stack.callback(client.close)
        script(stubber)
        yield lambda _: client
        stubber.assert_no_pending_responses()


def kind(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "InstanceType": name,
        "VCpuInfo": {"DefaultVCpus": 2},
        "MemoryInfo": {"SizeInMiB": 8192},
        "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
        **changes,
    }


def gpu(name: str, count: int, memory: int, **changes: Any) -> dict[str, Any]:
    device = {"Name": name, "Count": count, "MemoryInfo": {"SizeInMiB": memory}, "Manufacturer": "NVIDIA"}
    return {"GpuInfo": {"Gpus": [device | changes]}}


def offering(name: str, zone: str) -> dict[str, str]:
    return {"InstanceType": name, "LocationType": "availability-zone", "Location": zone}


def spot(name: str, zone: str, price: str, hour: int = 1) -> dict[str, Any]:
    return {
        "AvailabilityZone": zone,
        "InstanceType": name,
        "ProductDescription": "Linux/UNIX",
        "SpotPrice": price,
        "Timestamp": datetime(2026, 9, 20, hour, tzinfo=UTC),
    }


def script(
    kinds: list[dict[str, Any]], offerings: list[dict[str, str]], spots: list[dict[str, Any]]
) -> Script:
    """Each list on two pages, the last entry of the first page once more on the second."""

    def pages(stubber: Stubber, operation: str, key: str, entries: list[Any], asked: dict[str, Any]) -> None:
        half = len(entries) // 2
        stubber.add_response(operation, {key: entries[: half + 1], "NextToken": "more"}, asked)
        stubber.add_response(operation, {key: entries[half:]}, asked | {"NextToken": "more"})

    def add(stubber: Stubber) -> None:
        pages(stubber, "describe_instance_types", "InstanceTypes", kinds, {})
        zones = {"LocationType": "availability-zone"}
        pages(stubber, "describe_instance_type_offerings", "InstanceTypeOfferings", offerings, zones)
        now = {
            "StartTime": datetime.fromtimestamp(NOW, UTC),
            "ProductDescriptions": ["Linux/UNIX"],
        }
        pages(stubber, "describe_spot_price_history", "SpotPriceHistory", spots, now)

    return add


def test_zone_rows_have_spot_prices_when_there_is_an_account() -> None:
    script_ = script(
        [kind("m6i.large"), kind("g6.xlarge", **gpu("L4", 1, 22888)), kind("x9.unpriced")],
        [
            offering(name, f"us-east-1{zone}")
            for name in ("m6i.large", "g6.xlarge", "x9.unpriced")
            for zone in "ab"
        ],
        [spot("m6i.large", "us-east-1a", "0.03"), spot("m6i.large", "us-east-1a", "0.04", 5)],
    )
    text = price_file(line(), line("g6.xlarge", "0.8048"))
    with account(script_) as clients:
        fetched = aws.fetch(serving(text), REGION, clients)
    rows = {(row.instance_type, row.zone): row for row in fetched.rows}
    assert len(rows) == len(fetched.rows) == 4
    assert (rows["m6i.large", "us-east-1a"].price, rows["m6i.large", "us-east-1a"].spot_price) == (
        0.096,
        0.04,
    )
    assert rows["m6i.large", "us-east-1b"].spot_price is None
    l4 = rows["g6.xlarge", "us-east-1a"]
    assert (l4.accelerator, l4.accelerator_count, l4.accelerator_memory_gib) == ("L4", 1, 24)
    assert fetched.left_out == {"unpriced": 2}


@pytest.mark.parametrize(
    ("described", "accelerator", "count", "memory"),
    [
        (gpu("A100", 8, 40960), "A100", 8, 40),
        (gpu("A100", 8, 81920), "A100-80GB", 8, 80),
        (gpu("V100", 8, 32768), "V100-32GB", 8, 32),
        (gpu("RTX PRO Server 6000", 2, 98304), "RTXPRO6000", 2, 96),
        (gpu("H200", 8, 144384), "H200", 8, 141),
        (gpu("L4", 0, 2861, GpuPartitionSize=0.125, LogicalGpuCount=1), "L4", 0.125, 24),
        (
            {
                "NeuronInfo": {
                    "NeuronDevices": [{"Name": "Trainium2", "Count": 16, "MemoryInfo": {"SizeInMiB": 98304}}]
                }
            },
            "Trainium2",
            16,
            96,
        ),
        (
            {"InferenceAcceleratorInfo": {"Accelerators": [{"Name": "Inferentia", "Count": 4}]}},
            "Inferentia",
            4,
            8,
        ),
    ],
)
def test_described_accelerator_is_named_and_counted(
    described: dict[str, Any], accelerator: str, count: float, memory: float
) -> None:
    script_ = script(
        [kind("p9.large", **described)],
        [offering("p9.large", "us-east-1a")],
        [spot("p9.large", "us-east-1a", "1")],
    )
    with account(script_) as clients:
        (row,) = aws.fetch(serving(price_file(line())), REGION, clients).rows
    assert (row.accelerator, row.accelerator_count, row.accelerator_memory_gib) == (
        accelerator,
        count,
        memory,
    )
    assert (row.price, row.spot_price) == (None, 1.0)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("RequestLimitExceeded", ThrottledError),
        ("AuthFailure", CredentialsError),
        ("UnauthorizedOperation", CredentialsError),
        ("OptInRequired", CredentialsError),
        ("InternalError", FetchError),
    ],
)
def test_refusal_of_ec2_is_told_in_our_classes(code: str, error: type[Exception]) -> None:
    def refuse(stubber: Stubber) -> None:
        stubber.add_client_error("describe_instance_types", code)

    with account(refuse) as clients, pytest.raises(error):
        aws.fetch(serving(price_file(line())), REGION, clients)


def test_regions_are_the_accounts_own_when_there_is_one() -> None:
    def regions(stubber: Stubber) -> None:
        enabled = [{"RegionName": name} for name in ("us-east-1", "eu-west-1", "zz-new-1")]
        stubber.add_response("describe_regions", {"Regions": enabled}, {"AllRegions": False})

    index = {"regions": {name: {} for name in ("us-east-1", "eu-west-1", "me-south-1")}}
    with account(regions) as clients:
        api = price_api(answering({f"{HOST}/region_index.json": index}))
        assert aws.regions(api, clients) == ["eu-west-1", "us-east-1"]


def test_account_is_the_one_that_the_sdk_finds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    assert aws.account_clients() is None
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example")
    clients = aws.account_clients()
    assert clients is not None
    client = clients("eu-west-1")
    assert client.meta.region_name == "eu-west-1"
    client.close()
