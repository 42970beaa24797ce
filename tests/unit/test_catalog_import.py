"""SkyPilot's CSV folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stix.catalog.csv_import import import_folder
from stix.catalog.row import CatalogRow
from stix.model.errors import InvalidInputError

HEADER = (
    "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,Region,"
    "AvailabilityZone,Arch"
)
GPU = "\"{'Gpus': [{'Name': 'A100'}], 'TotalGpuMemoryInMiB': 327680}\""
AS_OF = 1_700_000_000.0


def folder(tmp_path: Path, *lines: str, header: str = HEADER, cloud: str = "aws") -> Path:
    path = tmp_path / cloud / "vms.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join((header, *lines)) + "\n")
    os.utime(path, (AS_OF, AS_OF))
    return tmp_path


def only(path: Path) -> CatalogRow:
    (cloud,) = import_folder(path)
    (row,) = cloud.rows
    return row


def test_line_becomes_an_offer_with_every_field(tmp_path: Path) -> None:
    line = f"p4d.24xlarge,a100,8.0,96.0,1152.0,{GPU},32.77,9.83,us-east-1,use1-az1,x86_64"
    assert only(folder(tmp_path, line)) == CatalogRow(
        cloud="aws",
        region="us-east-1",
        zone="use1-az1",
        instance_type="p4d.24xlarge",
        vcpus=96,
        memory_gib=1152,
        accelerator="A100",
        accelerator_count=8,
        accelerator_memory_gib=40,
        price=32.77,
        spot_price=9.83,
        as_of=AS_OF,
        source="imported: aws/vms.csv",
    )


def test_machine_without_accelerator_may_be_arm_and_spot_only(tmp_path: Path) -> None:
    row = only(folder(tmp_path, "m7g.large,,,2,8,,,0.02,us-east-1,,arm64"))
    assert (row.accelerator, row.accelerator_count, row.arch) == ("", 0, "arm64")
    assert (row.price, row.spot_price) == (None, 0.02)


def test_unknown_accelerator_keeps_its_name_and_known_memory_comes_from_the_table(tmp_path: Path) -> None:
    (cloud,) = import_folder(folder(tmp_path, "x,Zeta9,1,8,32,,1,,r,,", "y,L4,1,8,32,,1,,r,,"))
    assert [(row.accelerator, row.accelerator_memory_gib) for row in cloud.rows] == [("Zeta9", 0), ("L4", 24)]


def test_alias_keeps_the_name_of_the_file(tmp_path: Path) -> None:
    assert only(folder(tmp_path, "x,A6000,1,8,32,,1,,r,,")).accelerator == "A6000"


def test_spot_price_of_0_is_unknown(tmp_path: Path) -> None:
    assert only(folder(tmp_path, "x,,,8,32,,1,0.00,r,,")).spot_price is None


def test_lines_that_are_no_machine_are_counted_by_reason(tmp_path: Path) -> None:
    lines = [",T4,1,,,,0.35,,r,,", "x,,,8,32,,1,,,,", "x,,,8,32,,,,r,,", "x,,,,,,1,,r,,", "x,,,8,32,,1,,r,,"]
    (cloud,) = import_folder(folder(tmp_path, *lines))
    assert len(cloud.rows) == 1
    assert cloud.left_out == {
        "accelerator without a machine": 1,
        "no region": 1,
        "no price": 1,
        "no size": 1,
    }


def test_last_of_equal_lines_counts(tmp_path: Path) -> None:
    (cloud,) = import_folder(folder(tmp_path, "x,,,8,32,,1,,r,,", "x,,,8,32,,2,,r,,"))
    assert [row.price for row in cloud.rows] == [2]


def test_all_clouds_of_the_folder_are_read_in_order(tmp_path: Path) -> None:
    folder(tmp_path, "x,,,8,32,,1,,r,,", cloud="gcp")
    folder(tmp_path, "x,,,8,32,,1,,r,,", cloud="aws")
    assert [cloud.cloud for cloud in import_folder(tmp_path)] == ["aws", "gcp"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("x,,,eight,32,,1,,r,,", ("aws/vms.csv, line 2, vCPUs: 'eight'",)),
        ("x,,,8,32,,-1,,r,,", ("line 2, Price: '-1'",)),
        ("x,,,8,nan,,1,,r,,", ("line 2, MemoryGiB: 'nan'",)),
        ("x,A100,1e99,8,32,,1,,r,,", ("line 2, AcceleratorCount: '1e99'",)),
    ],
)
def test_error_names_file_line_column_and_value(tmp_path: Path, line: str, words: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        import_folder(folder(tmp_path, line))
    assert all(word in caught.value.message for word in words)
    assert caught.value.hint


def test_missing_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no column AcceleratorName, AcceleratorCount, Price"):
        import_folder(folder(tmp_path, header="InstanceType,vCPUs,MemoryGiB,Region"))


def test_folder_without_catalogs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"no CLOUD/vms\.csv"):
        import_folder(tmp_path)


def test_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "aws" / "vms.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInputError, match="not a CSV file in UTF-8"):
        import_folder(tmp_path)
