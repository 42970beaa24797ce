"""One TLS server that answers for every API by the name it is asked under, as ``execute-api`` does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import uvicorn

from stix.local.asgi import ClientGoneError, Receive, Scope, Send, read_body, read_request, send_answer
from tests.deployed.api_gateway import Api, InvokeAs
from tests.deployed.http_front import HttpFront
from tests.deployed.permissions import Wish
from tests.deployed.socket_front import SocketFront

__all__ = ["Fronts"]

_MOST_BYTES = 10 * 2**20


class Fronts:
    """Serves from ``start`` on. ``http`` and ``sockets`` are the fronts by their API's id."""

    def __init__(
        self,
        apis: dict[str, Api],
        invoke: InvokeAs,
        allow: Callable[[str, Wish], bool],
        *,
        account: str,
        region: str,
        now: Callable[[], float],
    ) -> None:
        """``allow``: whether a role's policies grant a wish."""
        self._allow, self._arn = allow, f"arn:aws:execute-api:{region}:{account}"
        self._executor = ThreadPoolExecutor(64)
        self.http = {
            api.id: HttpFront(api, invoke, account=account, region=region, now=now)
            for api in apis.values()
            if api.protocol == "HTTP"
        }
        self.sockets = {
            api.id: SocketFront(api, invoke, self._executor, account=account, region=region)
            for api in apis.values()
            if api.protocol == "WEBSOCKET"
        }

    def start(self, certificate: Path) -> int:
        """The port."""
        config = uvicorn.Config(
            self._application,
            host="127.0.0.1",
            port=0,
            ws="websockets-sansio",
            ws_ping_interval=None,
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            ssl_certfile=str(certificate),
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),), daemon=True)
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.01)
        (socket,) = self._server.servers[0].sockets
        return int(socket.getsockname()[1])

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _serve(self) -> None:
        await self._server.serve()
        # Clients that were killed never answer the goodbye of TLS, and nothing else names their connections.
        for transport in list(asyncio.get_running_loop()._transports.values()):  # type: ignore[attr-defined]
            transport.abort()
        await asyncio.sleep(0.1)

    async def _application(self, scope: Scope, receive: Receive, send: Send) -> None:
        hosts = [value.decode() for name, value in scope["headers"] if name == b"host"]
        api = hosts[0].split(".")[0]
        if scope["type"] == "websocket":
            await self.sockets[api].serve(scope, receive, send)
            return
        try:
            body = await read_body(receive, _MOST_BYTES, 30.0)
        except ClientGoneError:
            return
        request = replace(read_request(scope, without=""), body=body or b"")
        if api in self.http:
            answer = await asyncio.get_running_loop().run_in_executor(
                self._executor, self.http[api].answer, request
            )
            await send_answer(send, answer.status, answer.headers, answer.body)
            return
        stage, _, connection = unquote(request.path).strip("/").partition("/@connections/")
        assert (bool(stage), request.method) == (True, "POST"), request.path
        role = request.header("x-amz-security-token")
        wish = ("execute-api:ManageConnections", f"{self._arn}:{api}/{stage}/POST/@connections/{connection}")
        status = await self.sockets[api].post(connection, request.body) if self._allow(role, wish) else 403
        headers = [("content-type", "application/json")]
        if status == 410:
            headers.append(("x-amzn-errortype", "GoneException"))
        await send_answer(send, status, headers, b"{}" if status == 410 else b"")
