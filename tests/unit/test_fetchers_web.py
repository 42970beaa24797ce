from __future__ import annotations

from collections.abc import Iterator
from email.utils import formatdate

import httpx
import pytest

from stix.catalog.source import FetchError
from stix.model.errors import CredentialsError, ThrottledError
from tests.unit.price_answers import NOW, price_api

URL = "https://prices.example.com/list?key=secret"


class Scripted:
    """Gives the answers one after the other and counts the requests."""

    def __init__(self, *answers: httpx.Response | Exception):
        self._answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def sound() -> httpx.Response:
    return httpx.Response(200, json={"prices": [1]})


@pytest.mark.parametrize(
    "failure",
    [
        httpx.Response(429),
        httpx.Response(500),
        httpx.Response(503),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("peer closed connection without sending complete message body"),
        httpx.Response(200, text='{"prices": [1'),
    ],
)
def test_request_is_tried_again_when_the_failure_may_pass(failure: httpx.Response | Exception) -> None:
    server = Scripted(failure, sound())
    slept: list[float] = []
    assert price_api(server, slept=slept).get(URL) == {"prices": [1]}
    assert len(server.requests) == 2
    assert slept == [0.5]


def test_waits_double_up_to_a_cap_when_failures_go_on() -> None:
    slept: list[float] = []
    with pytest.raises(FetchError, match="answered 500 \\(tried 9 times\\)"):
        price_api(lambda _: httpx.Response(500), slept=slept, tries=9).get(URL)
    assert slept == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 20.0]


@pytest.mark.parametrize(
    ("header", "wait"),
    [("7", 7.0), ("900", 60.0), (formatdate(NOW + 10, usegmt=True), 10.0), ("soon", 0.5)],
)
def test_wait_is_what_the_server_asks_for_when_it_says(header: str, wait: float) -> None:
    slept: list[float] = []
    limited = httpx.Response(429, headers={"Retry-After": header})
    price_api(Scripted(limited, sound()), slept=slept).get(URL)
    assert slept == [wait]


def test_throttling_has_its_own_class_when_it_never_ends() -> None:
    limited = httpx.Response(429, headers={"Retry-After": "3"})
    with pytest.raises(ThrottledError) as raised:
        price_api(lambda _: limited, tries=2).get(URL)
    assert raised.value.retry_after == 3.0


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_are_not_tried_again(status: int) -> None:
    server = Scripted(httpx.Response(status))
    with pytest.raises(CredentialsError, match="credentials"):
        price_api(server).get(URL)
    assert len(server.requests) == 1


def test_other_refusals_are_not_tried_again_and_show_the_servers_words() -> None:
    server = Scripted(httpx.Response(400, text="no such filter"))
    with pytest.raises(FetchError, match="400: no such filter"):
        price_api(server).get(URL)
    assert len(server.requests) == 1


@pytest.mark.parametrize("answer", [httpx.Response(403), httpx.Response(404), httpx.Response(500)])
def test_key_in_the_address_is_not_shown_when_a_request_fails(answer: httpx.Response) -> None:
    with pytest.raises((FetchError, CredentialsError)) as raised:
        price_api(lambda _: answer, tries=1).get(URL)
    assert "secret" not in str(raised.value)


def test_lines_are_read_from_the_first_again_when_a_body_was_cut_off() -> None:
    server = Scripted(httpx.Response(200, text="a\nb\ncut"), httpx.Response(200, text="a\nb\nend"))

    def consume(lines: Iterator[str]) -> list[str]:
        read = list(lines)
        if read[-1] != "end":
            raise FetchError("cut off")
        return read

    assert price_api(server).read_lines(URL, consume) == ["a", "b", "end"]
    assert len(server.requests) == 2


def test_lines_fail_with_the_reason_when_every_body_is_cut_off() -> None:
    def consume(lines: Iterator[str]) -> None:
        raise FetchError(f"only {len(list(lines))} lines")

    with pytest.raises(FetchError, match="only 2 lines \\(tried 3 times\\)"):
        price_api(lambda _: httpx.Response(200, text="a\nb"), tries=3).read_lines(URL, consume)


def test_lines_are_not_read_when_the_server_refuses() -> None:
    with pytest.raises(FetchError, match="404"):
        price_api(lambda _: httpx.Response(404, text="gone")).read_lines(URL, list)
