"""The routes of managed jobs, against the checked-in document."""

from __future__ import annotations

import re
from typing import Any

import pytest

from functions.api.handler import handler
from stix.api.openapi import document
from stix.application import advance_job
from stix.application.job_draft import get_job
from stix.application.records import get_cluster
from stix.runtime.bootstrap import bootstrap
from tests.contract.functions_client import Answer, send
from tests.contract.test_functions_api import check

TASK = {"name": "train", "run": "python train.py"}


@pytest.fixture
def ask(plane):
    def request(method: str, path: str, body: Any = None, **options: Any) -> Answer:
        answer = send(handler, method, path, body, **({"token": "ann-token"} | options))
        template = next(t for t in document()["paths"] if re.fullmatch(re.sub(r"{\w+}", "[^/]+", t), path))
        check(document()["paths"][template][method.lower()], answer)
        return answer

    return request


def launch(ask, *tasks: dict[str, Any], **fields: Any) -> Answer:
    return ask("POST", "/v1/jobs", {"tasks": [{"task": one} for one in tasks or (TASK,)], **fields})


def test_job_lives_its_life_through_the_routes(plane, ask):
    accepted = launch(ask)
    assert (accepted.status, accepted.body) == (202, {"job_id": 1, "name": "train"})
    workspace = plane.workflows.runs[-1][2]["job"]["workspace"]
    advance_job.advance(bootstrap(), workspace, 1)
    cluster = get_cluster(bootstrap(), workspace, get_job(bootstrap(), workspace, 1).tasks[0].cluster_id)
    plane.rank(cluster)
    plane.create(cluster)
    plane.join(cluster)
    plane.hand_over(cluster)
    plane.report(cluster, jobs=[{"id": 1, "status": "RUNNING", "started_at": plane.clock.now()}])
    advance_job.advance(bootstrap(), workspace, 1)

    [job] = ask("GET", "/v1/jobs").body["jobs"]
    assert (job["id"], job["status"], job["tasks"][0]["cluster"]) == (1, "RUNNING", cluster.name)
    assert ask("GET", "/v1/jobs", query="skip_finished=true&limit=1").body["jobs"] == [job]
    assert ask("GET", "/v1/jobs", query="user=me&status=STARTING,RUNNING").body["jobs"] == [job]
    assert ask("GET", "/v1/jobs", query="user=nobody").body["jobs"] == []
    assert ask("GET", "/v1/jobs/latest").body == job
    assert ask("GET", "/v1/jobs/1", query=f"wait=1&seen={job['version'] - 1}").body == job
    names = [event["name"] for event in ask("GET", "/v1/jobs/1/events").body["events"]]
    assert names == ["ManagedJobSubmitted", "JobLaunching", "JobStarted"]
    [run] = ask("GET", "/v1/jobs/1/runs").body["runs"]
    assert (run["number"], run["status"], run["cluster"]) == (1, "RUNNING", cluster.name)
    assert ask("GET", "/v1/jobs/1/runs/1/logs", query="follow=true&rank=0").body["done"] is False
    told = ask("GET", "/v1/jobs/1/explain").body
    assert told["decisions"][1]["message"].startswith("JobLaunching [")
    assert ask("GET", f"/v1/clusters/{cluster.name}").body["owner"] == "job/1"
    refused = ask("POST", f"/v1/clusters/{cluster.name}/down", {})
    assert (refused.status, refused.code) == (409, "cluster_owned")

    [cancelled] = ask("POST", "/v1/jobs/cancel", {"job_ids": [1]}).body["jobs"]
    assert cancelled["id"] == 1
    advance_job.advance(bootstrap(), workspace, 1)
    assert ask("GET", "/v1/jobs/1").body["status"] == "CANCELLING"


def test_job_is_accepted_once_when_its_request_is_repeated(plane, ask):
    body = {"tasks": [{"task": TASK}]}
    first = ask("POST", "/v1/jobs", body, headers={"idempotency-key": "k"})
    again = ask("POST", "/v1/jobs", body, headers={"idempotency-key": "k"})
    assert again.body == first.body
    assert len(ask("GET", "/v1/jobs").body["jobs"]) == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/v1/jobs/7", None, 404, "job_not_found"),
        ("GET", "/v1/jobs/latest", None, 404, "job_not_found"),
        ("GET", "/v1/jobs/one", None, 404, "job_not_found"),
        ("POST", "/v1/jobs/cancel", {"job_ids": [7]}, 404, "job_not_found"),
        ("POST", "/v1/jobs/cancel", {}, 400, "invalid_input"),
        ("POST", "/v1/jobs", {"tasks": []}, 400, "invalid_input"),
        ("POST", "/v1/jobs", {"tasks": [{"task": {"run": ["x"]}}]}, 400, "invalid_task"),
        ("POST", "/v1/jobs", {"tasks": [{"task": TASK | {"max_cost": 0.01}}]}, 400, "invalid_input"),
        (
            "POST",
            "/v1/jobs",
            {"tasks": [{"task": TASK | {"deadline": "1h", "estimated_duration": "1h"}}]},
            400,
            "deadline_too_early",
        ),
        ("POST", "/v1/jobs", {"tasks": [{"task": TASK | {"resources": {"cpus": 999}}}]}, 422, "no_offer"),
        ("GET", "/v1/jobs?after=nonsense", None, 400, "invalid_input"),
        ("GET", "/v1/jobs?status=DONE", None, 400, "invalid_input"),
        ("GET", "/v1/jobs?user=me&after=nonsense", None, 400, "invalid_input"),
    ],
)
def test_request_is_refused_with_its_code_when_it_is_wrong(plane, ask, method, path, body, status, code):
    path, _, query = path.partition("?")
    answer = ask(method, path, body, query=query)
    assert (answer.status, answer.code) == (status, code)


def test_secret_is_not_repeated_when_a_request_with_it_is_refused(plane, ask):
    body = {"tasks": [{"task": TASK, "secrets": {"TOKEN": ["hush"]}}]}
    answer = ask("POST", "/v1/jobs", body)
    assert answer.status == 400
    assert "hush" not in str(answer.body)


def test_run_is_not_found_when_it_never_was(plane, ask):
    launch(ask)
    assert ask("GET", "/v1/jobs/1/runs/3/logs").code == "job_not_found"
    assert ask("GET", "/v1/jobs/1/events", query="after=x").status == 400
