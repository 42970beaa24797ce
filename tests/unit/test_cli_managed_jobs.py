"""stix jobs: what is asked for, what is shown, and the exit codes."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from stix.api import v1_jobs
from tests.unit.scripted_api import NOW, Cli, ScriptedApi, chunk, error, job


@pytest.fixture
def api() -> ScriptedApi:
    api = ScriptedApi(job_states=[job()])
    api.logs["dev", 1] = {0: [chunk((1, "hello\n"))]}
    return api


@pytest.fixture
def cli(api, capsys, monkeypatch, tmp_path) -> Cli:
    monkeypatch.chdir(tmp_path)
    return Cli(api, capsys, monkeypatch, str(tmp_path / "home"))


def task(index: int = 0, status: str = "SUCCEEDED", **fields: Any) -> v1_jobs.ManagedJobTask:
    return v1_jobs.ManagedJobTask(index=index, status=status, since=NOW - 9, **fields)


def managed(number: int = 1, status: str = "SUCCEEDED", *tasks: Any, **fields: Any) -> dict[str, Any]:
    given = {"name": "train", "since": NOW - 9, "submitted_at": NOW - 100, "version": 3}
    made = v1_jobs.ManagedJob(
        id=number, status=status, tasks=list(tasks) or [task(status=status)], **{**given, **fields}
    )
    return made.model_dump(mode="json")


def run_of(number: int = 1, at: int = 0) -> dict[str, Any]:
    made = v1_jobs.ManagedJobRun(
        number=number, task=at, cluster="train-1", begun_at=NOW, place="aws/us-east-1", reason="cheapest"
    )
    return made.model_dump(mode="json")


def say(api: ScriptedApi, method: str, path: str, *answers: Any) -> None:
    for one in answers:
        answer = one if isinstance(one, (httpx.Response, Exception)) else httpx.Response(200, json=one)
        api.scripted[method, path].append(answer)


def runs(*found: dict[str, Any]) -> dict[str, Any]:
    return {"runs": list(found), "next": None}


def log_of(api: ScriptedApi) -> Any:
    return api._log_page("dev", {})


def test_launch_sends_the_task_and_follows_its_log(cli: Cli, api: ScriptedApi) -> None:
    say(api, "POST", "/v1/jobs", {"job_id": 1, "name": "train"})
    say(api, "GET", "/v1/jobs/1", *[managed()] * 4)
    say(api, "GET", "/v1/jobs/1/runs", runs(run_of()), runs())
    say(api, "GET", "/v1/jobs/1/runs/1/logs", log_of(api))
    result = cli(
        "jobs", "launch", "-y", "-n", "train", "--use-spot", "--job-recovery", "FAILOVER", "echo hello"
    )
    assert (result.code, result.out) == (0, "hello\n")
    assert result.err.endswith("Job 1 SUCCEEDED.\n")
    [call] = api.asked("POST", "/v1/jobs")
    v1_jobs.JobsLaunchRequest.model_validate(call.body)
    assert call.body["name"] == "train"
    [sent] = call.body["tasks"]
    assert sent["task"]["resources"]["job_recovery"]["strategy"] == "FAILOVER"
    assert sent["task"]["resources"]["use_spot"] is True


def test_launch_sends_a_pipeline_with_its_header_when_the_file_has_several_documents(
    cli: Cli, api: ScriptedApi, tmp_path
) -> None:
    (tmp_path / "pipe.yaml").write_text(
        "name: pipe\n---\nname: a\nrun: one $WHO\nenvs: {WHO: null}\n---\n"
        "name: b\nrun: two\ndepends_on: [a]\n"
    )
    say(api, "POST", "/v1/jobs", {"job_id": 4, "name": "pipe"})
    result = cli("jobs", "launch", "-y", "-o", "json", "--env", "WHO=me", "pipe.yaml")
    assert json.loads(result.out) == {"job_id": 4, "name": "pipe"}
    [call] = api.asked("POST", "/v1/jobs")
    request = v1_jobs.JobsLaunchRequest.model_validate(call.body)
    assert (request.name, request.header["name"]) == ("pipe", "pipe")
    assert [one.task["name"] for one in request.tasks] == ["a", "b"]
    assert request.tasks[0].task["envs"] == {"WHO": "me"}


def test_exit_code_is_that_of_the_task_that_failed(cli: Cli, api: ScriptedApi) -> None:
    failed = managed(1, "FAILED", task(status="FAILED", exit_code=7), reason="run exited with code 7")
    say(api, "GET", "/v1/jobs/1", *[failed] * 3)
    result = cli("jobs", "wait", "1")
    assert (result.code, result.err) == (7, "Job 1 FAILED: run exited with code 7.\n")


def test_wait_gives_up_when_its_time_is_over(cli: Cli, api: ScriptedApi) -> None:
    say(api, "GET", "/v1/jobs/latest", managed(2, "RUNNING"))
    say(api, "GET", "/v1/jobs/2", *[managed(2, "RUNNING")] * 20)
    result = cli("jobs", "wait", "--timeout", "5")
    assert result.code == 124
    assert "is RUNNING still" in result.err


def test_logs_of_all_runs_are_shown_in_their_order(cli: Cli, api: ScriptedApi) -> None:
    say(api, "GET", "/v1/jobs/1", *[managed(recoveries=1)] * 3)
    say(api, "GET", "/v1/jobs/1/runs", runs(run_of(1), run_of(2)), runs())
    say(api, "GET", "/v1/jobs/1/runs/1/logs", log_of(api))
    say(api, "GET", "/v1/jobs/1/runs/2/logs", log_of(api))
    result = cli("jobs", "logs", "1")
    assert result.out == "hello\nhello\n"
    assert "-- run 2 of train in aws/us-east-1 (cheapest)" in result.err
    assert result.err.endswith("Job 1 SUCCEEDED after 1 recovery.\n")


def test_queue_shows_the_tasks_of_a_pipeline(cli: Cli, api: ScriptedApi) -> None:
    pipe = managed(
        3, "RUNNING", task(0, name="a"), task(1, "RUNNING", name="b", place="aws/eu", recoveries=2)
    )
    say(api, "GET", "/v1/jobs", {"jobs": [pipe, managed(2, place="")], "next": None})
    result = cli("jobs", "queue")
    lines = [line.split() for line in result.out.splitlines()]
    assert lines[0] == ["ID", "TASK", "NAME", "WHERE", "SUBMITTED", "DURATION", "RECOVERIES", "STATUS"]
    assert [line[-1] for line in lines[1:]] == ["RUNNING", "SUCCEEDED", "RUNNING", "SUCCEEDED"]
    assert api.asked("GET", "/v1/jobs")[0].query == {"limit": "50", "user": "me"}


def test_queue_asks_one_page_when_more_exist(cli: Cli, api: ScriptedApi) -> None:
    jobs = [managed(number) for number in range(9, 4, -1)]
    say(api, "GET", "/v1/jobs", {"jobs": jobs, "next": "cursor"})
    result = cli("jobs", "queue", "-l", "5", "-o", "json")
    assert len(json.loads(result.out)["jobs"]) == 5
    assert len(api.calls) == 1


def test_cancel_finds_the_job_by_its_name(cli: Cli, api: ScriptedApi) -> None:
    say(
        api,
        "GET",
        "/v1/jobs",
        {"jobs": [managed(8, "RUNNING"), managed(7, "RUNNING", name="x")], "next": None},
    )
    say(api, "POST", "/v1/jobs/cancel", {"jobs": [managed(8, "CANCELLING")], "next": None})
    result = cli("jobs", "cancel", "-y", "-n", "train", "--graceful-timeout", "5")
    assert result.err == "Cancelling 1 managed job: 8\n"
    [call] = api.asked("POST", "/v1/jobs/cancel")
    assert call.body == {"job_ids": [8], "all": False, "grace_seconds": 5}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("cancel", "-y"), "Give job numbers"),
        (("cancel", "-y", "1", "-a"), "only one of them"),
        (("logs", "1", "-n", "x"), "not both"),
        (("launch", "-y", "nothing.yaml"), "nothing.yaml"),
        (("launch", "-y"), "Missing argument"),
        (("queue", "-s", "LOST"), "LOST"),
    ],
)
def test_wrong_arguments_end_with_2(cli: Cli, arguments, words) -> None:
    result = cli("jobs", *arguments)
    assert result.code == 2
    assert words in result.err


def test_unknown_task_is_refused_with_the_known_ones(cli: Cli, api: ScriptedApi) -> None:
    say(api, "GET", "/v1/jobs/1", managed(1, "RUNNING", task(0, name="a"), task(1, name="b")))
    result = cli("jobs", "logs", "1", "c")
    assert result.code == 2
    assert "Its tasks: a, b." in result.err


def test_unknown_job_ends_with_2(cli: Cli, api: ScriptedApi) -> None:
    say(api, "GET", "/v1/jobs/9", error(404, "job_not_found", "There is no managed job 9."))
    result = cli("jobs", "wait", "9")
    assert result.code == 2
    assert "There is no managed job 9." in result.err


def test_events_are_shown_oldest_first(cli: Cli, api: ScriptedApi) -> None:
    say(api, "GET", "/v1/jobs/latest", managed(5))
    event = v1_jobs.ManagedJobEvent(number=1, at=NOW - 60, name="JobPreempted", place="aws/a", reason="taken")
    say(api, "GET", "/v1/jobs/5/events", {"events": [event.model_dump()], "next": None})
    assert cli("jobs", "events").out.splitlines()[1].split() == ["1m", "JobPreempted", "aws/a", "taken"]


def test_explain_of_a_number_is_about_a_managed_job(cli: Cli, api: ScriptedApi) -> None:
    told = v1_jobs.ManagedJobExplanation(
        job=v1_jobs.ManagedJob.model_validate(managed(5, "RUNNING", deadline_at=NOW + 7200)),
        decisions=[{"at": NOW - 60, "message": "JobPreempted [aws/a]: taken"}],
        cost=1.5,
        work=36000,
        work_done=18000,
    )
    say(api, "GET", "/v1/jobs/5/explain", told.model_dump(mode="json"))
    result = cli("explain", "5")
    assert result.code == 0
    assert "Job 5 (train) is RUNNING" in result.out
    assert "deadline in 2h, 5 of 10 h of work stored" in result.out
    assert "JobPreempted [aws/a]: taken" in result.out


def test_logs_follow_the_first_primary_task_when_the_job_is_a_group(cli: Cli, api: ScriptedApi) -> None:
    tasks = [task(0, name="server", primary=False), task(1, name="trainer")]
    group = managed(1, "SUCCEEDED", *tasks, group="rl", name="rl")
    say(api, "GET", "/v1/jobs/latest", group)
    say(api, "GET", "/v1/jobs/1", *[group] * 3)
    say(api, "GET", "/v1/jobs/1/runs", runs(run_of(1, 0), run_of(2, 1)), runs())
    say(api, "GET", "/v1/jobs/1/runs/2/logs", log_of(api))
    result = cli("jobs", "logs")
    assert (result.code, result.out) == (0, "hello\n")
    assert "Of trainer; another task's log: stix jobs logs 1 TASK" in result.err


def test_queue_leaves_its_filters_to_the_server(cli: Cli, api: ScriptedApi) -> None:
    say(api, "GET", "/v1/jobs", *[{"jobs": [], "next": None}] * 2)
    given = ("-s", "FAILED", "-s", "RUNNING", "--infra", "aws/us-east-1", "--since", "2h", "-u", "-l", "7")
    assert cli("jobs", "queue", *given).out == "No managed jobs.\n"
    cli("jobs", "queue", "--since", "2024-01-02")
    first, second = (call.query for call in api.asked("GET", "/v1/jobs"))
    since = float(first.pop("since"))
    assert first == {"status": "FAILED,RUNNING", "infra": "aws/us-east-1", "limit": "7"}
    assert since == pytest.approx(NOW - 7200, abs=1)
    assert second["since"] == "1704153600"
    assert "--since" in cli("jobs", "queue", "--since", "tomorrow").err
