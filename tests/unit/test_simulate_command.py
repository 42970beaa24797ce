"""``stix simulate jobs`` as a person uses it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from stix.catalog.row import CatalogRow
from stix.catalog.snapshot import use_rows
from tests.unit.scripted_api import Cli, ScriptedApi
from tests.unit.semi_markov import availability

JOB = ("--compute-hours", "24", "--deadline", "32")


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    monkeypatch.chdir(tmp_path)
    for seed, zone in enumerate("abc"):
        document = {"metadata": {"gap_seconds": 600}, "data": availability(seed, 900), "prices": [0.5] * 900}
        folder = tmp_path / "traces"
        folder.mkdir(exist_ok=True)
        (folder / f"us-west-2{zone}_v100_1.json").write_text(json.dumps(document))
    return Cli(ScriptedApi(), capsys, monkeypatch, str(tmp_path / "home"))


def test_table_shows_policies_beside_on_demand_and_the_optimum_in_80_columns(cli: Cli):
    result = cli("simulate", "jobs", "--traces", "traces", "--policy", "late-uniform,greedy,sliced:4", *JOB)
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert max(map(len, lines)) <= 80
    rows = {line.split()[0]: line.split() for line in lines[-5:]}
    assert list(rows) == ["late-uniform", "greedy", "sliced:4", "on-demand", "omniscient"]
    assert float(rows["omniscient"][1]) <= float(rows["late-uniform"][1]) < 1.0
    assert rows["on-demand"][1] == "1.0000"
    assert {row[-1] for name, row in rows.items() if name != "omniscient"} == {"0"}
    assert "3 zones" in lines[0]


def test_json_has_the_cost_of_every_start(cli: Cli):
    result = cli("simulate", "jobs", "--traces", "traces", "--each", "--starts", "4", "-o", "json", *JOB)
    assert result.code == 0, result.err
    document = json.loads(result.out)
    assert document["deadline_seconds"] == 32 * 3600
    assert [group["traces"] for group in document["groups"]] == [
        ["us-west-2a_v100_1"],
        ["us-west-2b_v100_1"],
        ["us-west-2c_v100_1"],
    ]
    for group in document["groups"]:
        assert len(group["starts"]) == 4
        for policy in group["policies"]:
            assert len(policy["costs"]) == 4
            assert policy["cost"] == pytest.approx(sum(policy["costs"]) / 4)


def test_traces_may_follow_as_arguments_and_times_have_units(cli: Cli):
    files = [f"traces/us-west-2{zone}_v100_1.json" for zone in "ab"]
    result = cli(
        "simulate",
        "jobs",
        "--traces",
        *files,
        "--compute-hours",
        "1d",
        "--deadline",
        "32h",
        "--offset",
        "90m",
    )
    assert result.code == 0, result.err
    assert "1 job over 2 zones" in result.out
    assert "24 h of work by 32 h" in result.out


def test_starts_are_read_from_a_file(cli: Cli):
    Path("starts.json").write_text("[3, 77]")
    result = cli("simulate", "jobs", "--traces", "traces", "--starts", "starts.json", "-o", "json", *JOB)
    assert json.loads(result.out)["groups"][0]["starts"] == [3, 77]


def test_plot_is_drawn_with_every_policy(cli: Cli):
    result = cli(
        "simulate",
        "jobs",
        "--traces",
        "traces",
        "--plot",
        "p.svg",
        "--policy",
        "uniform,EAGER_NEXT_REGION",
        *JOB,
    )
    assert result.code == 0, result.err
    drawing = ElementTree.parse("p.svg").getroot()
    texts = [element.text for element in drawing.iter() if element.tag.endswith("text")]
    assert {"uniform", "EAGER_NEXT_REGION"} <= set(texts)
    assert sum(element.tag.endswith("polyline") for element in drawing.iter()) == 2


def test_prices_come_from_the_catalog_from_traces_or_as_given(cli: Cli):
    rows = [CatalogRow("aws", "r", "r-a", "p3", 8, 61, price=4.0, spot_price=1.0, as_of=1e9)]
    use_rows(Path(cli.home), rows)
    catalog = cli("simulate", "jobs", "--traces", "traces", "--instance-type", "p3", *JOB)
    assert "4 USD/h, 4 times spot" in " ".join(catalog.out.split())
    given = cli("simulate", "jobs", "--traces", "traces", "--on-demand-price", "3", "--k", "2", *JOB)
    assert "3 USD/h, 2 times spot" in " ".join(given.out.split())
    traced = cli(
        "simulate", "jobs", "--traces", "traces", "--on-demand-price", "2", "--trace-prices", "--policy",
        "greedy", "-o", "json", *JOB,
    )  # fmt: skip
    (group,) = json.loads(traced.out)["groups"]
    greedy = group["policies"][0]
    # On-demand alone pays 146 ticks: 24 hours and a changeover, in whole ticks.
    spent = greedy["spot_hours"] * 0.5 + greedy["on_demand_hours"] * 2
    assert greedy["cost"] == pytest.approx(spent / (146 / 6 * 2))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "Give --traces"),
        (["--traces", "nowhere"], "nowhere does not exist"),
        (["--traces", "traces", "--policy", "gredy"], "Did you mean 'greedy'?"),
        (["--traces", "traces", "--policy", "sliced"], "sliced:8"),
        (["--traces", "traces", "--policy", "uniform:3"], "'uniform:3' cannot be read"),
        (["--traces", "traces", "--policy", ","], "names no policy"),
        (["--traces", "traces", "--deadline", "24"], "The first that can be is"),
        (["--traces", "traces", "--deadline", "999"], "beyond the trace's end"),
        (["--traces", "traces", "--deadline", "soon"], "'soon' is not a length of time"),
        (["--traces", "traces", "--deadline", "nan"], "is not between"),
        (["--traces", "traces", "--changeover", "-1"], "is not between"),
        (["--traces", "traces", "--offset", "9d"], "--offset"),
        (["--traces", "traces", "--starts", "0"], "--starts"),
        (["--traces", "traces", "--starts", "traces/us-west-2a_v100_1.json"], "is not a list of ticks"),
        (["--traces", "traces", "--spot-price", "4", "--on-demand-price", "3"], "--spot-price"),
        (["--traces", "traces", "--spot-price", "1", "--on-demand-price", "3", "--k", "3"], "--k"),
        (["--traces", "traces", "--instance-type", "nothing"], "no machine 'nothing'"),
        (["--traces", "traces", "--plot", "missing/p.svg"], "--plot"),
    ],
)
def test_wrong_use_is_told_with_its_fix(cli: Cli, arguments, told):
    use_rows(
        Path(cli.home), [CatalogRow("aws", "r", "r-a", "p3", 8, 61, price=4.0, spot_price=1.0, as_of=1e9)]
    )
    given = [
        *arguments,
        "--compute-hours",
        "24",
        *(["--deadline", "32"] if "--deadline" not in arguments else []),
    ]
    result = cli("simulate", "jobs", *given)
    assert result.code == 2
    assert told in result.err
    assert not result.out


def test_traces_of_different_ticks_are_not_zones_of_one_job(cli: Cli):
    Path("traces/other.json").write_text(json.dumps({"metadata": {"gap_seconds": 300}, "data": [1] * 900}))
    result = cli("simulate", "jobs", "--traces", "traces", *JOB)
    assert result.code == 2
    assert "--each" in result.err
    assert cli("simulate", "jobs", "--traces", "traces", "--each", "--starts", "2", *JOB).code == 0


def test_what_to_install_is_told_when_the_extra_is_missing(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.setattr("stix.cli.simulate.find_spec", lambda name: None if name == "numba" else object())
    result = cli("simulate", "jobs", "--traces", "traces", *JOB)
    assert result.code == 2
    assert "needs numba" in result.err
    assert 'pip install "stix-cloud[simulate]"' in result.err
