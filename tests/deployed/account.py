"""An AWS account on this machine in which a synthesized stack is deployed, runs, and is called over HTTP.

moto keeps the state of every service. What moto does not do is done here or beside this module: Lambda runs
functions (``lambda_service``), the state machines' interpreter calls them, API Gateway has two fronts
(``http_front``, ``socket_front``), and EventBridge passes events on (``event_rules``).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

from tests.deployed.api_gateway import NotPermittedError, is_permitted, read_apis
from tests.deployed.computers import Computers
from tests.deployed.event_rules import EventRules
from tests.deployed.fronts import Fronts
from tests.deployed.interpreter import running_interpreter
from tests.deployed.lambda_service import LambdaService
from tests.deployed.permissions import Permissions, role_of, wishes
from tests.deployed.runtime_api import Outcome
from tests.deployed.stack import create_stack, stack_name
from tests.providers.aws.server import ACCOUNT, AwsServer

__all__ = ["Account"]

REGION = "us-east-1"
_EVENTS = "events.amazonaws.com"
_INVOKE = re.compile(r"/2015-03-31/functions/([^/]+)/invocations")


class Account(AwsServer):
    """``deploy`` creates the stack; then ``outputs`` are its outputs."""

    def __init__(self, folder: Path, *, wheels: Path) -> None:
        self.computers = Computers(folder / "computers", f"*.execute-api.{REGION}.amazonaws.com")
        image = self.computers.make("machine")
        path = f"{image.bin}:{os.environ['PATH']}"
        super().__init__(
            hosts=folder / "machines", environ={"PATH": path, **self.computers.environ}, address=_address
        )
        self.now = self.computers.now
        self.outputs: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []
        """What functions put on a bus."""
        self._deliveries: list[threading.Thread] = []
        self.fronts: Fronts | None = None
        self.functions = LambdaService(
            folder / "lambda",
            self.computers,
            account=ACCOUNT,
            region=REGION,
            wheels=wheels,
            environ={"AWS_ENDPOINT_URL": self.url},
        )
        self.permissions = Permissions(self.client("iam"))
        self.rules = EventRules(
            self.client,
            self.invoke_as,
            self.functions.retries,
            account=ACCOUNT,
            region=REGION,
            now=self.computers.now,
        )
        self._open = ExitStack()
        self._open.enter_context(
            running_interpreter(self.client("lambda", read_timeout=900), self.computers.now)
        )

    def deploy(self, assembly: Path) -> None:
        self.stack = stack_name(assembly)
        self.outputs = create_stack(self.client, assembly, account=ACCOUNT, region=REGION)
        apis = read_apis(self.client("apigatewayv2"))
        self.fronts = Fronts(
            apis,
            self.invoke_as,
            self.permissions.allow,
            account=ACCOUNT,
            region=REGION,
            now=self.computers.now,
        )
        port = self.fronts.start(self.computers.certificate)
        for api in apis:
            self.computers.name(f"{api}.execute-api.{REGION}.amazonaws.com", port)

    def invoke_as(self, function: str, payload: bytes, service: str, source: str) -> Outcome:
        """A service invokes the function. Raises ``NotPermittedError``."""
        statements = self.functions.function(function).policy.statements
        if not is_permitted(statements, function, service, source):
            raise NotPermittedError(f"{service} may not invoke {function} for {source}")
        return self.functions.invoke(function, payload, repeats=service == _EVENTS)

    def pass_time(self, seconds: float) -> dict[str, list[Outcome]]:
        """Every clock of the account goes on, and what is scheduled happens: its outcomes."""
        self.advance(seconds)
        return self.rules.pass_time()

    def advance(self, seconds: float) -> None:
        """Every clock of the account goes on, between two calls of functions: none takes minutes."""
        with self.functions.at_rest():
            self.computers.advance(seconds)

    def interrupt_spot(self, machine_id: str, region: str = REGION) -> list[Outcome]:
        """EC2 takes a machine back: the event that goes before, whoever listens, then the machine is gone."""
        detail = {"instance-id": machine_id, "instance-action": "terminate"}
        arn = f"arn:aws:ec2:{region}:{ACCOUNT}:instance/{machine_id}"
        event = self.rules.event("aws.ec2", "EC2 Spot Instance Interruption Warning", detail, resources=[arn])
        outcomes = self.rules.deliver("default", event)
        self.preempt(machine_id, region)
        return outcomes

    def close(self) -> None:
        # Whoever is connected goes first.
        for host in self.machines.values():
            host.power_off()
        # Whoever is still told of an event finds an account. It may put another one on the bus.
        while self._deliveries:
            self._deliveries.pop().join()
        if self.fronts is not None:
            self.fronts.stop()
        self.functions.close()
        super().close()
        self._open.close()

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        role = role_of(environ)
        if not role:
            return self._carry_out(environ, start)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ = {**environ, "wsgi.input": io.BytesIO(body)}
        for wish in wishes(environ, body, account=ACCOUNT, region=REGION):
            if not self.permissions.allow(role, wish):
                start("403 Forbidden", [("Content-Type", "application/json")])
                return [json.dumps({"__type": "AccessDeniedException", "message": str(wish)}).encode()]
        if fate := self.functions.fate_of(environ):
            return fate.request(environ, body, start, lambda begin: self._carry_out(environ, begin))
        return self._carry_out(environ, start)

    def _carry_out(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("HTTP_X_AMZ_TARGET") == "AWSEvents.PutEvents":
            return self._put_events(environ, start)
        if invoked := _INVOKE.fullmatch(environ["PATH_INFO"]):
            return self._invoke(unquote(invoked.group(1)), environ, start)
        return super()._answer(environ, start)

    def _put_events(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """moto takes the events; who listens hears of them afterwards."""
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        for entry in json.loads(body)["Entries"]:
            event = self.rules.event(entry["Source"], entry["DetailType"], json.loads(entry["Detail"]))
            self.events.append(event)
            delivery = threading.Thread(target=self.rules.deliver, args=(entry["EventBusName"], event))
            self._deliveries.append(delivery)
            delivery.start()
        return self._pass_on(environ, start, body)

    def _invoke(self, function: str, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        payload = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        (qualifier,) = parse_qs(environ["QUERY_STRING"]).get("Qualifier", [None])
        # Step Functions calls again where it heard nothing; of functions that call functions none does.
        by_machine = not role_of(environ)
        outcome = self.functions.invoke(function, payload or b"{}", qualifier, repeats=by_machine)
        headers = [("Content-Type", "application/json"), ("X-Amz-Executed-Version", "1")]
        if outcome.failed:
            headers.append(("X-Amz-Function-Error", "Unhandled"))
        start("200 OK", headers)
        return [outcome.payload]


def _address(machine_id: str) -> str:
    """A loopback address of the machine's own: several may listen on one port."""
    mark = hashlib.sha256(machine_id.encode()).digest()
    return f"127.{192 + mark[0] % 60}.{mark[1]}.{1 + mark[2] % 254}"
