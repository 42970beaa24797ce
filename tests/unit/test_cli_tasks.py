"""launch and exec."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import httpx
import pytest

from tests.unit.scripted_api import Cli, ScriptedApi, chunk, cluster, error, job, offer, operation

HELLO = "name: hello\nnum_nodes: 2\nenvs: {WHO: world}\nrun: echo hello $WHO\n"


@pytest.fixture
def api() -> ScriptedApi:
    api = ScriptedApi(clusters=[cluster("dev")], job_states=[job()])
    api.operation_states = [operation(lines=["Chose local ($0/h): cheapest.", "1 of 1 nodes are up."])]
    api.logs["dev", 1] = api.logs["stix-chosen", 1] = {0: [chunk((1, "hello world\n"), (2, "warning\n"))]}
    return api


@pytest.fixture
def cli(api, capsys, monkeypatch, tmp_path) -> Cli:
    monkeypatch.chdir(tmp_path)
    return Cli(api, capsys, monkeypatch, str(tmp_path / "home"))


def launched(cli: Cli, *arguments: str) -> dict:
    result = cli("launch", *arguments)
    assert result.code == 0, result.err
    return cli.api.asked("POST", "/v1/clusters")[-1].body


def test_launch_shows_progress_log_and_what_next(cli: Cli, api: ScriptedApi) -> None:
    api.clusters = [cluster("stix-chosen")]
    result = cli("launch", "echo hello world")
    assert result.code == 0
    assert result.out == "hello world\n"
    lines = result.err.splitlines()
    assert lines[1:4] == ["Chose local ($0/h): cheapest.", "1 of 1 nodes are up.", "warning"]
    assert "Job 1 SUCCEEDED." in lines
    for command in ("stix logs stix-chosen 1", "stix exec stix-chosen", "stix down stix-chosen"):
        assert command in result.err
    assert max(map(len, lines)) <= 80


def test_launch_sends_the_task_of_a_file_with_the_flags_over_it(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "hello.yaml").write_text(HELLO)
    flags = "-c dev -n other --num-nodes 3 --infra local --cpus 2+ --memory 4 --gpus L4:1 --use-spot -t big"
    body = launched(cli, "hello.yaml", *flags.split(), "--ports", "80", "--ports", "90-91", "--no-setup")
    task = body["task"]
    assert (task["name"], task["num_nodes"], task["run"]) == ("other", 3, "echo hello $WHO")
    resources = task["resources"]
    assert resources["infra"] == "local"
    assert resources["use_spot"] is True
    assert resources["instance_type"] == "big"
    assert {"cpus", "memory", "accelerators", "ports"} <= set(resources)
    assert (body["cluster"], body["no_setup"], body["follow"], body["autostop"]) == ("dev", True, True, None)


def test_launch_takes_variables_from_flags_files_and_the_environment(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "vars").write_text("# comment\n\nexport A='one two'\nB=\"x\\ny\"\nC=plain # why\nD=1\n")
    cli.environ["FROM_HERE"] = "mine"
    arguments = ["--env-file", "vars", "--env", "D=2", "--env", "E=a=b", "--env", "FROM_HERE"]
    task = launched(cli, "true", "-c", "dev", *arguments)["task"]
    assert task["envs"] == {
        "A": "one two",
        "B": "x\ny",
        "C": "plain",
        "D": "2",
        "E": "a=b",
        "FROM_HERE": "mine",
    }


def test_launch_sends_secret_values_beside_the_task_only(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("KEY=s3cret-file\n")
    body = launched(cli, "true", "-c", "dev", "--secret-file", "keys", "--secret", "TOKEN=s3cret-flag")
    assert body["secrets"] == {"KEY": "s3cret-file", "TOKEN": "s3cret-flag"}
    assert "s3cret" not in json.dumps(body["task"])


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["-i", "10"], {"idle_minutes": 10, "down": False, "wait_for": "jobs_and_ssh"}),
        (["-i", "10", "--down"], {"idle_minutes": 10, "down": True, "wait_for": "jobs_and_ssh"}),
        (["--down"], {"idle_minutes": 0, "down": True, "wait_for": "jobs_and_ssh"}),
        (["-i", "-1"], {"idle_minutes": None, "down": False, "wait_for": "jobs_and_ssh"}),
        (["-i", "3", "--wait-for", "none"], {"idle_minutes": 3, "down": False, "wait_for": "none"}),
    ],
)
def test_launch_sends_autostop_flags(cli: Cli, flags: list[str], expected: dict) -> None:
    assert launched(cli, "true", "-c", "dev", *flags)["autostop"] == expected


def test_launch_keeps_the_idle_time_of_the_task_when_only_down_is_given(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("run: 'true'\nresources:\n  autostop: {idle_minutes: 42}\n")
    assert launched(cli, "t.yaml", "-c", "dev", "--down")["autostop"]["idle_minutes"] == 42


def test_launch_sends_files_once_and_only_when_the_store_lacks_them(
    cli: Cli, api: ScriptedApi, tmp_path: Path
) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "a.txt").write_text("a")
    (tmp_path / "one.txt").write_text("b")
    (tmp_path / "t.yaml").write_text("run: 'true'\nworkdir: work\nfile_mounts: {~/one.txt: one.txt}\n")
    body = launched(cli, "t.yaml", "-c", "dev")
    mounts = [body["workdir"], *body["file_mounts"]]
    assert [(mount["dst"], mount["kind"]) for mount in mounts] == [("", "dir"), ("~/one.txt", "file")]
    for mount in mounts:
        sent = api.uploads[mount["sha256"]]
        assert hashlib.sha256(sent).hexdigest() == mount["sha256"]
        assert len(sent) == mount["size"]
    put = next(call for call in api.calls if call.method == "PUT")
    assert put.headers["content-length"] == str(len(put.content))
    assert put.headers["x-sum"] == put.path.rpartition("/")[2]
    assert "authorization" not in put.headers
    api.stored = set(api.uploads)
    api.uploads.clear()
    launched(cli, "t.yaml", "-c", "dev")
    assert api.uploads == {}


def test_upload_is_sent_again_when_its_url_has_expired(cli: Cli, api: ScriptedApi, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    launched(cli, "true", "-c", "dev", "--workdir", "work")
    (key,) = api.uploads
    api.uploads.clear()
    api.scripted["PUT", f"/objects/{key}"] = [httpx.Response(403), httpx.ConnectError("cut")]
    launched(cli, "true", "-c", "dev", "--workdir", "work")
    assert key in api.uploads


def test_dryrun_shows_offers_within_eighty_columns_and_changes_nothing(cli: Cli, api: ScriptedApi) -> None:
    api.offers = [
        offer(1, cloud="aws", region="us-east-1", zone="us-east-1a", instance_type="p4d.24xlarge", spot=True)
        | {"accelerators": "A100:8", "hourly_price": 9.83, "vcpus": 96, "memory_gib": 1152},
        offer(
            2, cloud="aws", region="ap-northeast-1", zone="ap-northeast-1c", instance_type="u-24tb1.112xlarge"
        ),
    ]
    result = cli("launch", "true", "--dryrun")
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0].split() == ["#", "WHERE", "INSTANCE", "VCPUS", "MEM", "GPUS", "SPOT", "PRICE/H"]
    assert "$9.83" in lines[1]
    assert "A100:8" in lines[1]
    assert max(map(len, lines)) <= 80
    assert api.asked("POST", "/v1/clusters") == []


def test_dryrun_gives_the_plan_as_json(cli: Cli) -> None:
    result = cli("launch", "true", "--dryrun", "-o", "json")
    assert json.loads(result.out) == {"offers": [offer()]}


def test_launch_asks_when_a_person_would_make_a_new_cluster(cli: Cli, api: ScriptedApi) -> None:
    cli.terminal = True
    refused = cli("launch", "true", "-c", "fresh", answer="n\n")
    assert refused.code == 1
    assert "Make cluster fresh?" in refused.err
    assert api.asked("POST", "/v1/clusters") == []
    api.logs["fresh", 1] = {}
    api.clusters.append(cluster("other"))
    assert "Make" not in cli("launch", "true", "-c", "dev").err
    assert "Make" not in cli("launch", "true", "-c", "fresh", "-y", "-d").err
    assert len(api.asked("POST", "/v1/clusters")) == 2


def test_launch_does_not_ask_when_nobody_can_answer(cli: Cli, api: ScriptedApi) -> None:
    assert cli("launch", "true", "-c", "fresh", "-d").code == 0


def test_launch_detached_does_not_touch_the_log(cli: Cli, api: ScriptedApi) -> None:
    result = cli("launch", "true", "-c", "dev", "-d")
    assert result.code == 0
    assert "stix logs dev 1" in result.err
    assert api.asked("POST", "/v1/clusters")[0].body["follow"] is False
    assert not [call for call in api.calls if call.path.endswith("/logs")]


def test_launch_async_prints_the_operation_and_waits_for_nothing(cli: Cli, api: ScriptedApi) -> None:
    result = cli("launch", "true", "-c", "dev", "--async")
    assert (result.code, result.out) == (0, "op-1\n")
    assert api.asked("GET", "/v1/operations/op-1") == []


def test_launch_without_a_command_only_makes_the_cluster(cli: Cli) -> None:
    result = cli("launch", "-c", "dev")
    assert result.code == 0
    assert "stix exec dev" in result.err
    assert "stix logs" not in result.err


@pytest.mark.parametrize(
    ("code", "expected"), [("no_offer", 2), ("no_capacity", 1), ("invalid_task", 2), ("credentials", 1)]
)
def test_launch_failure_is_one_paragraph_with_its_exit_code(
    cli: Cli, api: ScriptedApi, code: str, expected: int
) -> None:
    failure = {"code": code, "message": "Nothing fits.", "hint": "Ask for less."}
    api.operation_states = [operation(status="FAILED", lines=["Trying."], error=failure)]
    result = cli("launch", "true", "-c", "dev")
    assert result.code == expected
    assert result.err.endswith("stix: error: Nothing fits.\n  Ask for less.\n")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"status": "SUCCEEDED"}, 0),
        ({"status": "FAILED", "exit_code": 7, "exit_codes": [7]}, 7),
        ({"status": "FAILED", "exit_code": 137, "exit_codes": [0, 137]}, 137),
        ({"status": "FAILED", "exit_code": None, "exit_codes": []}, 1),
        ({"status": "FAILED", "exit_code": 0, "exit_codes": []}, 1),
        ({"status": "FAILED_SETUP", "exit_code": 3, "exit_codes": [3]}, 3),
        ({"status": "CANCELLED", "exit_code": 143, "exit_codes": [143]}, 1),
    ],
)
def test_exit_code_is_the_jobs_own(cli: Cli, api: ScriptedApi, fields: dict, expected: int) -> None:
    api.job_states = [job(**fields)]
    for command in (["launch", "-c", "dev", "true"], ["exec", "dev", "true"], ["logs", "dev", "1"]):
        result = cli(*command)
        assert result.code == expected
        assert f"Job 1 {fields['status']}" in result.err


def test_exec_joins_words_and_sends_them_to_the_cluster(cli: Cli, api: ScriptedApi) -> None:
    result = cli("exec", "dev", "echo", "hello", "&&", "true", "--env", "A=1")
    assert (result.code, result.out) == (0, "hello world\n")
    body = api.asked("POST", "/v1/clusters/dev/jobs")[0].body
    assert body["task"] == {"run": "echo hello && true", "envs": {"A": "1"}}


def test_exec_detached_names_the_job_and_its_log(cli: Cli, api: ScriptedApi) -> None:
    result = cli("exec", "dev", "-d", "true")
    assert (result.code, result.out) == (0, "")
    assert "stix logs dev 1" in result.err


def test_exec_needs_a_cluster_that_exists(cli: Cli) -> None:
    result = cli("exec", "nope", "true")
    assert result.code == 2
    assert result.err == "stix: error: There is no cluster 'nope'.\n"


def test_exec_says_what_to_do_when_the_cluster_is_stopped(cli: Cli, api: ScriptedApi) -> None:
    refusal = error(409, "cluster_not_up", "Cluster dev is STOPPED.", "Start it: stix start dev")
    api.scripted["POST", "/v1/clusters/dev/jobs"] = [refusal]
    result = cli("exec", "dev", "true")
    assert (result.code, result.err) == (
        2,
        "stix: error: Cluster dev is STOPPED.\n  Start it: stix start dev\n",
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["launch", "missing.yaml"], ["missing.yaml"]),
        (["launch", "bad.yaml"], ["bad.yaml:2", "num_nodes", "zero"]),
        (["launch", "true", "--gpus", "A100:x"], ["--gpus", "A100:x"]),
        (["launch", "true", "--num-nodes", "many"], ["--num-nodes", "many"]),
        (["launch", "true", "--workdir", "nowhere"], ["workdir", "nowhere", "does not exist"]),
        (["launch", "true", "--env", "1A=x"], ["--env", "'1A'"]),
        (["launch", "true", "--env", "UNSET_HERE"], ["--env", "UNSET_HERE is not set"]),
        (["launch", "true", "--env-file", "nowhere"], ["--env-file", "nowhere", "No such file"]),
        (["launch", "true", "--secret-file", "bad.yaml"], ["--secret-file", "line 1"]),
        (["launch", "needs.yaml"], ["NEEDED", "--env NEEDED="]),
        (["launch", "true", "--wait-for", "jobs"], ["--wait-for needs -i"]),
        (["launch", "true", "--num-node", "1"], ["--num-node", "--num-nodes"]),
        (["lunch", "true"], ["'lunch'", "'launch'"]),
        (["exec", "dev"], ["ENTRYPOINT"]),
    ],
)
def test_bad_input_ends_with_2_and_names_the_fix(
    cli: Cli, api: ScriptedApi, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    (tmp_path / "bad.yaml").write_text("run: 'true'\nnum_nodes: zero\n")
    (tmp_path / "needs.yaml").write_text("run: 'true'\nenvs: {NEEDED: null}\n")
    result = cli(*arguments)
    assert result.code == 2
    assert result.err.startswith("stix: error: ")
    assert "Traceback" not in result.err
    for word in words:
        assert word in result.err
    assert result.out == ""
    assert api.calls == []


def test_secret_in_a_bad_file_is_not_shown(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("hunter2 is my password\n")
    result = cli("launch", "true", "--secret-file", "keys")
    assert result.code == 2
    assert "hunter2" not in result.err


def test_interrupt_while_launching_says_that_it_goes_on(cli: Cli, api: ScriptedApi, monkeypatch) -> None:
    monkeypatch.setattr("stix.cli.job_output.follow_operation", _interrupt)
    result = cli("launch", "true", "-c", "dev")
    assert result.code == 130
    assert "The request goes on. See: stix status dev" in result.err


def test_interrupt_while_following_says_how_to_come_back(cli: Cli, api: ScriptedApi) -> None:
    api.job_states = [job(status="RUNNING")]
    api.on_page = lambda count: _interrupt() if count == 1 else None
    result = cli("exec", "dev", "true")
    assert result.code == 130
    assert result.out == "hello world\n"
    assert "Detached; the job goes on. Come back: stix logs dev 1" in result.err
    assert not [call for call in api.calls if call.path.endswith("/cancel")]


def _interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt
