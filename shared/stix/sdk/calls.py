"""Requests to one control plane, and what the client's groups of calls share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self, cast

import httpx

from stix import __version__
from stix.sdk.endpoint import Endpoint, is_loopback
from stix.sdk.errors import IncompatibleError
from stix.sdk.failures import answer_error, transport_error, was_cut_off
from stix.sdk.objects import ObjectTransfer
from stix.sdk.responses import LogPage
from stix.sdk.retrying import FIRST_CONTACT_PATIENCE, HOLD_PATIENCE, RETRIED_STATUS, Backoff, Pace

__all__ = ["HOLD_SECONDS", "Calls"]

HOLD_SECONDS = 20
"""The longest that a control plane holds an answer."""


class Calls:
    """The transport, of which ``Client`` says what it promises; a group of calls inherits from it."""

    def __init__(
        self,
        endpoint: Endpoint,
        transport: httpx.BaseTransport | None = None,
        *,
        rediscover: Callable[[bool], Endpoint | None] | None = None,
        trace: Callable[[str], None] | None = None,
        pace: Pace | None = None,
    ):
        self.endpoint = endpoint
        self.pace = pace or Pace()
        self.objects = ObjectTransfer(transport, trace, self.pace)
        self._rediscover = rediscover
        self._trace = trace
        self._answered = False
        self._found_again = False
        self._http = httpx.Client(
            transport=transport,
            # Loading the certificate store costs more than a whole call; plain HTTP needs none.
            verify=endpoint.url.startswith("https:"),
            trust_env=not is_loopback(endpoint.url),
            timeout=httpx.Timeout(HOLD_SECONDS + 15, connect=5),
            headers={"User-Agent": f"stix/{__version__}", "Accept": "application/json"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()
        self.objects.close()

    def _log_page(self, path: str, cursor: str, follow: bool, hold: bool, rank: int | None) -> LogPage:
        params = {
            "cursor": cursor,
            "follow": "true" if follow else "",
            "wait": str(HOLD_SECONDS) if hold else "",
            "rank": "" if rank is None else str(rank),
        }
        return cast(LogPage, self._call("GET", path, params=params, patience=HOLD_PATIENCE))

    def _pages(self, path: str, field: str, params: dict[str, str]) -> Iterator[Any]:
        after: str | None = None
        while True:
            page = self._call("GET", path, params=params | ({"after": after} if after else {}))
            yield from page[field]
            after = page.get("next")
            if not after:
                return

    def _call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        params: dict[str, str] | None = None,
        patience: float | None = None,
    ) -> Any:
        headers: dict[str, str] = {}
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            headers = {
                "Content-Type": "application/json",
                "Idempotency-Key": self.pace.idempotency_key(content),
            }
        query = {name: value for name, value in (params or {}).items() if value}
        backoff = Backoff(self.pace, patience)
        while True:
            try:
                answer = self._send(method, path, query, content, headers)
            except httpx.HTTPError as exc:
                if isinstance(exc, httpx.ConnectError) and self._moved():
                    continue
                error, again = transport_error(exc, self.endpoint, answered=self._answered)
                absent = isinstance(exc, httpx.ConnectError) and not self._answered
                if not again or not backoff.wait(patience=FIRST_CONTACT_PATIENCE if absent else None):
                    raise error from exc
                continue
            self._answered = True
            self._found_again = False
            again = answer.status_code in RETRIED_STATUS or was_cut_off(answer.status_code, answer.content)
            if again and backoff.wait(answer.headers.get("Retry-After")):
                continue
            return self._read(answer)

    def _send(
        self, method: str, path: str, query: dict[str, str], content: bytes | None, headers: dict[str, str]
    ) -> httpx.Response:
        began = self.pace.monotonic()
        if self.endpoint.token:
            headers = headers | {"Authorization": f"Bearer {self.endpoint.token}"}
        answer = self._http.request(
            method, self.endpoint.url + path, params=query, content=content, headers=headers
        )
        if self._trace:
            took = (self.pace.monotonic() - began) * 1000
            self._trace(f"{method} {answer.url.raw_path.decode()} {answer.status_code} ({took:.0f} ms)")
        return answer

    def _read(self, answer: httpx.Response) -> Any:
        if answer.status_code >= 400:
            raise answer_error(answer.status_code, answer.content, self.endpoint)
        try:
            document = answer.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise IncompatibleError(
                f"{self.endpoint.url} answered with something that is not a Stix control plane's answer "
                f"(HTTP {answer.status_code}).",
                "Check the address with `stix api info`.",
            )
        return document

    def _moved(self) -> bool:
        """True when a server is there again, at the same endpoint or another: try at once, however long its
        start took. One that refuses at the same endpoint once more is called with patience."""
        found = self._rediscover(not self._answered) if self._rediscover else None
        if found is None or (found == self.endpoint and self._found_again):
            return False
        self.endpoint = found
        self._found_again = True
        return True
