"""The routes of the HTTP functions, of which two live in one process and answer on several threads."""

from __future__ import annotations

import base64
import json
import logging
import threading
from typing import Any

import pytest

from stix.model.errors import ThrottledError
from stix.runtime.http import HttpFunction, answer, node_of, query_flag, read_json

DEADLINE = 20.0
LOGGER = logging.getLogger("test")


def request(method: str, path: str, rank: int = 0, **parts: Any) -> dict[str, Any]:
    caller = {"kind": "node", "workspace": "default", "cluster_id": "c-1", "rank": rank}
    return {
        "version": "2.0",
        "rawPath": path,
        "headers": {},
        "isBase64Encoded": False,
        "requestContext": {
            "stage": "$default",
            "authorizer": {"lambda": caller},
            "http": {"method": method, "path": path},
        },
        **parts,
    }


def nodes(inside: threading.Event, go_on: threading.Event) -> HttpFunction:
    """``GET /nodes/<name>`` tells name and caller; that of ``slow`` waits."""

    def add_routes(app: HttpFunction) -> None:
        @app.get("/nodes/<name>")
        def tell(name: str) -> Any:
            if name == "slow":
                inside.set()
                assert go_on.wait(DEADLINE)
            return answer({"name": name, "rank": node_of(app).rank})

    return HttpFunction(LOGGER, add_routes)


@pytest.mark.parametrize("functions", [1, 2])
def test_each_request_keeps_its_caller_when_another_is_answered_meanwhile(functions: int) -> None:
    inside, go_on = threading.Event(), threading.Event()
    slow = nodes(inside, go_on)
    quick = slow if functions == 1 else nodes(inside, go_on)
    answers: list[str] = []
    event = request("GET", "/nodes/slow", rank=1)
    thread = threading.Thread(target=lambda: answers.append(slow.resolve(event)["body"]))
    thread.start()
    assert inside.wait(DEADLINE)
    assert quick.resolve(request("GET", "/nodes/quick", rank=2))["body"] == '{"name":"quick","rank":2}'
    go_on.set()
    thread.join(DEADLINE)
    assert answers == ['{"name":"slow","rank":1}']


def echo() -> HttpFunction:
    def add_routes(app: HttpFunction) -> None:
        @app.get("/v1/things/<id>/parts/<part>")
        def part(id: str, part: str) -> Any:
            return answer({"id": id, "part": part})

        @app.get("/v1/things/all")
        def every() -> Any:
            return answer({"flag": query_flag(app, "flag")})

        @app.get("/v1/things/<id>")
        def one(id: str) -> Any:
            return answer({"id": id})

        @app.put("/v1/things/<id>")
        def put(id: str) -> Any:
            return answer({"id": id, "body": read_json(app)}, 201)

        @app.get("/v1/busy")
        def busy() -> Any:
            raise ThrottledError("Too many.", retry_after=1.5)

    return HttpFunction(LOGGER, add_routes)


@pytest.mark.parametrize(
    ("method", "path", "parts", "status", "told"),
    [
        ("GET", "/v1/things/a b", {}, 200, {"id": "a b"}),
        ("GET", "/v1/things/all", {"queryStringParameters": {"flag": "true"}}, 200, {"flag": True}),
        ("GET", "/v1/things/x/parts/a%2Fb", {}, 200, {"id": "x", "part": "a%2Fb"}),
        ("PUT", "/v1/things/x", {"body": '{"n": 1}'}, 201, {"id": "x", "body": {"n": 1}}),
        (
            "PUT",
            "/v1/things/x",
            {"body": base64.b64encode(b"{}").decode(), "isBase64Encoded": True},
            201,
            {"id": "x", "body": {}},
        ),
    ],
)
def test_view_is_picked_when_method_and_path_are_its_own(
    method: str, path: str, parts: dict[str, Any], status: int, told: dict[str, Any]
) -> None:
    answered = echo().resolve(request(method, path, **parts))
    assert (answered["statusCode"], json.loads(answered["body"])) == (status, told)


@pytest.mark.parametrize(
    ("method", "path"),
    [("DELETE", "/v1/things/x"), ("GET", "/v1/things/x/"), ("GET", "/v1/things/x/y"), ("GET", "/v1")],
)
def test_path_is_refused_when_no_route_is_like_it(method: str, path: str) -> None:
    answered = echo().resolve(request(method, path))
    error = json.loads(answered["body"])["error"]
    assert (answered["statusCode"], error["code"]) == (404, "no_route")
    assert f"{method} {path}" in error["message"]


def test_stage_is_no_part_of_the_path_when_it_has_a_name() -> None:
    event = request("GET", "/dev/v1/things/x")
    event["requestContext"]["stage"] = "dev"
    assert echo().resolve(event)["body"] == '{"id":"x"}'


def test_body_is_refused_when_it_is_no_text() -> None:
    event = request("PUT", "/v1/things/x", body=base64.b64encode(b"\xff").decode(), isBase64Encoded=True)
    answered = echo().resolve(event)
    assert answered["statusCode"] == 400
    assert "not JSON" in answered["body"]


def test_caller_is_told_when_to_come_again_when_it_asks_too_often() -> None:
    answered = echo().resolve(request("GET", "/v1/busy"))
    assert (answered["statusCode"], answered["headers"]["retry-after"]) == (ThrottledError.http_status, "2")
