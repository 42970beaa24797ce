"""The routes of an HTTP function: events of an HTTP API's payload 2.0 in, answers of that format out."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

__all__ = ["Request", "Response", "Routes", "View"]

View: TypeAlias = "Callable[..., Response]"
"""Answers a route; the parts of the path that are written ``<name>`` come as arguments of these names."""

_PARAMETER = re.compile(r"<(\w+)>")


@dataclass(frozen=True, slots=True)
class Request:
    """What a view may know of an event."""

    event: Mapping[str, Any]

    @property
    def method(self) -> str:
        return str(self.event["requestContext"]["http"]["method"])

    @property
    def path(self) -> str:
        """Without the stage, which API Gateway leaves in front unless it is ``$default``."""
        path = str(self.event["rawPath"])
        stage = self.event["requestContext"].get("stage", "$default")
        return path if stage == "$default" else path.removeprefix(f"/{stage}") or "/"

    @property
    def headers(self) -> Mapping[str, str]:
        """By lower-case name, as API Gateway sends them."""
        return self.event.get("headers") or {}

    @property
    def query(self) -> Mapping[str, str]:
        return self.event.get("queryStringParameters") or {}

    @property
    def caller(self) -> Mapping[str, Any]:
        """What the authorizer said of the caller; empty where no authorizer was asked."""
        return (self.event["requestContext"].get("authorizer") or {}).get("lambda") or {}

    @property
    def text(self) -> str:
        """The body. Raises ``ValueError`` where it is not UTF-8."""
        body = str(self.event.get("body") or "")
        return base64.b64decode(body).decode() if self.event.get("isBase64Encoded") else body


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; ``body`` is JSON."""

    status: int
    body: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def payload(self) -> dict[str, Any]:
        return {
            "statusCode": self.status,
            "headers": {"content-type": "application/json", **self.headers},
            "body": self.body,
            "isBase64Encoded": False,
        }


class Routes:
    """Picks a view by method and path. Answers several requests at the same time, one in each thread.

    Views raise what they like; ``no_route`` answers what has no route.
    """

    def __init__(self, no_route: Callable[[], Response]):
        self._no_route = no_route
        self._fixed: dict[tuple[str, str], View] = {}
        self._patterns: dict[str, list[tuple[re.Pattern[str], View]]] = {}
        self._thread = threading.local()
        self.paths: list[tuple[str, str]] = []
        """Method and path of every route, as they were given."""

    @property
    def request(self) -> Request:
        """The one that this thread answers."""
        found: Request = self._thread.request
        return found

    def get(self, path: str) -> Callable[[View], View]:
        return self._route("GET", path)

    def post(self, path: str) -> Callable[[View], View]:
        return self._route("POST", path)

    def put(self, path: str) -> Callable[[View], View]:
        return self._route("PUT", path)

    def delete(self, path: str) -> Callable[[View], View]:
        return self._route("DELETE", path)

    def answer(self, event: Mapping[str, Any]) -> Response:
        self._thread.request = request = Request(event)
        method, path = request.method, request.path
        view = self._fixed.get((method, path))
        if view is not None:
            return view()
        for pattern, view in self._patterns.get(method, ()):
            if match := pattern.fullmatch(path):
                return view(**match.groupdict())
        return self._no_route()

    def _route(self, method: str, path: str) -> Callable[[View], View]:
        def add(view: View) -> View:
            self.paths.append((method, path))
            if _PARAMETER.search(path):
                parts = _PARAMETER.split(path)
                # Text and names in turns.
                texts = [f"(?P<{part}>[^/]+)" if at % 2 else re.escape(part) for at, part in enumerate(parts)]
                self._patterns.setdefault(method, []).append((re.compile("".join(texts)), view))
            else:
                self._fixed[method, path] = view
            return view

        return add
