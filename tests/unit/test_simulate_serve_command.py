"""``stix simulate serve`` as a person uses it."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.unit.scripted_api import Cli, ScriptedApi
from tests.unit.semi_markov import availability

RUN = ("--hours", "12", "--starts", "2")


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    monkeypatch.chdir(tmp_path)
    Path("traces").mkdir()
    for seed, zone in enumerate("abc"):
        counts = [4 * up for up in availability(seed, 150, up_hours=4)]
        document = {"metadata": {"gap_seconds": 600}, "data": counts, "prices": [0.5] * 150}
        Path(f"traces/us-west-2{zone}_v100_1.json").write_text(json.dumps(document))
    hourly = [0] * 4 + [7200] * 4 + [1800] * 4
    Path("load.json").write_text(json.dumps({"metadata": {"gap_seconds": 3600}, "data": hourly}))
    return Cli(ScriptedApi(), capsys, monkeypatch, str(tmp_path / "home"))


def test_table_shows_placements_beside_on_demand_and_the_least_in_80_columns(cli: Cli):
    result = cli("simulate", "serve", "--traces", "traces", *RUN)
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert max(map(len, lines)) <= 80
    rows = {line.split()[0]: line.split() for line in lines[-7:]}
    names = ["single-zone", "even-spread", "round-robin", "spothedge:1", "notice", "on-demand", "least"]
    assert list(rows) == names
    assert rows["on-demand"][1:3] == ["1.0000", "100.00"]
    assert float(rows["least"][1]) <= float(rows["notice"][1]) < float(rows["spothedge:1"][1]) < 1
    assert float(rows["notice"][2]) > 99
    assert "2 runs of 12 h over 3 zones: 3 replicas" in " ".join(result.out.split())


def test_requests_add_latencies_and_scale_the_service(cli: Cli):
    asked = ("--target-qps", "1", "--max-replicas", "4", "--load", "load.json")
    result = cli("simulate", "serve", "--traces", "traces", "--starts", "2", *asked)
    assert result.code == 0, result.err
    assert max(map(len, result.out.splitlines())) <= 80
    assert "0 to 4 replicas" in " ".join(result.out.split())
    document = json.loads(
        cli("simulate", "serve", "traces", "--starts", "2", "--policy", "notice", *asked, "-o", "json").out
    )
    assert document["requests"] == pytest.approx(4 * 7200 + 4 * 1800)
    notice, on_demand, least = document["policies"]
    assert [notice["policy"], on_demand["policy"], least["policy"]] == ["notice", "on-demand", "least"]
    assert 1.0 <= notice["latency_seconds"]["p50"] <= notice["latency_seconds"]["p99"]
    assert len(notice["usd"]) == len(notice["availability"]) == 2
    assert least["availability"] is None
    # Nothing runs in the first four hours.
    assert on_demand["on_demand_hours"] < 4 * 8


def test_task_gives_its_own_replica_policy(cli: Cli):
    Path("serve.yaml").write_text(
        "service:\n  readiness_probe: /\n  replica_policy: {min_replicas: 2, num_overprovision: 1,"
        " spot_placer: dynamic_fallback, dynamic_ondemand_fallback: true}\nrun: serve\n"
    )
    result = cli(
        "simulate", "serve", "--traces", "traces", "--task", "serve.yaml", "--policy", "notice:1,service",
        *RUN, "-o", "json",
    )  # fmt: skip
    assert result.code == 0, result.err
    noticed, service = json.loads(result.out)["policies"][:2]
    assert noticed["usd"] == service["usd"]


def test_request_log_is_read_line_by_line(cli: Cli):
    Path("log.csv").write_text(
        "time,path\n2030-01-01T00:00:00Z,/a\n2030-01-01T00:00:40Z,/b\n1893458701.5,/c\n"
    )
    result = cli(
        "simulate", "serve", "--traces", "traces", "--load", "log.csv", "--replica-qps", "2", "--offset", "0",
        "--policy", "notice", "-o", "json",
    )  # fmt: skip
    assert result.code == 0, result.err
    document = json.loads(result.out)
    assert (document["requests"], document["ticks"]) == (3.0, 91)


def test_plot_is_drawn_with_every_policy(cli: Cli):
    result = cli("simulate", "serve", "--traces", "traces", *RUN, "--policy", "notice", "--plot", "p.svg")
    assert result.code == 0, result.err
    drawing = ElementTree.parse("p.svg").getroot()
    texts = {element.text for element in drawing.iter() if element.tag.endswith("text")}
    assert {"notice", "on-demand", "12 h"} <= texts
    assert sum(element.tag.endswith("polyline") for element in drawing.iter()) == 4


def test_unlimited_takes_as_many_machines_as_wanted(cli: Cli):
    arguments = ("simulate", "serve", "--traces", "traces", "--replicas", "9", "--policy", "notice")
    few, many = (
        json.loads(cli(*arguments, *extra, *RUN, "-o", "json").out)["policies"][0]
        for extra in ((), ("--unlimited",))
    )
    assert many["on_demand_hours"] < few["on_demand_hours"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "Give --traces"),
        (["--traces", "nowhere"], "nowhere does not exist"),
        (["--traces", "traces", "--policy", "spothege"], "Did you mean 'spothedge'?"),
        (["--traces", "traces", "--policy", "notice:x"], "spothedge:1 for one spare replica"),
        (["--traces", "traces", "--policy", "service"], "'service' is not a policy"),
        (
            ["--traces", "traces", "--tick", "70s", "--cold-start", "140s", "--notice", "70s"],
            "does not divide",
        ),
        (["--traces", "traces", "--cold-start", "45s"], "--cold-start: 45 s are no whole number of ticks"),
        (["--traces", "traces", "--hours", "99"], "beyond the trace's end"),
        (["--traces", "traces", "--load", "none.csv"], "none.csv does not exist"),
        (["--traces", "traces", "--load", "bad.csv"], "line 2 of bad.csv begins with"),
        (["--traces", "traces", "--load", "empty.csv"], "holds no request"),
        (["--traces", "traces", "--load", "load.json"], "Give --replica-qps"),
        (["--traces", "traces", "--load", "load.json", "--replica-qps", "9", "--hours", "13"], "--hours"),
        (["--traces", "traces", "--target-qps", "2"], "--max-replicas"),
        (["--traces", "traces", "--target-qps", "2", "--max-replicas", "3"], "Give --load"),
        (
            ["--traces", "traces", "--target-qps", "2", "--max-replicas", "3", "--min-replicas", "4"],
            "3 is below --min-replicas, 4",
        ),
        (["--traces", "traces", "--replicas", "2", "--max-replicas", "3"], "leave one out"),
        (["--traces", "traces", "--task", "plain.yaml"], "has no service"),
        (["--traces", "traces", "--spot-price", "4", "--on-demand-price", "3"], "--spot-price"),
        (["--traces", "traces", "--hours", "1", "--plot", "missing/p.svg"], "--plot"),
    ],
)
def test_wrong_use_is_told_with_its_fix(cli: Cli, arguments, told):
    Path("bad.csv").write_text("1900000000\nyesterday\n")
    Path("empty.csv").write_text("time\n")
    Path("plain.yaml").write_text("run: echo\n")
    result = cli("simulate", "serve", *arguments)
    assert result.code == 2
    assert told in " ".join(result.err.split())
    assert not result.out
