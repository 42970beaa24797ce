"""Requests to the HTTP functions as API Gateway sends them: authorizer first, events of payload 2.0."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from functions.authorize.handler import handler as authorize
from stix.local.functions import Context
from stix.local.http_events import HttpRequest, authorizer_event, http_event, read_answer

Handler = Callable[[dict[str, Any], Any], dict[str, Any]]


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def code(self) -> str:
        return str(self.body["error"]["code"])


def send(
    handler: Handler,
    method: str,
    path: str,
    body: Any = None,
    *,
    token: str = "",
    query: str = "",
    headers: Mapping[str, str] | None = None,
    route: str = "ANY /{proxy+}",
    authorized: bool = True,
) -> Answer:
    """One request. ``authorized``: the route stands behind the authorizer, which may refuse."""
    fields = {
        "host": "api.example",
        "content-type": "application/json",
        **{name.lower(): value for name, value in (headers or {}).items()},
    }
    if token:
        fields["authorization"] = f"Bearer {token}"
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    request = HttpRequest(method, path, query, tuple(fields.items()), "192.0.2.1", body=data)
    context = Context("function", "request", deadline=float("inf"))
    allowed: dict[str, Any] | None = None
    if authorized:
        verdict = authorize(authorizer_event(request, route), context)
        if not verdict["isAuthorized"]:
            return Answer(403, {"message": "Forbidden"})
        allowed = verdict["context"]
    answer = read_answer(handler(http_event(request, route, allowed), context))
    return Answer(answer.status, json.loads(answer.body), dict(answer.headers))
