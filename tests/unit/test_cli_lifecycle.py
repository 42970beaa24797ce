"""stop, start, down, autostop, cancel."""

from __future__ import annotations

import pytest

from tests.unit.scripted_api import Cli, ScriptedApi, cluster, error, job, operation


@pytest.fixture
def api() -> ScriptedApi:
    api = ScriptedApi(clusters=[cluster("dev-1"), cluster("dev-2"), cluster("old", status="STOPPED")])
    api.operation_states = [operation(kind="down", lines=["Ending 1 machine."])]
    return api


@pytest.fixture
def cli(api, capsys, monkeypatch, tmp_path) -> Cli:
    return Cli(api, capsys, monkeypatch, str(tmp_path / "home"))


def acted_on(api: ScriptedApi, verb: str) -> list[str]:
    return [call.path.split("/")[3] for call in api.calls if call.path.endswith(f"/{verb}")]


@pytest.mark.parametrize("verb", ["stop", "start", "down", "autostop"])
@pytest.mark.parametrize("arguments", [["dev-1"], ["-a"], ["*"]])
def test_nothing_is_done_when_nobody_can_answer(
    cli: Cli, api: ScriptedApi, verb: str, arguments: list[str]
) -> None:
    result = cli(verb, *arguments)
    assert result.code == 2
    assert "give -y" in result.err
    assert acted_on(api, verb) == []


@pytest.mark.parametrize(
    ("verb", "done"), [("stop", "Stop"), ("start", "Start"), ("down", "Delete"), ("autostop", "Change")]
)
def test_a_person_is_asked_and_may_refuse(cli: Cli, api: ScriptedApi, verb: str, done: str) -> None:
    cli.terminal = True
    refused = cli(verb, "dev-1", answer="n\n")
    assert refused.code == 1
    assert f"{done}" in refused.err
    assert "dev-1" in refused.err
    assert "Nothing was changed." in refused.err
    assert acted_on(api, verb) == []
    assert cli(verb, "dev-1", answer="y\n").code == 0
    assert acted_on(api, verb) == ["dev-1"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["down", "dev-1"], ["dev-1"]),
        (["down", "old", "dev-1", "old"], ["old", "dev-1"]),
        (["down", "dev-*"], ["dev-1", "dev-2"]),
        (["down", "-a"], ["dev-1", "dev-2", "old"]),
        (["stop", "-a"], ["dev-1", "dev-2"]),
        (["stop", "old", "dev-?"], ["dev-1", "dev-2", "old"]),
        (["start", "*"], ["old"]),
        (["start", "-a"], ["old"]),
        (["autostop", "-a"], ["dev-1", "dev-2"]),
    ],
)
def test_names_patterns_and_all_choose_the_clusters(
    cli: Cli, api: ScriptedApi, arguments: list[str], expected: list[str]
) -> None:
    assert cli(*arguments, "-y").code == 0
    assert acted_on(api, arguments[0]) == expected


@pytest.mark.parametrize("verb", ["stop", "start", "down", "autostop"])
@pytest.mark.parametrize("arguments", [[], ["dev-1", "-a"], ["nothing-*"]])
def test_a_choice_that_means_nothing_is_refused(
    cli: Cli, api: ScriptedApi, verb: str, arguments: list[str]
) -> None:
    result = cli(verb, *arguments, "-y")
    assert result.code == 2
    assert acted_on(api, verb) == []


def test_all_is_quiet_when_there_is_none(cli: Cli, api: ScriptedApi) -> None:
    api.clusters = []
    result = cli("down", "-a", "-y")
    assert (result.code, result.err) == (0, "No cluster to act on.\n")


def test_down_shows_progress_and_its_end(cli: Cli) -> None:
    result = cli("down", "dev-1", "-y")
    assert (result.code, result.out) == (0, "")
    assert result.err.splitlines() == ["Ending 1 machine.", "dev-1: deleted."]


def test_end_is_said_once_when_the_progress_said_it(cli: Cli, api: ScriptedApi) -> None:
    api.operation_states = [operation(kind="stop", lines=["Cluster dev-1 is stopped."])]
    assert cli("stop", "dev-1", "-y").err == "Cluster dev-1 is stopped.\n"


def test_progress_names_its_cluster_when_there_are_several(cli: Cli) -> None:
    lines = cli("down", "dev-*", "-y").err.splitlines()
    assert lines == [
        "dev-1: Ending 1 machine.",
        "dev-1: deleted.",
        "dev-2: Ending 1 machine.",
        "dev-2: deleted.",
    ]


def test_one_that_fails_keeps_no_other_from_being_done(cli: Cli, api: ScriptedApi) -> None:
    api.scripted["POST", "/v1/clusters/dev-1/stop"] = [
        error(409, "conflict", "It is being deleted.", "Wait.")
    ]
    result = cli("stop", "dev-1", "dev-2", "-y")
    assert result.code == 2
    assert "stix: error: It is being deleted. Wait." in result.err
    assert "dev-2: stopped." in result.err


def test_failed_operation_ends_with_1(cli: Cli, api: ScriptedApi) -> None:
    failure = {"code": "unavailable", "message": "The cloud does not answer.", "hint": "Try again."}
    api.operation_states = [operation(kind="down", status="FAILED", error=failure)]
    result = cli("down", "dev-1", "-y")
    assert (result.code, result.err) == (1, "stix: error: The cloud does not answer.\n  Try again.\n")


def test_cancelled_operation_says_so(cli: Cli, api: ScriptedApi) -> None:
    api.operation_states = [operation(kind="start", cluster="old", status="CANCELLED")]
    result = cli("start", "old", "-y")
    assert result.code == 1
    assert "The start of old was cancelled." in result.err


def test_async_prints_operations_and_waits_for_none(cli: Cli, api: ScriptedApi) -> None:
    result = cli("stop", "dev-*", "-y", "--async")
    assert result.out == "op-stop-dev-1\nop-stop-dev-2\n"
    assert not [call for call in api.calls if "operations" in call.path]


def test_down_sends_purge(cli: Cli, api: ScriptedApi) -> None:
    cli("down", "dev-1", "-y", "--purge")
    assert api.asked("POST", "/v1/clusters/dev-1/down")[0].body == {"purge": True}


def test_start_sends_autostop_flags(cli: Cli, api: ScriptedApi) -> None:
    cli("start", "old", "-y", "-i", "7", "--down")
    body = api.asked("POST", "/v1/clusters/old/start")[0].body
    assert body == {"autostop": {"idle_minutes": 7, "down": True, "wait_for": "jobs_and_ssh"}}


@pytest.mark.parametrize(
    ("flags", "expected", "words"),
    [
        ([], {"idle_minutes": 5, "down": False, "wait_for": "jobs_and_ssh"}, "dev-1 stops once"),
        (["-i", "1", "--down"], {"idle_minutes": 1, "down": True, "wait_for": "jobs_and_ssh"}, "1 minute."),
        (["--wait-for", "none"], {"idle_minutes": 5, "down": False, "wait_for": "none"}, "5 minutes."),
        (["--cancel"], None, "no longer"),
        (["-i", "-1"], None, "no longer"),
    ],
)
def test_autostop_sets_and_cancels(
    cli: Cli, api: ScriptedApi, flags: list[str], expected: dict | None, words: str
) -> None:
    result = cli("autostop", "dev-1", "-y", *flags)
    assert api.asked("PUT", "/v1/clusters/dev-1/autostop")[0].body == {"autostop": expected}
    assert words in result.err


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        (["1", "2"], {"job_ids": [1, 2], "all": False}),
        (["-a"], {"job_ids": [], "all": True}),
        ([], {"job_ids": [3], "all": False}),
    ],
)
def test_cancel_sends_the_chosen_jobs(cli: Cli, api: ScriptedApi, arguments: list[str], body: dict) -> None:
    api.jobs["dev-1"] = [job(4), job(3, "RUNNING"), job(2, "RUNNING"), job(1)]
    result = cli("cancel", "dev-1", *arguments, "-y")
    assert result.code == 0
    assert api.asked("POST", "/v1/clusters/dev-1/jobs/cancel")[0].body == body
    assert "Cancelling" in result.err


def test_cancel_has_nothing_to_do_when_all_jobs_have_ended(cli: Cli, api: ScriptedApi) -> None:
    api.jobs["dev-1"] = [job(1)]
    result = cli("cancel", "dev-1")
    assert result.code == 0
    assert "no job that has not ended" in result.err


@pytest.mark.parametrize("arguments", [["1"], ["-a"], ["1", "-a", "-y"], ["one", "-y"]])
def test_cancel_is_refused_when_unclear_or_unconfirmed(
    cli: Cli, api: ScriptedApi, arguments: list[str]
) -> None:
    assert cli("cancel", "dev-1", *arguments).code == 2
    assert acted_on(api, "cancel") == []
