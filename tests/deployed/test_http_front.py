"""The HTTP API's front: its routes, its authorizer, how long it remembers, and what it answers itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stix.local.http_events import HttpRequest
from tests.deployed.api_gateway import Api, Authorizer, NotPermittedError, Route, is_permitted
from tests.deployed.http_front import HttpFront
from tests.deployed.runtime_api import Outcome

TOKEN = Authorizer("a", "authorize", 60, "Authorization")
ROUTES = [
    Route("GET /v1/{proxy+}", "people", TOKEN),
    Route("GET /v1/{kind}/one", "single", None),
    Route("GET /v1/health", "open", None),
    Route("POST /agent/v1/join", "agents", None),
]


class Functions:
    """Who was called, for whom; ``answers`` by function."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any], str]] = []
        self.answers: dict[str, Outcome] = {
            "authorize": said({"isAuthorized": True, "context": {"kind": "user"}})
        }
        self.forbidden: set[str] = set()

    def invoke(self, function: str, payload: bytes, service: str, source: str) -> Outcome:
        assert service == "apigateway.amazonaws.com"
        if function in self.forbidden:
            raise NotPermittedError
        self.calls.append((function, json.loads(payload), source))
        return self.answers.get(function, said({"statusCode": 200, "body": function}))

    def called(self, function: str) -> int:
        return sum(name == function for name, _, _ in self.calls)


def said(answer: Any) -> Outcome:
    return Outcome(json.dumps(answer).encode())


class Clock:
    now = 1000.0


@pytest.fixture
def functions() -> Functions:
    return Functions()


@pytest.fixture
def front(functions: Functions) -> HttpFront:
    api = Api("api1", "HTTP", "$default", {route.key: route for route in ROUTES})
    return HttpFront(api, functions.invoke, account="1", region="r", now=lambda: Clock.now)


def ask(front: HttpFront, path: str, token: str = "", method: str = "GET") -> tuple[int, str]:
    headers = (("host", "h"), *((("authorization", token),) if token else ()))
    answer = front.answer(HttpRequest(method, path, "", headers, "127.0.0.1"))
    return answer.status, answer.body.decode()


def test_most_specific_route_answers_when_several_fit(front: HttpFront, functions: Functions) -> None:
    assert ask(front, "/v1/health") == (200, "open")
    assert ask(front, "/v1/x/one") == (200, "single")
    assert functions.calls[-1][1]["pathParameters"] == {"kind": "x"}
    assert ask(front, "/v1/x/two", "t") == (200, "people")
    assert functions.calls[-1][1]["pathParameters"] == {"proxy": "x/two"}
    assert functions.calls[-1][2] == "arn:aws:execute-api:r:1:api1/$default/GET/v1/{proxy+}"


def test_gateway_answers_itself_when_no_route_fits(front: HttpFront, functions: Functions) -> None:
    assert ask(front, "/v1/health", method="DELETE") == (404, '{"message": "Not Found"}')
    assert ask(front, "/other", "t")[0] == 404
    assert functions.calls == []


def test_authorizer_decides_and_is_asked_again_only_when_its_time_is_over(
    front: HttpFront, functions: Functions
) -> None:
    assert ask(front, "/v1/x") == (401, '{"message": "Unauthorized"}')
    assert functions.called("authorize") == 0
    for _ in range(3):
        assert ask(front, "/v1/x", "t")[0] == 200
    assert functions.called("authorize") == 1
    assert functions.calls[-1][1]["requestContext"]["authorizer"] == {"lambda": {"kind": "user"}}
    functions.answers["authorize"] = said({"isAuthorized": False})
    assert ask(front, "/v1/x", "other") == (403, '{"message": "Forbidden"}')
    Clock.now += 59
    assert ask(front, "/v1/x", "t")[0] == 200
    Clock.now += 2
    assert ask(front, "/v1/x", "t")[0] == 403


@pytest.mark.parametrize("broken", ["people", "authorize"])
def test_failure_is_an_internal_error_when_a_function_fails_or_may_not_be_called(
    front: HttpFront, functions: Functions, broken: str
) -> None:
    functions.answers[broken] = Outcome.error("Sandbox.Timedout", "too long")
    assert ask(front, "/v1/x", "t") == (500, '{"message": "Internal Server Error"}')
    functions.forbidden.add(broken)
    assert ask(front, "/v1/x", "u") == (500, '{"message": "Internal Server Error"}')


def test_function_may_be_called_only_by_whom_its_policy_names() -> None:
    statement = {
        "Resource": "f:live",
        "Action": "lambda:InvokeFunction",
        "Principal": {"Service": "events.amazonaws.com"},
        "Condition": {"ArnLike": {"AWS:SourceArn": "arn:rule/one"}},
    }
    assert is_permitted([statement], "f:live", "events.amazonaws.com", "arn:rule/one")
    assert not is_permitted([statement], "f:live", "events.amazonaws.com", "arn:rule/two")
    assert not is_permitted([statement], "f:live", "apigateway.amazonaws.com", "arn:rule/one")
    assert not is_permitted([statement], "f", "events.amazonaws.com", "arn:rule/one")
    assert not is_permitted([], "f:live", "events.amazonaws.com", "arn:rule/one")
