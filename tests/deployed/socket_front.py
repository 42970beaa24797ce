"""The WebSocket API: ``$connect`` with its authorizer, ``$default``, ``$disconnect``, and ``@connections``.

https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api.html
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from functools import partial
from typing import Any

from stix.local.asgi import Receive, Scope, Send
from tests.deployed.api_gateway import Api, InvokeAs, NotPermittedError, Route, context_of_policy

__all__ = ["SocketFront"]

_SERVICE = "apigateway.amazonaws.com"


class SocketFront:
    """``serve`` holds one connection until it ends; ``post`` is what the management API does."""

    def __init__(self, api: Api, invoke: InvokeAs, executor: Executor, *, account: str, region: str) -> None:
        self._api, self._invoke, self._executor = api, invoke, executor
        self._arn = f"arn:aws:execute-api:{region}:{account}:{api.id}"
        self._account, self._region = account, region
        self.connections: dict[str, Callable[[bytes], Awaitable[None]]] = {}

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "websocket.connect"
        headers = {name.decode().title(): value.decode() for name, value in scope["headers"]}
        connection = base64.b64encode(os.urandom(9)).decode()
        about: dict[str, Any] = {"connectionId": connection, "connectedAt": int(time.time() * 1000)}
        if scope["path"] != f"/{self._api.stage}":
            await send({"type": "websocket.close"})
            return
        who = await self._authorized(headers, about)
        if (
            who is None
            or await self._route("$connect", "CONNECT", {**about, "authorizer": who}, headers) >= 300
        ):
            # Before it was accepted: the answer to the upgrade is 403.
            await send({"type": "websocket.close"})
            return
        about["authorizer"] = who
        await send({"type": "websocket.accept"})

        async def deliver(data: bytes) -> None:
            await send({"type": "websocket.send", "text": data.decode()})

        self.connections[connection] = deliver
        try:
            while (message := await receive())["type"] == "websocket.receive":
                await self._route("$default", "MESSAGE", about, {}, message.get("text") or "")
        finally:
            del self.connections[connection]
            await self._route("$disconnect", "DISCONNECT", about, {})

    async def post(self, connection: str, data: bytes) -> int:
        """The status: 410 for a connection that is gone."""
        deliver = self.connections.get(connection)
        if deliver is None:
            return 410
        await deliver(data)
        return 200

    async def _authorized(self, headers: Mapping[str, str], about: Mapping[str, Any]) -> Any:
        authorizer = self._api.routes["$connect"].authorizer
        if authorizer is None:
            return {}
        if not headers.get(authorizer.identity):
            return None
        arn = f"{self._arn}/{self._api.stage}/$connect"
        event = self._event("$connect", "CONNECT", about, headers) | {"type": "REQUEST", "methodArn": arn}
        source = f"{self._arn}/authorizers/{authorizer.id}"
        outcome = await self._call(authorizer.function, event, source)
        return None if outcome is None else context_of_policy(outcome, arn)

    async def _route(
        self, key: str, kind: str, about: Mapping[str, Any], headers: Mapping[str, str], body: str = ""
    ) -> int:
        """The function's status, 500 where it failed or may not be called."""
        route: Route = self._api.routes[key]
        source = route.source(self._api.id, self._api.stage, self._region, self._account)
        event = self._event(key, kind, about, headers)
        if kind == "MESSAGE":
            event["body"] = body
        answer = await self._call(route.function, event, source.replace(f"/{key}", f"/{key}"))
        return 500 if answer is None else int(answer["statusCode"])

    def _event(
        self, key: str, kind: str, about: Mapping[str, Any], headers: Mapping[str, str]
    ) -> dict[str, Any]:
        context = {
            "routeKey": key,
            "eventType": kind,
            "messageDirection": "IN",
            "stage": self._api.stage,
            "apiId": self._api.id,
            "requestId": base64.b64encode(os.urandom(9)).decode(),
            "requestTimeEpoch": int(time.time() * 1000),
            **about,
        }
        return {"headers": dict(headers), "requestContext": context, "isBase64Encoded": False}

    async def _call(self, function: str, event: Mapping[str, Any], source: str) -> Any:
        """The function's answer, None where it failed or may not be called."""
        call = partial(self._invoke, function, json.dumps(event).encode(), _SERVICE, source)
        try:
            outcome = await asyncio.get_running_loop().run_in_executor(self._executor, call)
        except NotPermittedError:
            return None
        return None if outcome.failed else json.loads(outcome.payload)
