"""The embedded control plane over HTTP, with tiny handlers in a real server process."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from stix.local.daemon import Endpoint, ensure_running, stop
from tests.waiting import PATIENCE, eventually

pytestmark = pytest.mark.xdist_group("embedded-server")

DOUBLES = (sys.executable, str(Path(__file__).with_name("embedded_doubles.py")))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("embedded") / "home"
    yield folder
    stop(folder)


@pytest.fixture(scope="module")
def endpoint(home: Path) -> Endpoint:
    return ensure_running(home, command=DOUBLES)


def words(home: Path, name: str) -> list[str]:
    path = home / "doubles" / name
    return path.read_text().split() if path.exists() else []


def call(
    endpoint: Endpoint,
    method: str,
    target: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    token: str | None = None,
) -> tuple[int, http.client.HTTPMessage, bytes]:
    parts = urlsplit(endpoint.url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=PATIENCE)
    try:
        token = endpoint.token if token is None else token
        authorization = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request(
            method, target.removeprefix(endpoint.url), body=body, headers=authorization | (headers or {})
        )
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def code_of(body: bytes) -> str:
    return str(json.loads(body)["error"]["code"])


def test_event_reaches_the_handler_when_a_request_is_made(endpoint: Endpoint) -> None:
    status, headers, body = call(
        endpoint,
        "PUT",
        "/v1/a%20b?x=1&x=2",
        body=b'{"k": 1}',
        headers={"Content-Type": "application/json", "Idempotency-Key": "i", "stix-parked": "true"},
    )
    event = json.loads(body)
    assert status == 200
    assert headers["content-type"] == "application/json"
    assert event["rawPath"] == "/v1/a b"
    assert event["queryStringParameters"] == {"x": "1,2"}
    assert event["headers"]["idempotency-key"] == "i"
    assert "stix-parked" not in event["headers"]
    assert event["body"] == '{"k": 1}'
    assert event["requestContext"]["authorizer"]["lambda"] == {"user": "somebody"}
    assert event["requestContext"]["http"]["sourceIp"] == "127.0.0.1"


@pytest.mark.parametrize("token", ["", "wrong", "revoked"])
def test_request_is_refused_when_its_token_is_not_good(endpoint: Endpoint, token: str) -> None:
    status, _, body = call(endpoint, "GET", "/v1/clusters", token=token)
    assert (status, code_of(body)) == (401, "unauthorized")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/health"), ("POST", "/agent/v1/join"), ("GET", "/agent/v1/archive/abc")],
)
def test_open_routes_answer_when_there_is_no_token(endpoint: Endpoint, method: str, path: str) -> None:
    status, _, _ = call(endpoint, method, path, body=b"{}" if method == "POST" else None, token="")
    assert status == 200


def test_request_is_refused_when_it_is_for_another_host(endpoint: Endpoint) -> None:
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", ""):
        status, _, body = call(endpoint, "GET", "/v1/health", headers={"Host": host})
        assert (status, code_of(body)) == (403, "forbidden"), host
    for host in ("localhost", "LOCALHOST:1", "[::1]:80"):
        assert call(endpoint, "GET", "/v1/health", headers={"Host": host})[0] == 200, host


def test_path_is_not_found_when_no_function_serves_it(endpoint: Endpoint) -> None:
    status, _, body = call(endpoint, "GET", "/")
    assert (status, code_of(body)) == (404, "not_found")


def test_answer_is_an_internal_error_when_the_handler_raises(endpoint: Endpoint, home: Path) -> None:
    status, _, body = call(endpoint, "GET", "/v1/fail")
    assert (status, code_of(body)) == (502, "internal")
    malformed = call(
        endpoint, "POST", "/agent/v1/commands", body=b"x", headers={"Content-Type": "text/plain"}
    )
    assert (malformed[0], code_of(malformed[2])) == (502, "internal")
    assert b"made to fail" not in body
    assert "made to fail" in (home / "server.log").read_text()


def test_request_is_refused_when_its_body_is_too_large(endpoint: Endpoint) -> None:
    status, _, body = call(endpoint, "POST", "/v1/x", body=b"x" * (6 * 1024 * 1024 + 1))
    assert (status, code_of(body)) == (413, "too_large")
    # Under the limit as it comes, over it as an event: base64 makes it longer.
    status, _, body = call(endpoint, "POST", "/v1/x", body=b"\xff" * (5 * 1024 * 1024))
    assert (status, code_of(body)) == (413, "too_large")


def test_requests_are_answered_side_by_side_by_as_many_threads_as_the_function_has(
    endpoint: Endpoint, home: Path
) -> None:
    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(lambda _: call(endpoint, "GET", "/v1/slow")[0], range(64)))
    assert statuses == [200] * 64
    assert max(map(int, words(home, "together"))) > 1


def test_pipelined_and_malformed_requests_are_answered_when_they_come(endpoint: Endpoint) -> None:
    parts = urlsplit(endpoint.url)
    with socket.create_connection((str(parts.hostname), int(parts.port or 0)), PATIENCE) as connection:
        one = b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        connection.sendall(one + one + b"nonsense\r\n\r\n")
        received = b""
        while piece := connection.recv(65536):
            received += piece
    assert received.count(b"HTTP/1.1 200") == 2
    assert received.count(b"HTTP/1.1 400") == 1


def test_request_is_refused_when_its_head_does_not_end(endpoint: Endpoint) -> None:
    parts = urlsplit(endpoint.url)
    with socket.create_connection((str(parts.hostname), int(parts.port or 0)), PATIENCE) as connection:
        connection.sendall(b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n")
        with suppress(ConnectionError):  # it closes while more is on its way
            for number in range(10_000):
                connection.sendall(b"X-Header-%d: " % number + b"x" * 1000 + b"\r\n")
        received = connection.recv(65536)
    assert received.startswith(b"HTTP/1.1 400")
    assert b"head is too large" in received


class Parked:
    """A request for commands in its own thread."""

    def __init__(self, endpoint: Endpoint, home: Path, seconds: str = "20"):
        self.before = len(words(home, "agent"))
        self.home = home
        self.answer: tuple[int, http.client.HTTPMessage, bytes] | None = None
        self.thread = threading.Thread(target=self._call, args=(endpoint, seconds))
        self.thread.start()

    def _call(self, endpoint: Endpoint, seconds: str) -> None:
        self.answer = call(
            endpoint,
            "POST",
            "/agent/v1/commands",
            body=seconds.encode(),
            headers={"Content-Type": "text/plain"},
        )

    def looks(self) -> list[str]:
        """How the handler was invoked so far for this request."""
        return words(self.home, "agent")[self.before :]

    def result(self) -> tuple[int, http.client.HTTPMessage, dict[str, str]]:
        self.thread.join(PATIENCE)
        assert self.answer is not None
        return self.answer[0], self.answer[1], json.loads(self.answer[2])


def test_parked_request_is_answered_when_its_topic_is_woken(endpoint: Endpoint, home: Path) -> None:
    word = home / "doubles" / "word"
    parked = Parked(endpoint, home)
    eventually(parked.looks)
    call(endpoint, "GET", "/v1/wake?topic=node/c/1")
    call(endpoint, "GET", "/v1/wake?topic=node/c/0")
    eventually(lambda: len(parked.looks()) == 2)  # it looked again, and was parked again
    assert parked.thread.is_alive()
    word.write_text("go")
    call(endpoint, "GET", "/v1/wake?topic=node/c/0")
    status, headers, body = parked.result()
    word.unlink()
    assert (status, body) == (200, {"word": "go"})
    assert parked.looks() == ["first", "true", "true"]
    assert not [name for name in headers if name.startswith("stix-park")]


def test_parked_request_gets_the_last_answer_when_the_time_is_over(endpoint: Endpoint, home: Path) -> None:
    parked = Parked(endpoint, home, seconds="0.05")
    status, headers, body = parked.result()
    assert (status, body) == (200, {"word": ""})
    assert parked.looks() == ["first"]
    assert not [name for name in headers if name.startswith("stix-park")]


def test_parking_ends_when_the_client_goes_away(endpoint: Endpoint, home: Path) -> None:
    parts = urlsplit(endpoint.url)
    before = len(words(home, "agent"))
    with socket.create_connection((str(parts.hostname), int(parts.port or 0)), PATIENCE) as connection:
        connection.sendall(
            b"POST /agent/v1/commands HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a\r\n"
            b"Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n20"
        )
        eventually(lambda: len(words(home, "agent")) == before + 1)
    # The server reads the end of that connection before it answers another on the same loop.
    assert call(endpoint, "GET", "/v1/health")[0] == 200
    call(endpoint, "GET", "/v1/wake?topic=node/c/0")
    parked = Parked(endpoint, home, seconds="0")
    parked.result()
    assert words(home, "agent")[before:] == ["first", "first"]


def test_object_comes_back_when_it_was_uploaded(endpoint: Endpoint) -> None:
    data = os.urandom(3_000_000)
    key = "uploads/a b+ä.bin"
    digest = hashlib.sha256(data).hexdigest()
    target = json.loads(
        call(endpoint, "GET", f"/v1/upload?key={quote(key)}&size={len(data)}&sha256={digest}")[2]
    )
    assert call(endpoint, "PUT", target["url"], body=data, headers=target["headers"], token="")[0] == 200
    url = json.loads(call(endpoint, "GET", f"/v1/download?key={quote(key)}")[2])["url"]
    status, headers, body = call(endpoint, "GET", url, token="")
    assert (status, headers["content-length"]) == (200, str(len(data)))
    assert body == data
    status, headers, body = call(endpoint, "GET", url, headers={"Range": "bytes=1000000-2000000"}, token="")
    assert (status, headers["content-range"]) == (206, f"bytes 1000000-2000000/{len(data)}")
    assert body == data[1_000_000:2_000_001]
    status, headers, body = call(endpoint, "GET", url, headers={"Range": "bytes=3000000-"}, token="")
    assert (status, headers["content-range"], body) == (416, f"bytes */{len(data)}", b"")


def test_upload_is_refused_when_it_is_not_what_was_announced(endpoint: Endpoint, home: Path) -> None:
    digest = hashlib.sha256(b"good").hexdigest()
    url = json.loads(call(endpoint, "GET", f"/v1/upload?key=uploads/x&size=4&sha256={digest}")[2])["url"]
    for data in (b"evil", b"short"[:3], b"longer"):
        status, _, body = call(endpoint, "PUT", url, body=data, token="")
        assert (status, code_of(body)) == (400, "invalid_input"), data
    status, _, body = call(endpoint, "PUT", url.replace("/x?", "/y?"), body=b"good", token="")
    assert (status, code_of(body)) == (403, "signed_url_invalid")
    assert call(endpoint, "GET", url, token="")[0] == 403
    read = json.loads(call(endpoint, "GET", "/v1/download?key=uploads/x")[2])["url"]
    status, _, body = call(endpoint, "GET", read, token="")
    assert (status, code_of(body)) == (404, "not_found")
    assert call(endpoint, "PUT", url, body=b"good", token="")[0] == 200
    assert call(endpoint, "GET", read, token="")[2] == b"good"
    assert list((home / "objects" / "incoming").iterdir()) == []


def test_nothing_is_left_when_an_upload_breaks_off(endpoint: Endpoint, home: Path) -> None:
    url = json.loads(call(endpoint, "GET", "/v1/upload?key=uploads/half&size=2000000")[2])["url"]
    parts = urlsplit(url)
    incoming = home / "objects" / "incoming"
    with socket.create_connection((str(parts.hostname), int(parts.port or 0)), PATIENCE) as connection:
        connection.sendall(
            f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: localhost\r\n".encode()
            + b"Content-Length: 2000000\r\n\r\n"
            + b"x" * 1_000_000
        )
        eventually(lambda: list(incoming.iterdir()))
    eventually(lambda: not list(incoming.iterdir()))
    read = json.loads(call(endpoint, "GET", "/v1/download?key=uploads/half")[2])["url"]
    assert call(endpoint, "GET", read, token="")[0] == 404
