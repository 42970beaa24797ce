"""``stix gpus`` and ``stix catalog``: no control plane, no network."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from stix.catalog.row import CatalogRow
from stix.catalog.snapshot import use_rows
from stix.catalog.source import WHOLE_CLOUD, Fetched, FetchError, Source
from tests.unit.scripted_api import NOW, Cli, ScriptedApi

DAY = 86400.0


def row(
    cloud: str, region: str, kind: str, name: str, count: float, price: float | None, **fields
) -> CatalogRow:
    given = {"vcpus": 8.0, "memory_gib": 32.0, "accelerator_memory_gib": 80.0, "as_of": NOW - 3 * DAY}
    return CatalogRow(
        cloud=cloud,
        region=region,
        instance_type=kind,
        accelerator=name,
        accelerator_count=count,
        price=price,
        **{"zone": "", **given, **fields},
    )


ROWS = [
    row("aws", "us-east-1", "p5", "H100", 8, 55.0, zone="us-east-1a", spot_price=20.0),
    row("aws", "us-east-1", "p5", "H100", 8, 55.0, zone="us-east-1b", spot_price=18.0),
    row("aws", "eu-west-1", "p5", "H100", 8, 66.0, zone="eu-west-1a"),
    row("runpod", "US", "1x_H100", "H100", 1, 1.99, as_of=NOW - DAY),
    row("gcp", "us-central1", "g6f", "L4", 0.5, None, spot_price=0.1, accelerator_memory_gib=24.0),
    row("aws", "us-east-1", "m5", "", 0, 0.1, accelerator_memory_gib=0.0),
]


@pytest.fixture
def cli(capsys, monkeypatch, tmp_path) -> Cli:
    # The commands neither ask a control plane nor start one: its answers would be errors.
    return Cli(ScriptedApi(), capsys, monkeypatch, str(tmp_path / "home"))


@pytest.fixture
def home(cli: Cli) -> Path:
    use_rows(Path(cli.home), ROWS)
    return Path(cli.home)


def test_gpus_list_shows_each_accelerator_with_its_lowest_prices(cli: Cli, home: Path) -> None:
    result = cli("gpus", "list")
    lines = [line.split() for line in result.out.splitlines()]
    assert lines[0] == ["ACCELERATOR", "GB", "COUNTS", "CLOUDS", "$/H", "EACH", "SPOT", "EACH"]
    assert lines[1:] == [
        ["H100", "80", "1,8", "aws,runpod", "$1.99", "$2.25"],
        ["L4", "24", "0.5", "gcp", "-", "$0.2000"],
    ]
    assert "1d to 3d old" in result.err
    assert not cli.api.calls


def test_gpus_list_shows_the_cheapest_place_of_each_machine(cli: Cli, home: Path) -> None:
    lines = cli("gpus", "list", "h100").out.splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["1", "runpod/US", "1x_H100", "8", "32", "$1.99", "-"],
        ["8", "aws/us-east-1", "p5", "8", "32", "$55.00", "$20.00"],
    ]


def test_gpus_list_shows_every_place_with_all_regions(cli: Cli, home: Path) -> None:
    lines = cli("gpus", "list", "H100:8", "--all-regions").out.splitlines()
    assert [line.split()[1] for line in lines[1:]] == [
        "aws/us-east-1/us-east-1a",
        "aws/us-east-1/us-east-1b",
        "aws/eu-west-1/eu-west-1a",
    ]


@pytest.mark.parametrize(
    ("infra", "places"),
    [
        ("aws", ["aws/us-east-1/us-east-1a", "aws/us-east-1/us-east-1b", "aws/eu-west-1/eu-west-1a"]),
        ("aws/eu-west-1", ["aws/eu-west-1/eu-west-1a"]),
        ("*/US", ["runpod/US"]),
    ],
)
def test_gpus_list_keeps_to_the_asked_place(cli: Cli, home: Path, infra: str, places: list[str]) -> None:
    lines = cli("gpus", "list", "H100", "--infra", infra, "--all-regions").out.splitlines()
    assert [line.split()[1] for line in lines[1:]] == places


def test_gpus_list_of_one_region_sums_up_that_region_only(cli: Cli, home: Path) -> None:
    document = json.loads(cli("gpus", "list", "--infra", "aws/eu-west-1", "-o", "json").out)
    (entry,) = document["accelerators"]
    assert (entry["accelerator"], entry["counts"], entry["clouds"]) == ("H100", [8], ["aws"])
    assert entry["price_each"] == 66 / 8


def test_gpus_list_prints_offers_for_programs(cli: Cli, home: Path) -> None:
    document = json.loads(cli("gpus", "list", "L4:0.5", "-o", "json").out)
    (offer,) = document["offers"]
    assert (offer["cloud"], offer["price"], offer["spot_price"]) == ("gcp", None, 0.1)
    assert document["prices"] == {
        "shipped": False,
        "oldest": NOW - 3 * DAY,
        "newest": NOW - DAY,
        "oldest_age_seconds": 3 * DAY,
        "newest_age_seconds": DAY,
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["H10"], "Did you mean H100?"),
        (["H100:3"], "no machine with H100:3"),
        (["H100", "--infra", "gcp"], "no machine with H100 in gcp"),
        (["H100:0"], "no valid count"),
        (["H100:lots"], "no valid count"),
        (["--infra", "awz"], "--infra"),
        (["--all-regions"], "needs the name"),
    ],
)
def test_gpus_list_says_what_is_wrong_with_its_input(
    cli: Cli, home: Path, arguments: list[str], words: str
) -> None:
    result = cli("gpus", "list", *arguments)
    assert result.code == 2
    assert words in result.err


@pytest.mark.parametrize("arguments", [["gpus", "list"], ["gpus", "list", "A100-80GB"], ["catalog", "info"]])
def test_output_of_the_shipped_catalog_fits_80_columns(cli: Cli, arguments: list[str]) -> None:
    result = cli(*arguments)
    assert result.code == 0
    assert max(map(len, result.out.splitlines())) <= 80
    assert "came with Stix" in result.err
    assert not Path(cli.home).exists()


def test_commands_load_no_http_client_when_they_only_read(cli: Cli, home: Path, monkeypatch) -> None:
    for name in [name for name in sys.modules if name.startswith("stix.catalog.fetchers")]:
        monkeypatch.delitem(sys.modules, name)
    cli("gpus", "list")
    cli("catalog", "info")
    assert not [name for name in sys.modules if name.startswith("stix.catalog.fetchers")]


def test_catalog_info_shows_counts_and_ages(cli: Cli, home: Path) -> None:
    lines = [line.split() for line in cli("catalog", "info").out.splitlines()]
    assert lines[0] == ["CLOUD", "OFFERS", "REGIONS", "NEWEST", "OLDEST"]
    assert ["aws", "4", "2", "3d", "3d"] in lines
    document = json.loads(cli("catalog", "info", "-o", "json").out)
    assert {cloud["cloud"]: cloud["offers"] for cloud in document["clouds"]} == {
        "aws": 4,
        "gcp": 1,
        "runpod": 1,
    }


def test_catalog_import_takes_the_folder_over(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "sky" / "vast" / "vms.csv"
    path.parent.mkdir(parents=True)
    header = "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,Region"
    path.write_text(f"{header}\nmine,H100,1,8,32,0.5,US\n,T4,1,,,0.35,US\n")
    result = cli("catalog", "import", str(tmp_path / "sky"))
    assert result.code == 0
    assert result.out == "vast: 1 offer (left out: 1 accelerator without a machine)\n"
    assert "$0.5000" in cli("gpus", "list", "H100:1", "--infra", "vast").out


def test_catalog_import_changes_nothing_when_a_line_is_wrong(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "sky" / "vast" / "vms.csv"
    path.parent.mkdir(parents=True)
    path.write_text(
        "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,Region\nx,,,8,32,much,US\n"
    )
    result = cli("catalog", "import", str(tmp_path / "sky"))
    assert result.code == 2
    assert "line 2, Price: 'much'" in result.err
    assert not Path(cli.home).exists()


def scripted_sources(monkeypatch: pytest.MonkeyPatch, made: Sequence[Source]) -> None:
    monkeypatch.setattr(
        "stix.catalog.fetchers.registry.sources", lambda *_, **__: {source.cloud: source for source in made}
    )


def test_catalog_refresh_reports_each_part_and_uses_what_it_fetched(cli: Cli, monkeypatch) -> None:
    fetched = row("vast", "US", "new", "H100", 1, 0.25)

    def fail(_: str) -> Fetched:
        raise FetchError("oci: the answer has no items.")

    scripted_sources(
        monkeypatch,
        [
            Source(
                "vast", lambda: (WHOLE_CLOUD,), lambda _: Fetched((fetched,), {"no country": 2}), moving=True
            ),
            Source("oci", lambda: (WHOLE_CLOUD,), fail),
        ],
    )
    result = cli("catalog", "refresh", "vast", "oci")
    assert result.code == 0
    assert "vast: 1 offer (left out: 2 no country)" in result.err
    assert "oci: not fetched: oci: the answer has no items." in result.err
    assert result.out.startswith("1 part of 2 fetched; ")
    assert "$0.2500" in cli("gpus", "list", "H100:1", "--infra", "vast").out


def test_catalog_refresh_ends_with_1_when_nothing_could_be_fetched(cli: Cli, monkeypatch) -> None:
    def fail(_: str) -> Fetched:
        raise FetchError("no network")

    scripted_sources(monkeypatch, [Source("vast", lambda: (WHOLE_CLOUD,), fail)])
    result = cli("catalog", "refresh", "vast", "-o", "json")
    assert result.code == 1
    assert json.loads(result.out)["parts"][0]["error"] == "no network"


@pytest.mark.parametrize(
    ("cloud", "words"), [("acme", "cannot be fetched"), ("lambda", "Set LAMBDA_API_KEY")]
)
def test_catalog_refresh_refuses_clouds_that_it_cannot_ask(cli: Cli, cloud: str, words: str) -> None:
    result = cli("catalog", "refresh", cloud)
    assert result.code == 2
    assert words in result.err
