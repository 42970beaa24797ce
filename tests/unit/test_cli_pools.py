"""stix jobs pool, and jobs in pools: what is asked for, what is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from stix.api import v1_jobs, v1_pools
from tests.unit.scripted_api import NOW, Cli, ScriptedApi, chunk, error, job

YAML = """
name: warm
resources: {cpus: 4}
pool: {min_workers: 0, max_workers: 8, queue_length_threshold: 2}
setup: pip install torch
run: echo left out
"""


@pytest.fixture
def api() -> ScriptedApi:
    api = ScriptedApi(job_states=[job()])
    api.logs["dev", 1] = {0: [chunk((1, "installed\n"))]}
    return api


@pytest.fixture
def cli(api, capsys, monkeypatch, tmp_path) -> Cli:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pool.yaml").write_text(YAML)
    return Cli(api, capsys, monkeypatch, str(tmp_path / "home"))


def pool(**fields: Any) -> dict[str, Any]:
    worker = v1_pools.PoolWorker(
        number=3, version=2, status="READY", since=NOW, cluster="warm-3", launched_at=NOW - 600,
        place="aws/us-east-1/us-east-1a", spot=True, price=0.5, jobs=[7, 8],
    )  # fmt: skip
    given: dict[str, Any] = {
        "name": "warm", "status": "READY", "since": NOW - 9, "created_at": NOW - 7200, "version": 2,
        "mode": "rolling", "resources": "cpus 4", "min_workers": 0, "max_workers": 8,
        "queue_length_threshold": 2, "upscale_delay_seconds": 300, "downscale_delay_seconds": 1200,
        "target": 2, "ready": 1, "waiting": 5, "running": 2, "workers": [worker],
        "decisions": [{"at": NOW - 60, "message": "1 -> 2 workers: 1 with jobs, 5 waiting"}],
    }  # fmt: skip
    return v1_pools.Pool(**{**given, **fields}).model_dump(mode="json")


def say(api: ScriptedApi, method: str, path: str, *answers: Any) -> None:
    for one in answers:
        answer = one if isinstance(one, (httpx.Response, Exception)) else httpx.Response(200, json=one)
        api.scripted[method, path].append(answer)


ACCEPTED = {"name": "warm", "version": 1, "created": True}


def test_apply_sends_the_worker_without_what_jobs_bring(cli: Cli, api: ScriptedApi) -> None:
    say(api, "PUT", "/v1/pools/warm", ACCEPTED)
    result = cli("jobs", "pool", "apply", "-y", "pool.yaml", "--use-spot", "--mode", "blue_green")
    assert result.code == 0
    assert "run: it is left out" in result.err
    assert "stix jobs pool status warm" in result.err
    [call] = api.asked("PUT", "/v1/pools/warm")
    v1_pools.PoolApplyRequest.model_validate(call.body)
    sent = call.body["task"]["task"]
    assert sent["pool"] == {"min_workers": 0, "max_workers": 8, "queue_length_threshold": 2}
    assert (sent["setup"], sent["resources"]["use_spot"], "run" in sent) == ("pip install torch", True, False)
    assert (call.body["mode"], call.body["workers"]) == ("blue_green", None)


def test_apply_changes_the_size_alone_when_no_file_is_given(cli: Cli, api: ScriptedApi) -> None:
    say(api, "PUT", "/v1/pools/warm", ACCEPTED | {"created": False, "version": 4})
    result = cli("jobs", "pool", "apply", "-y", "-p", "warm", "--workers", "3")
    assert result.err == "Pool warm is applied (version 4). See: stix jobs pool status warm\n"
    [call] = api.asked("PUT", "/v1/pools/warm")
    assert call.body == {"workers": 3, "mode": "rolling"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("apply",), "Give a YAML file, or -p NAME and --workers N"),
        (("apply", "--workers", "3"), "The pool has no name"),
        (("apply", "-p", "9/9", "--workers", "3"), "is not a pool's name"),
        (("apply", "bare.yaml"), "The YAML has no pool:"),
        (("down",), "Give pools or --all"),
        (("down", "-a", "warm"), "Give pools or --all"),
    ],
)
def test_mistake_is_named_and_nothing_is_asked(cli: Cli, api: ScriptedApi, arguments, words) -> None:
    Path("bare.yaml").write_text("name: warm\nsetup: echo hi\n")
    result = cli("jobs", "pool", *arguments)
    assert result.code == 2
    assert words in result.err
    assert not api.asked("PUT", "/v1/pools/warm")


def test_status_shows_pools_and_their_workers(cli: Cli, api: ScriptedApi) -> None:
    say(api, "GET", "/v1/pools", {"pools": [pool()], "next": None})
    say(api, "GET", "/v1/pools/warm", pool())
    result = cli("jobs", "pool", "status", "-v")
    lines = [line.split() for line in result.out.splitlines()]
    assert lines[1] == ["warm", "2", "2h", "1/2", "5", "2", "cpus", "4", "READY"]
    where = ["aws/us-east-1/us-east-1a", "(spot)"]
    assert lines[4] == ["warm", "3", "2", "10m", "ago", *where, "7,", "8", "READY"]
    assert "workers wanted: 0 to 8, one for each 2 waiting jobs" in result.out
    assert "1m ago  1 -> 2 workers: 1 with jobs, 5 waiting" in result.out


def test_status_says_that_there_is_none(cli: Cli, api: ScriptedApi) -> None:
    say(api, "GET", "/v1/pools", {"pools": [], "next": None})
    assert cli("jobs", "pool", "status").out == "No pools.\n"


def test_down_says_what_becomes_of_the_jobs(cli: Cli, api: ScriptedApi) -> None:
    say(api, "GET", "/v1/pools/warm", pool(), pool())
    say(api, "POST", "/v1/pools/warm/down", *[{"name": "warm"}] * 2)
    assert cli("jobs", "pool", "down", "-y", "warm").err == "Pool warm goes down; 7 jobs cancelled.\n"
    result = cli("jobs", "pool", "down", "-y", "--drain", "warm")
    assert result.err == "Pool warm goes down; 7 jobs end first.\n"
    assert [call.body for call in api.asked("POST", "/v1/pools/warm/down")] == [
        {"drain": False},
        {"drain": True},
    ]


def test_down_of_an_unknown_pool_ends_with_two(cli: Cli, api: ScriptedApi) -> None:
    say(api, "GET", "/v1/pools/cold", error(404, "pool_not_found", "There is no pool 'cold'."))
    result = cli("jobs", "pool", "down", "-y", "cold")
    assert result.code == 2
    assert "There is no pool 'cold'." in result.err


def test_logs_print_the_setup_of_each_worker(cli: Cli, api: ScriptedApi) -> None:
    say(api, "GET", "/v1/pools/warm", pool())
    say(api, "GET", "/v1/pools/warm/workers/3/logs", api._log_page("dev", {}))
    result = cli("jobs", "pool", "logs", "warm")
    assert (result.code, result.out) == (0, "installed\n")


def managed(**fields: Any) -> dict[str, Any]:
    task = v1_jobs.ManagedJobTask(index=0, status="PENDING", since=NOW)
    made = v1_jobs.ManagedJob(
        id=1, status="PENDING", tasks=[task], name="train", since=NOW, submitted_at=NOW, version=1, **fields
    )
    return made.model_dump(mode="json")


def test_launch_sends_pool_and_number_and_follows_none_of_many(cli: Cli, api: ScriptedApi) -> None:
    say(api, "POST", "/v1/jobs", {"job_id": 4, "name": "train", "num_jobs": 10})
    result = cli("jobs", "launch", "-y", "-n", "train", "-p", "warm", "--num-jobs", "10", "echo hello")
    assert result.err.endswith("Managed jobs 4 to 13 (train). See: stix jobs queue\n")
    [call] = api.asked("POST", "/v1/jobs")
    v1_jobs.JobsLaunchRequest.model_validate(call.body)
    assert (call.body["pool"], call.body["num_jobs"]) == ("warm", 10)


def test_launch_of_many_needs_a_pool(cli: Cli, api: ScriptedApi) -> None:
    result = cli("jobs", "launch", "-y", "--num-jobs", "3", "echo hello")
    assert result.code == 2
    assert "Add --pool NAME" in result.err


def test_queue_shows_the_pool_of_a_job(cli: Cli, api: ScriptedApi) -> None:
    say(api, "GET", "/v1/jobs", {"jobs": [managed(pool="warm", num_jobs=2)], "next": None})
    assert "pool warm" in cli("jobs", "queue").out


def test_cancel_takes_the_jobs_of_a_pool(cli: Cli, api: ScriptedApi) -> None:
    say(api, "POST", "/v1/jobs/cancel", {"jobs": [managed(pool="warm")], "next": None})
    result = cli("jobs", "cancel", "-y", "-p", "warm")
    assert result.err == "Cancelling 1 managed job: 1\n"
    [call] = api.asked("POST", "/v1/jobs/cancel")
    assert (call.body["pool"], call.body["job_ids"], call.body["all"]) == ("warm", [], False)


def test_explain_tells_of_a_pool_where_nothing_else_has_its_name(cli: Cli, api: ScriptedApi) -> None:
    say(api, "GET", "/v1/clusters/warm/explain", error(404, "cluster_not_found", "no cluster"))
    say(api, "GET", "/v1/services/warm", error(404, "service_not_found", "no service"))
    say(api, "GET", "/v1/pools/warm", pool())
    result = cli("explain", "warm")
    assert "warm is READY" in result.out
    assert "1 -> 2 workers: 1 with jobs, 5 waiting" in result.out
    say(api, "GET", "/v1/clusters/cold/explain", error(404, "cluster_not_found", "no cluster"))
    say(api, "GET", "/v1/services/cold", error(404, "service_not_found", "no service"))
    say(api, "GET", "/v1/pools/cold", error(404, "pool_not_found", "no pool"))
    assert cli("explain", "cold").code == 2
