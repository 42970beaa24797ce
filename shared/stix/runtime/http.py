"""What the HTTP functions share: the resolver, reading a request, the one map from errors to answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError as NoRouteError
from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2
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

__all__ = [
    "ResolverOfEachThread",
    "answer",
    "idempotency_key",
    "new_resolver",
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


def answer(body: Any, status: int = 200, headers: dict[str, str | list[str]] | None = None) -> Response[str]:
    """A JSON answer."""
    text = to_json(body).decode()  # three times as fast as json's
    return Response(status_code=status, content_type="application/json", body=text, headers=headers or {})


def park(body: Any, topic: str, seconds: float) -> Response[str]:
    """An answer that says nothing new: whoever can hold the request (the embedded gateway) does so until the
    topic is woken, others pass it on and the caller asks again."""
    wait = str(max(0, min(MAX_WAIT_SECONDS, int(seconds))))
    return answer(
        body, headers={"stix-park": topic, "stix-park-seconds": wait, "retry-after": _POLL_AGAIN_SECONDS}
    )


class _Resolver(APIGatewayHttpResolver):
    """Keeps the request that it answers to itself.

    Powertools keeps it on a class that all resolvers of a process share. In the embedded runtime two
    functions answer at the same time, and each would see the other's request, caller's identity included.
    """

    _event: APIGatewayProxyEventV2

    @property
    def current_event(self) -> APIGatewayProxyEventV2:  # type: ignore[override]
        return self._event

    def _to_proxy_event(self, event: dict[str, Any]) -> APIGatewayProxyEventV2:
        """The one call between the arrival of a request and its first use."""
        self._event = cast(APIGatewayProxyEventV2, super()._to_proxy_event(event))
        return self._event


def new_resolver(logger: Logger) -> APIGatewayHttpResolver:
    """A resolver whose errors all have the API's shape. It answers one request at a time; several resolvers
    may do so at the same time."""
    app = _Resolver()

    def refused(error: StixError) -> Response[str]:
        status = type(error).http_status
        if status >= 500:
            logger.warning("request failed", extra={"code": error.code, "reason": error.message})
        headers: dict[str, str | list[str]] = {}
        if isinstance(error, ThrottledError):
            headers["retry-after"] = str(int(error.retry_after) + 1)
        return answer({"error": error_body(error)}, status, headers)

    def no_route(_error: NoRouteError) -> Response[str]:
        event = app.current_event
        return refused(
            NotFoundError(
                f"There is no {event.http_method} {event.path}.",
                hint="The routes are in docs/openapi.json.",
                code="no_route",
            )
        )

    app.exception_handler(StixError)(refused)
    app.not_found(no_route)
    return app


class ResolverOfEachThread:
    """Answers several requests at the same time: a resolver answers one, so that every thread has its own."""

    def __init__(self, logger: Logger, add_routes: Callable[[APIGatewayHttpResolver], None]):
        self._logger = logger
        self._add_routes = add_routes
        self._threads = threading.local()
        self._mine()  # in Lambda the thread that imports is the one that answers

    def resolve(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        return self._mine().resolve(event, context)

    def _mine(self) -> APIGatewayHttpResolver:
        app: APIGatewayHttpResolver | None = getattr(self._threads, "app", None)
        if app is None:
            app = self._threads.app = new_resolver(self._logger)
            self._add_routes(app)
        return app


def read_json(app: APIGatewayHttpResolver) -> dict[str, Any]:
    """The body as a JSON object; an empty body is an empty object. Raises ``InvalidInputError``."""
    try:
        text = app.current_event.decoded_body
        body = json.loads(text) if text else {}
    except ValueError as error:
        raise InvalidInputError(f"The body is not JSON: {error}.", hint="Send a JSON object.") from None
    if not isinstance(body, dict):
        raise InvalidInputError("The body is not a JSON object.", hint="Send a JSON object.")
    return body


def read_request(app: APIGatewayHttpResolver, model: type[M]) -> M:
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


def query_number(
    app: APIGatewayHttpResolver, name: str, default: int, *, lowest: int = 0, most: int = 1000
) -> int:
    """A whole number of the query string. Raises ``InvalidInputError``."""
    text = app.current_event.query_string_parameters.get(name)
    if text is None or text == "":
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not lowest <= int(text) <= most:
        raise InvalidInputError(f"{name}: {text!r} is not a whole number from {lowest} to {most}.")
    return int(text)


def query_flag(app: APIGatewayHttpResolver, name: str) -> bool:
    """A flag of the query string: true or false. Raises ``InvalidInputError``."""
    text = app.current_event.query_string_parameters.get(name) or "false"
    if text.lower() not in ("true", "false", "1", "0"):
        raise InvalidInputError(f"{name}: {text!r} is neither true nor false.")
    return text.lower() in ("true", "1")


def idempotency_key(app: APIGatewayHttpResolver) -> str | None:
    """The ``Idempotency-Key`` header. Raises ``InvalidInputError`` where it is too long."""
    key: str | None = app.current_event.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= 128:
        raise InvalidInputError("Idempotency-Key: give 1 to 128 characters.")
    return key


def _context(app: APIGatewayHttpResolver) -> dict[str, Any]:
    context = app.current_event.request_context.authorizer.get_lambda
    return dict(context or {})


def user_of(app: APIGatewayHttpResolver) -> UserPrincipal:
    """The person that the authorizer let in. Raises ``ForbiddenError`` for a node."""
    context = _context(app)
    if not context:
        raise UnauthorizedError("No token was sent.", hint="Send `Authorization: Bearer TOKEN`.")
    if context.get("kind") != "user":
        raise ForbiddenError("A node's token opens no route for people.")
    return UserPrincipal(str(context["workspace"]), str(context["user"]))


def node_of(app: APIGatewayHttpResolver) -> NodePrincipal:
    """The node that the authorizer let in. Raises ``ForbiddenError`` for a person."""
    context = _context(app)
    if context.get("kind") != "node":
        raise ForbiddenError("Only a node's token opens this route.")
    return NodePrincipal(str(context["workspace"]), str(context["cluster_id"]), int(context["rank"]))
