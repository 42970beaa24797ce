"""API Gateway's HTTP API events, payload format 2.0, and what it makes of a function's answer.

Where the public documentation is silent this follows what is observed of the service: ``rawPath`` is decoded,
``rawQueryString`` is not; the ``cookie`` header moves to ``cookies``; repeated values are joined by commas.
"""

from __future__ import annotations

import base64
import binascii
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

__all__ = [
    "HttpAnswer",
    "HttpRequest",
    "MalformedAnswerError",
    "authorizer_event",
    "http_event",
    "read_answer",
]

_TEXT = ("text/", "application/json", "application/xml", "application/javascript")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class MalformedAnswerError(Exception):
    """A function's answer is not what an HTTP API accepts."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as it came in. ``path`` is decoded; header names are lower-case."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    source_ip: str
    protocol: str = "HTTP/1.1"
    body: bytes = b""

    def header(self, name: str) -> str:
        """All values of a header joined by commas; empty when it was not sent."""
        return ",".join(value for key, value in self.headers if key == name)


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer ready to be sent; header names are lower-case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def http_event(request: HttpRequest, route: str, authorizer: Mapping[str, Any] | None) -> dict[str, Any]:
    """The event for a function behind ``route``; ``authorizer`` is the context that the authorizer gave."""
    event = _shared_part(request, route)
    if authorizer is not None:
        event["requestContext"]["authorizer"] = {"lambda": dict(authorizer)}
    if request.body:
        event["body"], event["isBase64Encoded"] = _encode_body(request)
    else:
        event["isBase64Encoded"] = False
    return event


def authorizer_event(request: HttpRequest, route: str) -> dict[str, Any]:
    """The event for a request authorizer whose identity source is the ``Authorization`` header."""
    event = _shared_part(request, route)
    path = request.path.lstrip("/")
    event["type"] = "REQUEST"
    event["routeArn"] = f"arn:aws:execute-api:local:000000000000:embedded/$default/{request.method}/{path}"
    event["identitySource"] = [request.header("authorization")]
    return event


def read_answer(answer: Any) -> HttpAnswer:
    """What the HTTP API sends for a function's answer. Raises ``MalformedAnswerError``."""
    if not isinstance(answer, dict) or "statusCode" not in answer:
        raise MalformedAnswerError(f"no statusCode in the answer, which is of type {type(answer).__name__}")
    try:
        status = int(answer["statusCode"])
    except (TypeError, ValueError):
        status = 0
    if not 200 <= status <= 599:
        raise MalformedAnswerError(f"statusCode is {answer['statusCode']!r}, not a number from 200 to 599")
    body = answer.get("body") or ""
    headers = answer.get("headers") or {}
    if not isinstance(body, str) or not isinstance(headers, dict):
        raise MalformedAnswerError("body must be text, and headers a mapping")
    try:
        content = base64.b64decode(body, validate=True) if answer.get("isBase64Encoded") else body.encode()
    except binascii.Error as exc:
        raise MalformedAnswerError("body is said to be base64 but is not") from exc
    pairs = [(str(name).lower(), _header_text(value)) for name, value in headers.items()]
    pairs += [("set-cookie", _header_text(cookie)) for cookie in answer.get("cookies") or ()]
    if not any(name == "content-type" for name, _ in pairs):
        pairs.append(("content-type", "application/json"))
    return HttpAnswer(status, tuple(pairs), content)


def _shared_part(request: HttpRequest, route: str) -> dict[str, Any]:
    now = time.time()
    host = request.header("host")
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route,
        "rawPath": request.path,
        "rawQueryString": request.query,
        "headers": _joined((name, value) for name, value in request.headers if name != "cookie"),
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "embedded",
            "domainName": host,
            "domainPrefix": host.split(".")[0],
            "http": {
                "method": request.method,
                "path": request.path,
                "protocol": request.protocol,
                "sourceIp": request.source_ip,
                "userAgent": request.header("user-agent"),
            },
            "requestId": uuid.uuid4().hex[:16],
            "routeKey": route,
            "stage": "$default",
            "time": _log_time(now),
            "timeEpoch": int(now * 1000),
        },
    }
    cookies = [
        part.strip() for name, value in request.headers if name == "cookie" for part in value.split(";")
    ]
    if cookies:
        event["cookies"] = cookies
    if request.query:
        event["queryStringParameters"] = _joined(parse_qsl(request.query, keep_blank_values=True))
    prefix, greedy, _ = route.partition("{proxy+}")
    if greedy:
        event["pathParameters"] = {"proxy": request.path.removeprefix(prefix.partition(" ")[2])}
    return event


def _encode_body(request: HttpRequest) -> tuple[str, bool]:
    """Bodies of text types stay text, all others travel as base64."""
    if request.header("content-type").lower().startswith(_TEXT):
        try:
            return request.body.decode(), False
        except UnicodeDecodeError:
            pass
    return base64.b64encode(request.body).decode("ascii"), True


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in pairs:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


def _header_text(value: Any) -> str:
    """Numbers and booleans are allowed; a line break would let a value write headers of its own."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise MalformedAnswerError(f"a header's value is of type {type(value).__name__}")
    text = str(value)
    if not text.isascii() or any(character in text for character in "\r\n\0"):
        raise MalformedAnswerError("a header's value has characters that a header cannot hold")
    return text


def _log_time(now: float) -> str:
    """As in access logs, in English whatever the locale is."""
    moment = time.gmtime(now)
    clock = time.strftime("%H:%M:%S", moment)
    return f"{moment.tm_mday:02d}/{_MONTHS[moment.tm_mon - 1]}/{moment.tm_year}:{clock} +0000"
