"""status, queue, check, and what all commands have in common."""

from __future__ import annotations

import json

import click
import httpx
import pytest

from stix.api import v1
from stix.cli.amounts import autostop_text
from stix.cli.app import COMMANDS, app
from stix.cli.tables import shorten
from tests.unit.scripted_api import NOW, Cli, ScriptedApi, cluster, error, job

LONG = "a-very-long-cluster-name-that-somebody-gave-to-it-because-names-are-free-of-cost"


@pytest.fixture
def api() -> ScriptedApi:
    return ScriptedApi(clusters=[cluster("dev")])


@pytest.fixture
def cli(api, capsys, monkeypatch, tmp_path) -> Cli:
    return Cli(api, capsys, monkeypatch, str(tmp_path / "home"))


def test_status_shows_the_agreed_columns(cli: Cli, api: ScriptedApi) -> None:
    stop = {"idle_minutes": 5, "down": True, "wait_for": "jobs"}
    api.clusters = [cluster("dev", num_nodes=2, hourly_price=0.192, autostop=stop, region="r1")]
    lines = cli("status").out.splitlines()
    assert lines[0].split() == ["NAME", "STATUS", "NODES", "RESOURCES", "PRICE/H", "AGE", "AUTOSTOP"]
    assert lines[1].split() == ["dev", "UP", "2", "local/r1", "local-2x4", "$0.1920", "2h", "5m", "down"]


@pytest.mark.parametrize("columns", [70, 80, 120])
def test_status_fits_the_terminal_and_keeps_both_ends_of_names(
    cli: Cli, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    api.clusters = [
        cluster(
            LONG,
            status="AUTOSTOPPING",
            num_nodes=1000,
            cloud="aws",
            region="ap-northeast-1",
            instance_type="p4d.24xlarge",
            accelerators="A100-80GB:8",
            spot=True,
            hourly_price=12345.67,
            autostop={"idle_minutes": 1440, "down": True},
        ),
        cluster("b"),
    ]
    lines = cli("status").out.splitlines()
    assert max(map(len, lines)) <= columns
    name = lines[1].split()[0]
    begin, _, end = name.partition("..")
    assert LONG.startswith(begin)
    assert LONG.endswith(end)
    assert begin
    assert end


@pytest.mark.parametrize(
    ("minutes", "expected"), [(0, "0m"), (5, "5m"), (90, "90m"), (120, "2h"), (1440, "1d"), (None, "-")]
)
def test_autostop_is_shown_in_whole_units(minutes: int | None, expected: str) -> None:
    assert autostop_text({"idle_minutes": minutes, "down": False, "wait_for": "jobs"}) == expected


def test_shortening_keeps_text_that_fits() -> None:
    assert [shorten("abcdefghij", width) for width in (10, 9, 5, 2)] == [
        "abcdefghij",
        "abcd..hij",
        "ab..j",
        "ab",
    ]


def test_place_is_said_once_when_cloud_and_region_share_a_name(cli: Cli, api: ScriptedApi) -> None:
    api.clusters = [cluster("dev", region="local", zone="local")]
    assert cli("status").out.splitlines()[1].split()[3:5] == ["local", "local-2x4"]


def test_status_json_has_the_shape_of_the_api(cli: Cli, api: ScriptedApi) -> None:
    api.clusters = [cluster("a"), cluster("b", status="INIT", hourly_price=None)]
    document = json.loads(cli("status", "-o", "json").out)
    assert [one.name for one in v1.ClusterList.model_validate(document).clusters] == ["a", "b"]
    assert document["clusters"] == api.clusters


def test_status_reads_every_page(cli: Cli, api: ScriptedApi) -> None:
    api.clusters = [cluster(f"c{n}") for n in range(100)]
    assert len(cli("status").out.splitlines()) == 101


def test_status_says_how_to_begin_when_there_is_nothing(cli: Cli, api: ScriptedApi) -> None:
    api.clusters = []
    result = cli("status")
    assert result.code == 0
    assert "stix launch" in result.out
    assert json.loads(cli("status", "-o", "json").out) == {"clusters": []}


def test_status_takes_names_and_patterns(cli: Cli, api: ScriptedApi) -> None:
    api.clusters = [cluster("dev-1"), cluster("dev-2"), cluster("prod")]
    assert [line.split()[0] for line in cli("status", "dev-*").out.splitlines()[1:]] == ["dev-1", "dev-2"]
    assert [line.split()[0] for line in cli("status", "prod").out.splitlines()[1:]] == ["prod"]
    assert api.calls[-1].query["names"] == "prod"


def test_status_shows_the_known_and_names_the_unknown(cli: Cli) -> None:
    result = cli("status", "dev", "nope")
    assert result.code == 2
    assert "dev" in result.out
    assert result.err == "stix: error: No such cluster: nope.\n  `stix status` lists all.\n"


def test_status_ip_prints_addresses_alone(cli: Cli, api: ScriptedApi) -> None:
    assert cli("status", "dev", "--ip").out == "127.77.1.1\n"
    api.clusters = [cluster("dev", status="INIT", addresses=[])]
    result = cli("status", "dev", "--ip")
    assert result.code == 1
    assert "INIT" in result.err


def test_status_gives_the_reason_of_a_troubled_cluster(cli: Cli, api: ScriptedApi) -> None:
    api.clusters = [cluster("dev", status="INIT", reason="node 1 does not answer")]
    assert "dev: node 1 does not answer" in cli("status").out


def test_status_verbose_shows_nodes_limits_and_attempts(cli: Cli, api: ScriptedApi) -> None:
    node = {
        "rank": 0,
        "status": "UP",
        "address": "127.77.1.1",
        "vcpus": 2,
        "memory_gib": 3.5,
        "gpus": ["L4"],
        "limits": {"cpu": "cgroup", "memory": "none"},
        "last_seen": NOW - 4,
        "idle_since": None,
    }
    attempt = {
        "at": NOW - 300,
        "place": "aws/us-east-1/us-east-1a",
        "instance_type": "g6.xlarge",
        "outcome": "no_capacity",
        "reason": "There is no Spot capacity available that matches your request in this zone today",
    }
    api.clusters = [cluster("dev", nodes=[node], attempts=[attempt], labels={"team": "x"}, ports=["80"])]
    result = cli("status", "-v")
    assert api.calls[-1].query["verbose"] == "true"
    assert "memory limit: not enforced here" in result.out
    assert "cpu limit" not in result.out
    assert "labels: team=x" in result.out
    assert "no_capacity" in result.out
    assert ["0", "UP", "127.77.1.1", "2", "3.5", "L4", "4s", "-"] in [
        line.split() for line in result.out.splitlines()
    ]
    assert max(map(len, result.out.splitlines())) <= 80


def test_queue_shows_jobs_newest_first(cli: Cli, api: ScriptedApi) -> None:
    api.jobs["dev"] = [
        job(2, "RUNNING", name="train", user="ada", started_at=NOW - 50, resources="1x[CPU:1]"),
        job(1, "SUCCEEDED", name="x" * 90, started_at=NOW - 90, ended_at=NOW - 30),
    ]
    lines = cli("queue", "dev").out.splitlines()
    assert lines[0] == "Jobs of dev"
    assert lines[2].split() == ["2", "train", "ada", "1m", "ago", "50s", "ago", "50s", "1x[CPU:1]", "RUNNING"]
    assert lines[3].split()[-1] == "SUCCEEDED"
    assert "1m ago" in lines[3]
    assert max(map(len, lines)) <= 80


def test_queue_covers_all_clusters_when_none_is_named(cli: Cli, api: ScriptedApi) -> None:
    api.clusters = [cluster("a"), cluster("b")]
    api.jobs["b"] = [job(1, cluster="b")]
    assert cli("queue").out.splitlines()[:3] == ["Jobs of a", "none", ""]
    document = json.loads(cli("queue", "-o", "json").out)
    assert v1.JobList.model_validate(document).jobs[0].cluster == "b"


def test_queue_skips_finished_when_asked(cli: Cli, api: ScriptedApi) -> None:
    api.jobs["dev"] = [job(2, "RUNNING"), job(1)]
    document = json.loads(cli("queue", "dev", "-s", "-o", "json").out)
    assert [one["id"] for one in document["jobs"]] == [2]


def test_queue_refuses_an_unknown_cluster(cli: Cli) -> None:
    assert cli("queue", "nope").code == 2


def test_check_shows_clouds_and_what_the_others_need(cli: Cli, api: ScriptedApi) -> None:
    api.clouds = [
        {"cloud": "local", "enabled": True, "reason": "", "hint": "", "details": {"machines": "4"}},
        {"cloud": "aws", "enabled": False, "reason": "No credentials.", "hint": "Log in.", "details": {}},
    ]
    result = cli("check")
    assert result.code == 0
    assert [line.split()[:2] for line in result.out.splitlines()[1:3]] == [
        ["local", "enabled"],
        ["aws", "disabled"],
    ]
    assert "aws: Log in." in result.out
    assert "machines" not in result.out
    assert "local: machines: 4" in cli("check", "-v").out
    assert json.loads(cli("check", "aws", "-o", "json").out) == {"clouds": api.clouds[1:]}
    assert cli("check", "aws").code == 1
    assert cli("check", "azure").code == 2


@pytest.mark.parametrize("command", [["status"], ["queue"], ["check"], ["logs", "dev"], ["api", "status"]])
def test_server_that_is_away_is_one_paragraph_with_the_fix(
    cli: Cli, api: ScriptedApi, command: list[str]
) -> None:
    away = httpx.MockTransport(
        lambda request: (_ for _ in ()).throw(httpx.ConnectError("[Errno 111] refused"))
    )
    cli.api = type("Away", (), {"transport": away, "pace": api.pace})()
    result = cli(*command)
    assert result.code == 1
    assert result.out == ""
    assert result.err == (
        "stix: error: No control plane answers at http://127.0.0.1:46580: refused.\n"
        "  Start it with `stix api start`; its log is shown by `stix api logs`.\n"
    )


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "invalid_input", 2),
        (401, "unauthorized", 1),
        (403, "forbidden", 1),
        (404, "not_found", 2),
        (409, "conflict", 2),
        (422, "no_offer", 2),
        (500, "internal", 1),
    ],
)
def test_exit_code_follows_the_kind_of_error(
    cli: Cli, api: ScriptedApi, status: int, code: str, expected: int
) -> None:
    api.scripted["GET", "/v1/check"] = [error(status, code, "What happened.", "The fix.")]
    result = cli("check")
    assert (result.code, result.err) == (expected, "stix: error: What happened.\n  The fix.\n")


def test_unexpected_failure_is_no_traceback_unless_debugging(cli: Cli, api: ScriptedApi) -> None:
    api.scripted["GET", "/v1/check"] = [httpx.Response(200, json={"clouds": [{}]})] * 2
    result = cli("check")
    assert result.code == 1
    assert "Traceback" not in result.err
    assert "STIX_DEBUG=1" in result.err
    cli.environ["STIX_DEBUG"] = "1"
    assert "Traceback" in cli("check").err


def test_verbose_shows_calls_on_standard_error(cli: Cli) -> None:
    result = cli("--verbose", "status")
    assert "GET /v1/clusters 200 (" in result.err
    assert "GET" not in result.out


def test_every_command_has_help_and_the_group_names_them_all(cli: Cli) -> None:
    overview = cli("--help").out
    for name, (_, text) in COMMANDS.items():
        assert text in overview
        result = cli(name, "--help")
        assert result.code == 0
        assert max(map(len, result.out.splitlines())) <= 80
        command = app.get_command(click.Context(app), name)
        assert command is not None
        assert command.name == name
        assert command.short_help == text


def test_no_arguments_show_the_help(cli: Cli) -> None:
    result = cli()
    assert "Commands:" in result.out + result.err


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version_is_printed_by_the_group_too(cli: Cli, option: str) -> None:
    assert cli(option).out == "stix 0.1.0\n"
