from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver
from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2

from stix.local.http_events import (
    HttpRequest,
    MalformedAnswerError,
    authorizer_event,
    http_event,
    read_answer,
)

REQUEST = HttpRequest(
    method="POST",
    path="/v1/clusters/a b",
    query="names=a%2Cb&names=c&empty=",
    headers=(
        ("host", "127.0.0.1:8000"),
        ("authorization", "Bearer x"),
        ("content-type", "application/json"),
        ("accept", "a"),
        ("accept", "b"),
        ("cookie", "k=1; l=2"),
        ("user-agent", "test"),
    ),
    source_ip="127.0.0.1",
    body=b'{"a": "\xc3\xa4"}',
)


def test_event_has_the_parts_of_payload_format_2_when_built() -> None:
    event = http_event(REQUEST, "ANY /v1/{proxy+}", {"user": "u"})
    assert json.loads(json.dumps(event)) == event
    assert event["version"] == "2.0"
    assert event["rawPath"] == "/v1/clusters/a b"
    assert event["rawQueryString"] == "names=a%2Cb&names=c&empty="
    assert event["queryStringParameters"] == {"names": "a,b,c", "empty": ""}
    assert event["pathParameters"] == {"proxy": "clusters/a b"}
    assert event["headers"]["accept"] == "a,b"
    assert "cookie" not in event["headers"]
    assert event["cookies"] == ["k=1", "l=2"]
    assert event["body"] == '{"a": "ä"}'
    assert event["isBase64Encoded"] is False
    context = event["requestContext"]
    assert context["http"]["method"] == "POST"
    assert context["http"]["userAgent"] == "test"
    assert context["authorizer"] == {"lambda": {"user": "u"}}
    assert context["stage"] == "$default"


def test_resolver_of_the_deployed_functions_reads_the_event_when_built() -> None:
    app = APIGatewayHttpResolver()

    @app.post("/v1/clusters/<name>")
    def found(name: str) -> dict[str, Any]:
        event = app.current_event
        assert isinstance(event, APIGatewayProxyEventV2)
        return {"name": name, "body": event.json_body, "names": event.query_string_parameters["names"]}

    answer = read_answer(
        app.resolve(http_event(replace(REQUEST, path="/v1/clusters/x"), "$default", {}), None)
    )
    assert answer.status == 200
    assert json.loads(answer.body) == {"name": "x", "body": {"a": "ä"}, "names": "a,b,c"}


@pytest.mark.parametrize(
    ("content_type", "body"), [("application/octet-stream", b"plain"), ("application/json", b"\xff\xfe")]
)
def test_body_travels_as_base64_when_it_is_not_text(content_type: str, body: bytes) -> None:
    event = http_event(
        replace(REQUEST, headers=(("content-type", content_type),), body=body), "$default", None
    )
    assert event["isBase64Encoded"] is True
    assert base64.b64decode(event["body"]) == body


def test_authorizer_event_has_the_identity_source_and_no_body_when_built() -> None:
    event = authorizer_event(REQUEST, "ANY /v1/{proxy+}")
    assert event["type"] == "REQUEST"
    assert event["identitySource"] == ["Bearer x"]
    assert event["routeArn"].endswith("/$default/POST/v1/clusters/a b")
    assert "body" not in event


def test_answer_is_read_when_it_has_headers_cookies_and_base64() -> None:
    answer = read_answer(
        {
            "statusCode": "201",
            "headers": {"X-Number": 3, "X-Flag": True},
            "cookies": ["a=1", "b=2"],
            "body": base64.b64encode(b"\x00\x01").decode(),
            "isBase64Encoded": True,
        }
    )
    assert answer.status == 201
    assert answer.body == b"\x00\x01"
    assert answer.headers == (
        ("x-number", "3"),
        ("x-flag", "true"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("content-type", "application/json"),
    )


@pytest.mark.parametrize(
    "answer",
    [
        None,
        {"body": "x"},
        {"statusCode": 99},
        {"statusCode": "ok"},
        {"statusCode": 200, "body": {"not": "text"}},
        {"statusCode": 200, "body": "%", "isBase64Encoded": True},
        {"statusCode": 200, "headers": {"x": "a\r\nset-cookie: b"}},
        {"statusCode": 200, "headers": {"x": ["a"]}},
    ],
)
def test_answer_is_refused_when_it_is_malformed(answer: Any) -> None:
    with pytest.raises(MalformedAnswerError):
        read_answer(answer)
