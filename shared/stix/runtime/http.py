"""What the HTTP functions share: reading a request, the one map from errors to answers."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from stix.application.operations import error_body
from stix.application.tokens import NodePrincipal, UserPrincipal
from stix.model.errors import (
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    StixError,
    ThrottledError,
    UnauthorizedError,
)
from stix.runtime.routes import Response, Routes

__all__ = [
    "HttpFunction",
    "Response",
    "answer",
    "idempotency_key",
    "node_of",
    "park",
    "query_flag",
    "query_number",
    "read_json",
    "read_request",
    "user_of",
]

M = TypeVar("M", bound=BaseModel)

MAX_WAIT_SECONDS = 20
_POLL_AGAIN_SECONDS = "1"


def answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    text = to_json(body).decode()  # three times as fast as json's
    return Response(status, text, headers or {})


def park(body: Any, topic: str, seconds: float) -> Response:
    """An answer that says nothing new: whoever can hold the request (the embedded gateway) does so until the
    topic is woken, others pass it on and the caller asks again."""
    wait = str(max(0, min(MAX_WAIT_SECONDS, int(seconds))))
    return answer(
        body, headers={"stix-park": topic, "stix-park-seconds": wait, "retry-after": _POLL_AGAIN_SECONDS}
    )


class HttpFunction(Routes):
    """Routes whose errors all have the API's shape."""

    def __init__(self, logger: logging.Logger, add_routes: Callable[[HttpFunction], None]):
        super().__init__(self._refuse_path)
        self._logger = logger
        add_routes(self)

    def resolve(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one request, errors that callers are told of included."""
        try:
            return self.answer(event).payload()
        except StixError as error:
            return self._refused(error).payload()

    def _refused(self, error: StixError) -> Response:
        status = type(error).http_status
        if status >= 500:
            self._logger.warning("request failed", extra={"code": error.code, "reason": error.message})
        headers = {}
        if isinstance(error, ThrottledError):
            headers["retry-after"] = str(int(error.retry_after) + 1)
        return answer({"error": error_body(error)}, status, headers)

    def _refuse_path(self) -> Response:
        raise NotFoundError(
            f"There is no {self.request.method} {self.request.path}.",
            hint="The routes are in docs/openapi.json.",
            code="no_route",
        )


def read_json(app: HttpFunction) -> dict[str, Any]:
    """The body as a JSON object; an empty body is an empty object. Raises ``InvalidInputError``."""
    try:
        text = app.request.text
        body = json.loads(text) if text else {}
    except ValueError as error:
        raise InvalidInputError(f"The body is not JSON: {error}.", hint="Send a JSON object.") from None
    if not isinstance(body, dict):
        raise InvalidInputError("The body is not a JSON object.", hint="Send a JSON object.")
    return body


def read_request(app: HttpFunction, model: type[M]) -> M:
    """The body as a request model. Raises ``InvalidInputError`` naming the first wrong field."""
    body = read_json(app)
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the body"
        secret = "secrets" in first["loc"]
        given = "" if secret or first["type"] == "missing" else f" (given: {first['input']!r:.80})"
        raise InvalidInputError(
            f"{field}: {first['msg']}{given}.",
            hint="The request's shape is in docs/openapi.json.",
            details={"field": field},
        ) from None


def query_number(app: HttpFunction, name: str, default: int, *, lowest: int = 0, most: int = 1000) -> int:
    """A whole number of the query string. Raises ``InvalidInputError``."""
    text = app.request.query.get(name)
    if text is None or text == "":
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not lowest <= int(text) <= most:
        raise InvalidInputError(f"{name}: {text!r} is not a whole number from {lowest} to {most}.")
    return int(text)


def query_flag(app: HttpFunction, name: str) -> bool:
    """A flag of the query string: true or false. Raises ``InvalidInputError``."""
    text = app.request.query.get(name) or "false"
    if text.lower() not in ("true", "false", "1", "0"):
        raise InvalidInputError(f"{name}: {text!r} is neither true nor false.")
    return text.lower() in ("true", "1")


def idempotency_key(app: HttpFunction) -> str | None:
    """The ``Idempotency-Key`` header. Raises ``InvalidInputError`` where it is too long."""
    key = app.request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= 128:
        raise InvalidInputError("Idempotency-Key: give 1 to 128 characters.")
    return key


def user_of(app: HttpFunction) -> UserPrincipal:
    """The person that the authorizer let in. Raises ``ForbiddenError`` for a node."""
    caller = app.request.caller
    if not caller:
        raise UnauthorizedError("No token was sent.", hint="Send `Authorization: Bearer TOKEN`.")
    if caller.get("kind") != "user":
        raise ForbiddenError("A node's token opens no route for people.")
    return UserPrincipal(str(caller["workspace"]), str(caller["user"]))


def node_of(app: HttpFunction) -> NodePrincipal:
    """The node that the authorizer let in. Raises ``ForbiddenError`` for a person."""
    caller = app.request.caller
    if caller.get("kind") != "node":
        raise ForbiddenError("Only a node's token opens this route.")
    return NodePrincipal(str(caller["workspace"]), str(caller["cluster_id"]), int(caller["rank"]))
