"""The HTTP API in front of the deployed functions: its own routes, its authorizer and its cache.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-lambda-authorizer.html
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stix.local.http_events import (
    HttpAnswer,
    HttpRequest,
    MalformedAnswerError,
    authorizer_event,
    http_event,
    read_answer,
)
from tests.deployed.api_gateway import Api, Authorizer, InvokeAs, NotPermittedError, Route

__all__ = ["HttpFront"]

_SERVICE = "apigateway.amazonaws.com"


class RefusedError(Exception):
    """API Gateway answers itself."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.answer = HttpAnswer(
            status, (("content-type", "application/json"),), json.dumps({"message": words}).encode()
        )


@dataclass(frozen=True, slots=True)
class _Decision:
    context: dict[str, Any] | None
    until: float


class HttpFront:
    """``answer`` is thread-safe. ``now`` is the account's clock, by which decisions of the authorizer age."""

    def __init__(
        self, api: Api, invoke: InvokeAs, *, account: str, region: str, now: Callable[[], float]
    ) -> None:
        self._api, self._invoke, self._now = api, invoke, now
        self._account, self._region = account, region
        self._decisions: dict[tuple[str, str], _Decision] = {}
        self._lock = threading.Lock()

    def answer(self, request: HttpRequest) -> HttpAnswer:
        try:
            route, parameters = self._route(request)
            context = self._context(route.authorizer, route, request) if route.authorizer else None
            event = self._addressed(http_event(request, route.key, context))
            if parameters:
                event["pathParameters"] = parameters
            source = route.source(self._api.id, self._api.stage, self._region, self._account)
            outcome = self._invoke(route.function, json.dumps(event).encode(), _SERVICE, source)
            if outcome.failed:
                raise RefusedError(500, "Internal Server Error")
            return read_answer(json.loads(outcome.payload))
        except RefusedError as refused:
            return refused.answer
        except (NotPermittedError, MalformedAnswerError):
            return RefusedError(500, "Internal Server Error").answer

    def _route(self, request: HttpRequest) -> tuple[Route, dict[str, str]]:
        """The most specific route: literal before variable parts, and a greedy variable last."""
        fitting = []
        for route in self._api.routes.values():
            method, _, path = route.key.partition(" ")
            pattern = re.sub(r"\\\{(\w+)\\\+\\\}", r"(?P<\1>.+)", re.escape(path))
            pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", pattern)
            if method == request.method and (match := re.fullmatch(pattern, request.path)):
                fitting.append((path.count("+}"), path.count("{"), -len(path), route, match.groupdict()))
        if not fitting:
            raise RefusedError(404, "Not Found")
        *_, route, parameters = min(fitting, key=lambda one: one[:3])
        return route, parameters

    def _context(self, authorizer: Authorizer, route: Route, request: HttpRequest) -> dict[str, Any]:
        identity = request.header(authorizer.identity.lower())
        if not identity:
            raise RefusedError(401, "Unauthorized")
        key = (authorizer.id, identity)
        with self._lock:
            known = self._decisions.get(key)
        if known is None or known.until <= self._now():
            known = _Decision(self._ask(authorizer, route, request), self._now() + authorizer.seconds)
            with self._lock:
                self._decisions[key] = known
        if known.context is None:
            raise RefusedError(403, "Forbidden")
        return known.context

    def _ask(self, authorizer: Authorizer, route: Route, request: HttpRequest) -> dict[str, Any] | None:
        event = self._addressed(authorizer_event(request, route.key))
        path = f"{self._api.stage}/{request.method}{request.path}"
        event["routeArn"] = f"{self._arn}/{path}"
        source = f"{self._arn}/authorizers/{authorizer.id}"
        outcome = self._invoke(authorizer.function, json.dumps(event).encode(), _SERVICE, source)
        answer = json.loads(outcome.payload)
        if outcome.failed or not isinstance(answer, dict) or not isinstance(answer.get("isAuthorized"), bool):
            raise RefusedError(500, "Internal Server Error")
        return dict(answer.get("context") or {}) if answer["isAuthorized"] else None

    @property
    def _arn(self) -> str:
        return f"arn:aws:execute-api:{self._region}:{self._account}:{self._api.id}"

    def _addressed(self, event: dict[str, Any]) -> dict[str, Any]:
        event["requestContext"] |= {"accountId": self._account, "apiId": self._api.id}
        return event
