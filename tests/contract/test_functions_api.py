"""The people's API: every answer is one that the checked-in document promises."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aws_lambda_powertools import Logger
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from functions.api.handler import add_routes, handler
from stix.api.openapi import document, text
from stix.api.routes import ERROR_CODES, OPERATION_CODES, ROUTES
from stix.application.tokens import create_user_token
from stix.model import errors
from stix.model.errors import StixError, ThrottledError, UnavailableError
from stix.runtime.http import new_resolver
from tests.contract.functions_client import Answer, send

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "openapi.json"
TASK = {"name": "hello", "run": "echo hi"}
ZEROS = "0" * 64

Ask = Callable[..., Answer]


@pytest.fixture
def ask(plane) -> Ask:
    """A request of ann's; the answer must be one of its route's in the document."""

    def request(method: str, path: str, body: Any = None, **options: Any) -> Answer:
        answer = send(handler, method, path, body, **({"token": "ann-token"} | options))
        template = next(
            (t for t in document()["paths"] if re.fullmatch(re.sub(r"{\w+}", "[^/]+", t), path)), None
        )
        operation = document()["paths"].get(template, {}).get(method.lower())
        if operation is not None:
            check(operation, answer)
        return answer

    return request


def check(operation: dict[str, Any], answer: Answer) -> None:
    described = operation["responses"][str(answer.status)]
    components = document()["components"]
    if "$ref" in described:
        described = components["responses"][described["$ref"].rpartition("/")[2]]
    schema = described["content"]["application/json"]["schema"]
    Draft202012Validator(schema | {"components": components}).validate(answer.body)
    if answer.status >= 400:
        assert answer.code in ERROR_CODES[answer.status]


# The document


def test_document_is_the_checked_in_one_when_generated_again():
    assert DOCUMENT.read_text(encoding="utf-8") == text(), (
        "docs/openapi.json is old: python -m stix.api.openapi docs/openapi.json"
    )


def test_document_is_valid_openapi():
    assert list(OpenAPIV31SpecValidator(json.loads(DOCUMENT.read_text())).iter_errors()) == []


def test_document_has_exactly_the_routes_of_the_function():
    app = new_resolver(Logger(service="api"))
    add_routes(app)
    served = {
        (method, re.sub(r"<(\w+)>", r"{\1}", route.path))
        for route in app._static_routes + app._dynamic_routes
        for method in ([route.method] if isinstance(route.method, str) else route.method)
    }
    assert served == {(route.method.upper(), route.path) for route in ROUTES}
    assert len({route.name for route in ROUTES}) == len(ROUTES)


def test_every_error_class_has_its_status_and_code_in_the_document():
    kinds = [getattr(errors, name) for name in errors.__all__ if name != "Blocks"]
    seen_by_people = [kind for kind in kinds if not issubclass(kind, (errors.NotYetTerminatedError,))]
    for kind in seen_by_people:
        assert kind.http_status in ERROR_CODES
    assert {kind.http_status for kind in kinds} | {429} == set(ERROR_CODES)


def test_every_code_that_is_raised_is_in_the_document():
    raised = set()
    for folder in ("shared/stix/application", "shared/stix/runtime", "functions/api"):
        for path in (ROOT / folder).glob("*.py"):
            raised |= set(re.findall(r'\bcode="(\w+)"', path.read_text(encoding="utf-8")))
    of_agents = {"cluster_gone", "not_ready", "no_archive"}
    known = {code for codes in ERROR_CODES.values() for code in codes} | set(OPERATION_CODES)
    assert raised - of_agents <= known
    assert len(raised) > 10


def test_every_route_says_what_any_request_may_meet():
    for path, operations in document()["paths"].items():
        for method, operation in operations.items():
            statuses = set(operation["responses"])
            assert {"500", "503", "429"} <= statuses
            assert path == "/v1/health" or {"401", "403"} <= statuses
            if "requestBody" in operation:
                assert "400" in statuses, (method, path)
            if "{" in path:
                assert "404" in statuses


# A life, through the routes


def test_cluster_lives_its_life_through_the_routes(plane, ask):
    assert ask("GET", "/v1/health", authorized=False, token="").body["runtime"] == "embedded"
    assert ask("GET", "/v1/check").body["clouds"][0]["enabled"]
    offers = ask("POST", "/v1/plan", {"task": TASK}).body["offers"]
    assert [offer["hourly_price"] for offer in offers] == [1.0, 2.0]
    upload = ask("POST", "/v1/uploads", {"sha256": ZEROS, "size": 3})
    assert upload.body["method"] == "PUT"

    accepted = ask("POST", "/v1/clusters", {"task": TASK, "cluster": "train"})
    assert accepted.status == 202
    cluster = plane.cluster()
    plane.rank(cluster)
    plane.create(cluster)
    plane.join(cluster)
    plane.hand_over(cluster)
    operation = ask("GET", f"/v1/operations/{accepted.body['operation_id']}").body
    assert (operation["status"], operation["kind"]) == ("SUCCEEDED", "launch")
    assert len(ask("GET", "/v1/operations").body["operations"]) == 1

    listed = ask("GET", "/v1/clusters", query="verbose=true").body["clusters"]
    assert [(one["name"], one["status"], len(one["nodes"])) for one in listed] == [("train", "UP", 1)]
    assert ask("GET", "/v1/clusters", query="names=none,train").body["clusters"][0]["name"] == "train"
    assert ask("GET", "/v1/clusters/train", query="verbose=true").body["addresses"] == ["10.0.0.0"]

    ran = ask("POST", "/v1/clusters/train/jobs", {"task": TASK})
    assert (ran.status, ran.body) == (201, {"cluster": "train", "job_id": 2})
    assert [job["id"] for job in ask("GET", "/v1/clusters/train/jobs").body["jobs"]] == [2, 1]
    assert ask("GET", "/v1/clusters/train/jobs/latest").body["id"] == 2
    assert ask("GET", "/v1/clusters/train/jobs/1/logs", query="follow=true&rank=0").body["done"] is False
    cancelled = ask("POST", "/v1/clusters/train/jobs/cancel", {"job_ids": [2]})
    assert [job["id"] for job in cancelled.body["jobs"]] == [2]

    setting = {"autostop": {"idle_minutes": 5, "down": True}}
    assert ask("PUT", "/v1/clusters/train/autostop", setting).body["autostop"]["down"] is True
    for verb in ("stop", "start", "down"):
        assert ask("POST", f"/v1/clusters/train/{verb}", {}).status == 202
    assert ask("POST", "/v1/clusters/train/down", {"purge": True}).status == 202
    assert ask("GET", "/v1/clusters").body == {"clusters": [], "next": None}


def test_answer_is_repeated_when_a_request_comes_again_under_its_key(plane, ask):
    def launch(run="echo hi"):
        body = {"task": {"run": run}, "cluster": "train"}
        return ask("POST", "/v1/clusters", body, headers={"Idempotency-Key": "k1"})

    first = launch()
    assert launch() == first
    assert (launch("other").status, launch("other").code) == (409, "idempotency_mismatch")
    long = ask("POST", "/v1/clusters", {"task": TASK}, headers={"idempotency-key": "k" * 129})
    assert (long.status, long.code) == (400, "invalid_input")


def test_pages_follow_each_other_when_there_are_many_jobs(plane, ask):
    plane.bring_up()
    for _ in range(4):
        plane.execute()
    seen, query = [], "limit=2"
    for _ in range(3):
        page = ask("GET", "/v1/clusters/train/jobs", query=query).body
        seen += [job["id"] for job in page["jobs"]]
        query = f"limit=2&after={page['next']}"
    assert seen == [5, 4, 3, 2, 1]
    assert page["next"] is None
    assert len(ask("GET", "/v1/clusters/train/jobs", query="limit=200").body["jobs"]) == 5
    assert ask("GET", "/v1/clusters", query="names=a%23b,,%00,train").body["clusters"][0]["name"] == "train"


@pytest.mark.parametrize(
    ("path", "query"),
    [("/v1/operations/{operation}", "wait=20&seen=1"), ("/v1/clusters/train/jobs/1/logs", "wait=7")],
)
def test_request_may_be_held_when_there_is_nothing_new(plane, ask, path, query):
    operation = plane.launch()["operation_id"]
    answer = ask("GET", path.format(operation=operation), query=query)
    assert answer.status == 200
    assert answer.headers["stix-park"]
    assert answer.headers["stix-park-seconds"] in ("20", "7")
    assert answer.headers["retry-after"] == "1"
    assert "stix-park" not in ask("GET", path.format(operation=operation)).headers


# What is refused

BAD_REQUESTS = [
    ("POST", "/v1/clusters", b"{not json", "JSON"),
    ("POST", "/v1/clusters", b"[1]", "JSON object"),
    ("POST", "/v1/clusters", b"\xff\xfe", "JSON"),
    ("POST", "/v1/clusters", {}, "task"),
    ("POST", "/v1/clusters", {"task": TASK, "cluster": "9lives"}, "cluster"),
    ("POST", "/v1/clusters", {"task": TASK, "colour": "red"}, "colour"),
    ("POST", "/v1/clusters", {"task": {"runn": "x"}}, "runn"),
    ("POST", "/v1/plan", {"task": {"num_nodes": -1}}, "num_nodes"),
    ("POST", "/v1/uploads", {"sha256": "x", "size": 1}, "sha256"),
    ("POST", "/v1/uploads", {"sha256": ZEROS, "size": -1}, "size"),
    ("PUT", "/v1/clusters/train/autostop", {"autostop": {"idle_minutes": -5}}, "idle_minutes"),
    ("POST", "/v1/clusters/train/jobs/cancel", {}, "job ids"),
    ("POST", "/v1/clusters/train/down", {"purge": "perhaps"}, "purge"),
]


@pytest.mark.parametrize(("method", "path", "body", "named"), BAD_REQUESTS)
def test_request_is_refused_naming_the_field_when_it_is_wrong(plane, ask, method, path, body, named):
    plane.bring_up()
    answer = ask(method, path, body)
    assert answer.status == 400
    assert named in answer.body["error"]["message"]
    assert "Traceback" not in str(answer.body)


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/v1/clusters", "verbose=perhaps"),
        ("/v1/clusters", "after=nonsense"),
        ("/v1/operations", "after=nonsense"),
        ("/v1/clusters/train", "verbose=2"),
        ("/v1/clusters/train/jobs", "limit=0"),
        ("/v1/clusters/train/jobs", "limit=201"),
        ("/v1/clusters/train/jobs", "limit=x"),
        ("/v1/clusters/train/jobs/1/logs", "cursor=x"),
        ("/v1/clusters/train/jobs/1/logs", "cursor=0:-1"),
        ("/v1/clusters/train/jobs/1/logs", "rank=1"),
        ("/v1/clusters/train/jobs/1/logs", "wait=-1"),
        ("/v1/clusters/train/jobs/1/logs", "wait=21"),
        ("/v1/operations/{operation}", "seen=many"),
    ],
)
def test_request_is_refused_when_its_query_is_wrong(plane, ask, path, query):
    operation = plane.bring_up().operation_id
    answer = ask("GET", path.format(operation=operation), query=query)
    assert (answer.status, answer.code) == (400, "invalid_input")


def test_secret_is_not_echoed_when_it_is_of_the_wrong_type(plane, ask):
    answer = ask("POST", "/v1/clusters", {"task": TASK, "secrets": {"TOKEN": ["hush"]}})
    assert answer.status == 400
    assert "hush" not in str(answer.body)


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/v1/clusters/none", "cluster_not_found"),
        ("GET", "/v1/clusters/" + "x" * 3000, "cluster_not_found"),
        ("GET", "/v1/clusters/a b", "cluster_not_found"),
        ("GET", "/v1/operations/" + "x" * 3000, "operation_not_found"),
        ("GET", "/v1/operations/op-a&b", "operation_not_found"),
        ("GET", "/v1/clusters/train/jobs/" + "9" * 400, "job_not_found"),
        ("POST", "/v1/clusters/none/stop", "cluster_not_found"),
        ("PUT", "/v1/clusters/none/autostop", "cluster_not_found"),
        ("GET", "/v1/clusters/train/jobs/99", "job_not_found"),
        ("GET", "/v1/clusters/train/jobs/x/logs", "job_not_found"),
        ("GET", "/v1/clusters/train/jobs/²", "job_not_found"),
        ("GET", "/v1/operations/none", "operation_not_found"),
        ("GET", "/v2/clusters", "no_route"),
        ("DELETE", "/v1/clusters/train", "no_route"),
    ],
)
def test_request_is_refused_when_there_is_no_such_thing(plane, ask, method, path, code):
    plane.bring_up()
    body = {"autostop": None} if method == "PUT" else None if method in ("GET", "DELETE") else {}
    answer = ask(method, path, body)
    assert (answer.status, answer.code) == (404, code)


def test_conflict_and_missing_offer_have_their_statuses(plane, ask):
    plane.launch()
    body = {"task": TASK}
    assert (ask("POST", "/v1/clusters/train/jobs", body).status) == 409
    large = {"task": {"run": "x", "resources": {"cpus": 999}}}
    for path in ("/v1/plan", "/v1/clusters"):
        assert (ask("POST", path, large).status, ask("POST", path, large).code) == (422, "no_offer")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (UnavailableError("away"), 503, "unavailable"),
        (ThrottledError("slow", retry_after=3.2), 502, "throttled"),
        (errors.CredentialsError("none"), 502, "credentials"),
        (StixError("odd"), 500, "internal"),
    ],
)
def test_failure_of_the_world_has_its_status(plane, ask, monkeypatch, error, status, code):
    def fail():
        raise error

    monkeypatch.setattr(plane.compute, "offers", fail)
    answer = ask("POST", "/v1/plan", {"task": TASK})
    assert (answer.status, answer.code) == (status, code)
    assert (answer.headers.get("retry-after") == "4") == (code == "throttled")


@pytest.mark.parametrize("token", ["", "wrong", "stixn.team.c-1.0.x", "stixj.team.c-1.0.x", "x" * 600])
def test_nobody_is_let_in_without_a_known_token(plane, token):
    for route in ROUTES:
        if not route.open:
            path = re.sub(r"{\w+}", "x", route.path)
            assert send(handler, route.method.upper(), path, token=token).status == 403


def test_node_opens_no_route_for_people(plane):
    cluster = plane.boot()
    token = plane.join(cluster)["node_token"]
    bodies = {
        "/v1/uploads": {"sha256": ZEROS, "size": 1},
        "/v1/plan": {"task": TASK},
        "/v1/clusters": {"task": TASK},
        "/v1/clusters/train/jobs": {"task": TASK},
        "/v1/clusters/train/autostop": {"autostop": None},
    }
    for route in ROUTES:
        if route.open:
            continue
        path = re.sub(r"{name}", "train", re.sub(r"{(job_id|operation_id)}", "1", route.path))
        answer = send(handler, route.method.upper(), path, bodies.get(path, {}), token=token)
        assert (answer.status, answer.code) == (403, "forbidden"), route.path


def test_other_workspaces_things_are_not_found(plane, ask):
    cluster = plane.bring_up()
    create_user_token(plane.world, token="bob-token", workspace="other", user="bob")
    for path in (
        "/v1/clusters/train",
        "/v1/clusters/train/jobs",
        "/v1/clusters/train/jobs/1",
        "/v1/clusters/train/jobs/1/logs",
        f"/v1/operations/{cluster.operation_id}",
    ):
        assert ask("GET", path, token="bob-token").status == 404
    assert ask("GET", "/v1/clusters", token="bob-token").body["clusters"] == []
    assert ask("POST", "/v1/clusters/train/down", {}, token="bob-token").status == 404
