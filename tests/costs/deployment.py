"""The control plane as it is deployed, with every call counted: real handlers, real state machines, a real
DynamoDB client. The table, the clouds and the clock are the tests' own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from stix.adapters.dynamodb import DynamoStateStore
from stix.adapters.dynamodb_table import create_table_request
from stix.adapters.sqlite_database import SqliteDatabase
from stix.application.tokens import create_user_token
from stix.local.functions import FUNCTIONS, Context, bundle_folder, import_handlers
from stix.local.http_events import HttpRequest, authorizer_event, http_event, read_answer
from stix.local.interpreter import Interpreter, load_definitions, turn
from stix.runtime.bootstrap import install
from tests.costs.meter import CLOUD_SECONDS, OBJECT_SECONDS, SERVICE_SECONDS, Meter
from tests.unit.world import WORKSPACE, ControlPlane

REGION = "us-east-1"
TOKEN = "a-token"


class _Counting:
    """Passes calls on; ``counted`` says what each method counts as."""

    def __init__(self, inner: Any, meter: Meter, counted: Mapping[str, str], seconds: float) -> None:
        self._inner, self._meter, self._counted, self._seconds = inner, meter, counted, seconds

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in self._counted:
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            self._meter.count(self._counted[name], seconds=self._seconds)
            return found(*arguments, **options)

        return call


class _CountingCloud:
    """Each call is an invocation of the cloud's function, for which its caller waits."""

    def __init__(self, inner: Any, meter: Meter) -> None:
        self._inner, self._meter = inner, meter

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found) or name == "offers":
            return found  # what a deployed optimizer reads from the catalog

        def call(*arguments: Any, **options: Any) -> Any:
            self._meter.invoked("cloud-aws", CLOUD_SECONDS)
            return found(*arguments, **options)

        return call


class _CountingWake:
    def __init__(self, inner: Any, meter: Meter) -> None:
        self._inner, self._meter = inner, meter

    def wake(self, topic: str) -> None:
        """To a node: its connection is looked up, and one message goes there."""
        if topic.startswith("node/"):
            self._meter.count("read_units")
            self._meter.count("socket_messages", seconds=SERVICE_SECONDS)
        self._inner.wake(topic)


class Deployment:
    def __init__(self, folder: Path, client: Any, memory_mib: Mapping[str, int]):
        self.plane = ControlPlane(folder)
        self.meter = meter = Meter(memory_mib)
        client.create_table(**create_table_request("stix"))
        meter.watch(client)
        self._handlers = import_handlers()
        self.interpreter = Interpreter(
            SqliteDatabase(folder / "runs.db"),
            load_definitions(
                bundle_folder() / "infra" / "state_machines",
                {f"{name.capitalize()}FunctionArn": name for name in FUNCTIONS},
            ),
            self.invoke,
            clock=self.plane.clock.now,
        )
        plane = self.plane
        self.world = replace(
            plane.world,
            runtime="aws",
            store=DynamoStateStore("stix", client, clock=plane.clock.now),
            objects=_Counting(
                plane.objects,
                meter,
                {
                    "put": "object_puts",
                    "get": "object_gets",
                    "exists": "object_gets",
                    "delete": "object_puts",
                },
                OBJECT_SECONDS,
            ),
            secrets=_Counting(
                plane.secrets,
                meter,
                {"put": "object_puts", "get": "object_gets", "delete": "object_puts"},
                OBJECT_SECONDS,
            ),
            events=_Counting(plane.events, meter, {"publish": "events"}, SERVICE_SECONDS),
            wake=_CountingWake(plane.wake, meter),
            workflows=self.interpreter,
            compute={"fake": _CountingCloud(plane.compute, meter)},
        )
        create_user_token(self.world, token=TOKEN, workspace=WORKSPACE, user="ann")

    def invoke(self, function: str, payload: Any) -> Any:
        context = Context(function, "request", deadline=float("inf"))
        try:
            return self._handlers[function](json.loads(json.dumps(payload)), context)
        finally:
            self.meter.invoked(function)
            if function not in ("api", "agent", "authorize"):
                self.meter.count("log_lines")

    def request(
        self, method: str, path: str, body: Any = None, *, token: str = TOKEN, query: str = ""
    ) -> Any:
        """One request of the HTTP API; nothing is in the authorizer's cache. Raises ``RuntimeError`` unless
        it is answered with success."""
        headers = {
            "host": "api.example",
            "content-type": "application/json",
            "authorization": f"Bearer {token}",
        }
        data = b"" if body is None else json.dumps(body).encode()
        request = HttpRequest(method, path, query, tuple(headers.items()), "192.0.2.1", body=data)
        self.meter.count("http_requests")
        function, who = ("agent" if path.startswith("/agent/") else "api"), None
        if path != "/agent/v1/join":
            who = self.invoke("authorize", authorizer_event(request, "ANY"))["context"]
        answer = read_answer(self.invoke(function, http_event(request, "ANY", who)))
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {answer.body!r}")
        return json.loads(answer.body)

    def pass_time(self, seconds: float) -> None:
        self.plane.clock.moment += seconds

    def run(self) -> None:
        """State machines, as far as they go now."""
        self.interpreter.run_ready()


@contextmanager
def counted_deployment(folder: Path, memory_mib: Mapping[str, int]) -> Iterator[Deployment]:
    import boto3

    from tests.providers.aws.fresh import fresh_aws

    entered = turn.enter
    with ExitStack() as stack:
        stack.enter_context(fresh_aws())
        stack.enter_context(mock.patch.dict("os.environ", AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x"))
        deployment = Deployment(folder, boto3.client("dynamodb", region_name=REGION), memory_mib)

        def enter(*arguments: Any) -> Any:
            deployment.meter.count("transitions")
            return entered(*arguments)

        stack.enter_context(mock.patch.object(turn, "enter", enter))
        install(deployment.world)
        stack.callback(install, None)
        stack.callback(deployment.plane.close)
        yield deployment
