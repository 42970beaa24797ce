"""``stix plan`` over a small catalog, and over the shipped one where there is one."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from stix.catalog.row import CatalogRow
from stix.catalog.snapshot import SNAPSHOT, use_rows
from tests.unit.scripted_api import Cli, ScriptedApi

ROW = CatalogRow("aws", "us-east-1", "us-east-1a", "m.big", 8, 32, price=0.4, spot_price=0.1, as_of=1e9)
ROWS = [
    ROW,
    replace(ROW, region="eu-west-1", zone="eu-west-1b"),
    replace(ROW, cloud="gcp", region="us-central1", zone="us-central1-f", instance_type="t2a", arch="arm64"),
    replace(ROW, instance_type="p4", accelerator="A100", accelerator_count=8, price=20.0, spot_price=None),
    CatalogRow("azure", "west", "", "nd", 96, 900, "H100", 8.0, 80.0, "x86_64", 44.0, 11.0, 1e9),
]
PIPELINE = """
name: pipe
---
name: prep
resources: {cpus: 8+}
outputs: {"s3://bucket/clean": 40}
---
name: train
resources: {accelerators: A100:8}
estimated_duration: 2h
"""


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    monkeypatch.chdir(tmp_path)
    use_rows(tmp_path / "home", ROWS)
    return Cli(ScriptedApi(), capsys, monkeypatch, str(tmp_path / "home"))


def test_table_has_prices_saving_and_age_in_80_columns(cli: Cli) -> None:
    result = cli("plan", "--cpus", "8")
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert lines[0].split() == ["WHERE", "INSTANCE", "CPU/GIB", "PRICE/H", "SPOT/H", "SAVES", "AGE"]
    assert lines[1].split()[:6] == ["aws,", "2", "regions", "m.big", "8/32", "$0.4000"]
    assert "75%" in lines[1]
    assert "t2a*" in lines[2]
    assert "--arch x86_64" in result.out
    assert "First choice, cheapest that fits: 1 node on demand on aws/eu-west-1" in result.out
    assert max(map(len, lines)) <= 80
    assert cli.api.calls == [], "no control plane is asked"


def test_flags_narrow_the_plan(cli: Cli) -> None:
    plan = json.loads(cli("plan", "--infra", "gcp", "--use-spot", "--num-nodes", "2", "-o", "json").out)
    chosen = plan["tasks"][0]["chosen"]
    assert (chosen["cloud"], chosen["spot"], chosen["num_nodes"], chosen["price"]) == ("gcp", True, 2, 0.4)
    assert chosen["saving"] == pytest.approx(0.75)
    assert plan["proved"] is True
    assert cli("plan", "--arch", "x86_64", "--infra", "gcp").code == 2
    top = json.loads(cli("plan", "--cpus", "8+", "--top", "1", "-o", "json").out)["tasks"][0]
    assert len(top["ranked"]) == 1
    assert top["places"] == 4
    assert {"rank", "reason", "region", "zone", "age_seconds"} <= set(top["ranked"][0])


def test_pipeline_is_planned_as_a_whole(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "pipe.yaml").write_text(PIPELINE)
    result = cli("plan", "pipe.yaml")
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert lines[1].split()[:2] == ["prep", "aws/us-east-1"]
    assert lines[2].split()[:2] == ["train", "aws/us-east-1"]
    assert "3h. Proved best." in result.out
    plan = json.loads(cli("plan", "pipe.yaml", "--objective", "time", "-o", "json").out)
    assert [task["name"] for task in plan["tasks"]] == ["prep", "train"]
    assert plan["seconds"] == 3 * 3600
    assert plan["front_complete"] is True


def test_trade_offs_are_shown_when_time_counts(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(
        "resources: {accelerators: {A100: 8, H100: 8}}\nestimated_duration: {A100: 4h, H100: 3h}\n"
    )
    result = cli("plan", "t.yaml", "--objective", "time")
    assert "fastest that fits" in result.out
    assert re.search(r"Trade-offs: \$80\.\d\d in 4h, \$132\.\d\d in 3h\.", " ".join(result.out.split()))
    assert "GPUS" in result.out
    cheap = cli("plan", "t.yaml")
    assert "cheapest that fits" in cheap.out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--gpus", "A10O:8"], "Did you mean A100"),
        (["--gpus", "A100:3"], "Machines have 8 of A100"),
        (["--cpus", "9000+"], "no offer in the catalog fits 9000+ vCPUs"),
        (["--cpus", "many"], "--cpus"),
        (["--top", "0"], "--top"),
        (["--objective", "cheap"], "cheap"),
        (["nothing.yaml"], "nothing.yaml"),
    ],
)
def test_bad_request_is_one_paragraph_and_exit_code_2(cli: Cli, arguments: list[str], text: str) -> None:
    result = cli("plan", *arguments)
    assert result.code == 2
    assert text in result.err
    assert "Traceback" not in result.err
    assert result.out == ""


def test_damaged_catalog_is_told_with_the_fix(cli: Cli, tmp_path: Path) -> None:
    for file in (tmp_path / "home" / "catalog").iterdir():
        file.write_bytes(b"damaged")
    result = cli("plan", "--cpus", "2+")
    assert result.code == 2
    assert "stix catalog refresh" in result.err


def test_shipped_catalog_answers_when_there_is_no_home(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if not SNAPSHOT.is_file():
        pytest.skip("the snapshot is not built")
    fresh = Cli(ScriptedApi(), capsys, monkeypatch, str(tmp_path / "fresh"))
    result = fresh("plan", "--gpus", "A100:8")
    assert result.code == 0, result.err
    assert len(result.out.splitlines()) > 5
    assert max(map(len, result.out.splitlines())) <= 80
    assert not (tmp_path / "fresh").exists(), "a plan writes nothing"
