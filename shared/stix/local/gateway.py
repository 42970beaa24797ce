"""The HTTP front of the embedded control plane: API Gateway's part, as an ASGI application."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from stix.local.asgi import ClientGoneError, Receive, Scope, Send, read_body, read_request, send_answer
from stix.local.authorization import Authorization
from stix.local.functions import PAYLOAD_LIMIT, Functions, PayloadTooLargeError
from stix.local.http_events import HttpAnswer, HttpRequest, MalformedAnswerError, http_event, read_answer
from stix.local.interpreter.errors import FunctionError
from stix.local.parking import Parking
from stix.local.sockets import SOCKET_PATH
from stix.local.workers import run_in_thread
from stix.model.errors import ForbiddenError, NotFoundError, StixError

__all__ = ["Gateway", "GatewayLimits", "ServesObjects", "ServesSockets"]

logger = logging.getLogger(__name__)

PARK_TOPIC = "stix-park"
PARK_SECONDS = "stix-park-seconds"
PARKED = "stix-parked"


@dataclass(frozen=True, slots=True)
class GatewayLimits:
    """Bounds of what is accepted; times in seconds, sizes in bytes.

    ``invocation_seconds`` is API Gateway's: then the client gets its answer and a late result is dropped.
    """

    body_bytes: int = PAYLOAD_LIMIT
    body_seconds: float = 30.0
    invocation_seconds: float = 30.0
    park_seconds: float = 60.0
    parked: int = 12_000
    in_progress: int = 1_000


@dataclass(frozen=True, slots=True)
class Route:
    """Which function answers, and whether anybody may ask."""

    function: str
    key: str
    open: bool = False


class ServesObjects(Protocol):
    async def serve(self, request: HttpRequest, raw_path: str, receive: Receive, send: Send) -> None: ...


class ServesSockets(Protocol):
    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None: ...


class TooManyRequestsError(StixError):
    http_status = 429
    default_code = "too_many_requests"


class TooLargeError(StixError):
    http_status = 413
    default_code = "too_large"


class InternalError(StixError):
    http_status = 502


class TimedOutError(StixError):
    http_status = 503
    default_code = "unavailable"


class Gateway:
    """Routes requests to functions, as many invocations at a time as each has threads.

    A function that has nothing to say answers with the header ``stix-park: <topic>`` and
    ``stix-park-seconds: <n>``. The request then waits, holding no thread, until the topic is woken, and the
    function is invoked again with the header ``stix-parked: true``; after ``n`` seconds from the first
    invocation its last answer is sent.

    ``hosts``: the names in a ``Host`` header that are served, so that a web page cannot reach the control
    plane under a name of its own that it points at this machine.
    """

    def __init__(
        self,
        functions: Functions,
        parking: Parking,
        objects: ServesObjects,
        hosts: Callable[[], frozenset[str]],
        limits: GatewayLimits = GatewayLimits(),
        sockets: ServesSockets | None = None,
    ):
        self._functions = functions
        self._parking = parking
        self._objects = objects
        self._hosts = hosts
        self._limits = limits
        self._sockets = sockets
        self._authorization = Authorization(functions.invoke)
        self._in_progress = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. Errors of ours become answers; what nobody foresaw is left to the server, which logs it."""
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
            return
        try:
            await self._answer(scope, receive, send)
        except ClientGoneError:
            return
        except StixError as exc:
            await _send_error(send, exc)
        except TimeoutError:
            await _send_error(send, TimedOutError("The request's body did not come in time."))

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
        known = scope["path"] == SOCKET_PATH and _host_name(host) in self._hosts()
        if self._sockets is None or not known:
            await receive()
            await send({"type": "websocket.close"})
            return
        await self._sockets.serve(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = read_request(scope, without=PARKED)
        if _host_name(request.header("host")) not in self._hosts():
            raise ForbiddenError(
                f"This server does not answer for the host {request.header('host')!r}.",
                hint="Use the address that `stix api status` prints, or name another with --public-url.",
            )
        if request.path.startswith("/objects/"):
            raw_path = scope["raw_path"].decode("ascii")
            await self._objects.serve(request, raw_path, receive, send)
            return
        route = _route(request)
        if self._in_progress >= self._limits.in_progress:
            raise TooManyRequestsError(f"{self._in_progress} requests are being answered already.")
        self._in_progress += 1
        try:
            answer = await self._function_answer(request, route, receive)
        finally:
            self._in_progress -= 1
        await send_answer(send, answer.status, answer.headers, answer.body)

    async def _function_answer(self, request: HttpRequest, route: Route, receive: Receive) -> HttpAnswer:
        body = await self._body(request, receive)
        if body:
            request = replace(request, body=body)
        return await self._invoke_until_answered(route, request, receive)

    def _event(self, request: HttpRequest, route: Route) -> dict[str, Any]:
        """What the function is given, once the authorizer has let the caller in."""
        authorizer: Mapping[str, Any] | None = None
        if not route.open:
            try:
                authorizer = self._authorization.context(request, route.key)
            except FunctionError as exc:
                raise InternalError(
                    "The request could not be authorized; the server's log says why."
                ) from exc
        return http_event(request, route.key, authorizer)

    async def _body(self, request: HttpRequest, receive: Receive) -> bytes:
        limit = self._limits.body_bytes
        announced = request.header("content-length")
        too_large = announced.isdigit() and int(announced) > limit
        body = None if too_large else await read_body(receive, limit, self._limits.body_seconds)
        if body is None:
            raise TooLargeError(
                f"The request's body is larger than {limit} bytes.", hint="Files go through /v1/uploads."
            )
        return body

    async def _invoke_until_answered(
        self, route: Route, request: HttpRequest, receive: Receive
    ) -> HttpAnswer:
        loop = asyncio.get_running_loop()
        event: dict[str, Any] = {}

        def invoke() -> Any:
            """In a thread of the function; whose request is held is known when it comes again."""
            if not event:
                event.update(self._event(request, route))
            return self._functions.invoke(route.function, event)

        gone: asyncio.Task[None] | None = None
        deadline = 0.0
        try:
            while True:
                sequence = self._parking.sequence()
                answer, topic, seconds = await self._invoke_route(route.function, invoke)
                if not topic:
                    return answer
                if gone is None:
                    gone = loop.create_task(_until_gone(receive))
                    deadline = loop.time() + min(seconds, self._limits.park_seconds)
                    event["headers"][PARKED] = "true"
                if not await self._park(topic, sequence, deadline - loop.time(), gone):
                    if gone.done():
                        raise ClientGoneError
                    return _after_waiting(answer)
        finally:
            if gone is not None:
                gone.cancel()

    async def _park(self, topic: str, sequence: int, seconds: float, gone: asyncio.Task[None]) -> bool:
        if len(self._parking) >= self._limits.parked:
            raise TooManyRequestsError(f"{len(self._parking)} requests are waiting already.")
        self._in_progress -= 1
        try:
            return await self._parking.wait(topic, since=sequence, seconds=seconds, gone=gone)
        finally:
            self._in_progress += 1

    async def _invoke_route(self, function: str, invoke: Callable[[], Any]) -> tuple[HttpAnswer, str, float]:
        """The answer without its parking headers, the topic to wait for, and for how long."""
        try:
            async with asyncio.timeout(self._limits.invocation_seconds):
                answer = await run_in_thread(partial(self._functions.submit, function), invoke)
            return _without_parking(read_answer(answer))
        except TimeoutError as exc:
            logger.error("the function %s did not answer in time", function)
            raise TimedOutError("The server did not answer in time.", hint="Try again.") from exc
        except PayloadTooLargeError as exc:
            raise TooLargeError(f"The request is too large: {exc}.") from exc
        except FunctionError as exc:
            raise InternalError(
                f"The server failed ({exc.error_type}); its log has the details.",
                hint="`stix api logs` shows it; trying again may help.",
            ) from exc
        except MalformedAnswerError as exc:
            logger.exception("the function %s gave an answer that cannot be sent", function)
            raise InternalError("The server failed; its log has the details.") from exc


def _route(request: HttpRequest) -> Route:
    """Raises ``NotFoundError``."""
    method, path = request.method, request.path
    if path.startswith("/v1/"):
        if (method, path) == ("GET", "/v1/health"):
            return Route("api", "GET /v1/health", open=True)
        return Route("api", "ANY /v1/{proxy+}")
    if path.startswith("/agent/v1/"):
        if (method, path) == ("POST", "/agent/v1/join"):
            return Route("agent", "POST /agent/v1/join", open=True)
        if method == "GET" and path.startswith("/agent/v1/archive/"):
            return Route("agent", "GET /agent/v1/archive/{proxy+}", open=True)
        return Route("agent", "ANY /agent/v1/{proxy+}")
    raise NotFoundError(f"There is nothing at {path}.")


def _host_name(host: str) -> str:
    """The name of a ``Host`` header without its port."""
    if host.startswith("["):
        return host.partition("]")[0].removeprefix("[").lower()
    return host.partition(":")[0].lower()


def _without_parking(answer: HttpAnswer) -> tuple[HttpAnswer, str, float]:
    """The answer to send, the topic to wait for, and for how long. Raises ``MalformedAnswerError``."""
    parking = {name: value for name, value in answer.headers if name in (PARK_TOPIC, PARK_SECONDS)}
    if not parking:
        return answer, "", 0.0
    headers = tuple(pair for pair in answer.headers if pair[0] not in parking)
    try:
        seconds = float(parking.get(PARK_SECONDS, "0"))
    except ValueError as exc:
        raise MalformedAnswerError(f"{PARK_SECONDS} is {parking[PARK_SECONDS]!r}, not a number") from exc
    return HttpAnswer(answer.status, headers, answer.body), parking.get(PARK_TOPIC, ""), seconds


def _after_waiting(answer: HttpAnswer) -> HttpAnswer:
    """Without ``retry-after``, which is for those whose request was not held: ask again at once."""
    headers = tuple(pair for pair in answer.headers if pair[0] != "retry-after")
    return HttpAnswer(answer.status, headers, answer.body)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


async def _send_error(send: Send, error: StixError) -> None:
    body = {
        "error": {
            "code": error.code,
            "message": error.message,
            "hint": error.hint,
            "details": error.details,
        }
    }
    headers = [("content-type", "application/json")]
    if isinstance(error, TooManyRequestsError):
        headers.append(("retry-after", "1"))
    await send_answer(send, error.http_status, headers, json.dumps(body).encode())
