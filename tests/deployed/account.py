"""An AWS account on this machine in which a synthesized stack is deployed, runs, and is called over HTTP.

moto keeps the state of every service. What moto does not do is done here or beside this module: Lambda runs
functions (``lambda_service``), the state machines' interpreter calls them, API Gateway has two fronts
(``http_front``, ``socket_front``), and EventBridge passes events on (``event_rules``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs, unquote

from moto.core.config import default_user_config
from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils

from tests.deployed.api_gateway import NotPermittedError, is_permitted, read_apis
from tests.deployed.computers import Computers
from tests.deployed.fronts import Fronts
from tests.deployed.lambda_service import LambdaService
from tests.deployed.runtime_api import Outcome
from tests.deployed.stack import create_stack
from tests.providers.aws.server import ACCOUNT, AwsServer

__all__ = ["Account"]

REGION = "us-east-1"
_INVOKE = re.compile(r"/2015-03-31/functions/([^/]+)/invocations")


class Account(AwsServer):
    """``deploy`` creates the stack; then ``outputs`` are its outputs."""

    def __init__(self, folder: Path, *, wheels: Path) -> None:
        super().__init__(hosts=folder / "machines")
        self.computers = Computers(folder / "computers", f"*.execute-api.{REGION}.amazonaws.com")
        self.outputs: dict[str, str] = {}
        self.fronts: Fronts | None = None
        self.functions = LambdaService(
            folder / "lambda",
            self.computers,
            account=ACCOUNT,
            region=REGION,
            wheels=wheels,
            environ={"AWS_ENDPOINT_URL": self.url},
        )
        self._patches = [
            patch.dict(default_user_config, {"stepfunctions": {"execute_state_machine": True}}),
            patch.object(lambda_eval_utils, "boto_client_for", self._interpreters_client()),
        ]
        for each in self._patches:
            each.start()

    def deploy(self, assembly: Path) -> None:
        self.outputs = create_stack(self.client, assembly, account=ACCOUNT, region=REGION)
        apis = read_apis(self.client("apigatewayv2"))
        self.fronts = Fronts(apis, self.invoke_as, account=ACCOUNT, region=REGION, now=self.computers.now)
        port = self.fronts.start(self.computers.certificate)
        for api in apis:
            self.computers.name(f"{api}.execute-api.{REGION}.amazonaws.com", port)

    def invoke_as(self, function: str, payload: bytes, service: str, source: str) -> Outcome:
        """A service invokes the function. Raises ``NotPermittedError``."""
        statements = self.functions.function(function).policy.statements
        if not is_permitted(statements, function, service, source):
            raise NotPermittedError(f"{service} may not invoke {function} for {source}")
        return self.functions.invoke(function, payload)

    def close(self) -> None:
        if self.fronts is not None:
            self.fronts.stop()
        self.functions.close()
        super().close()
        for each in self._patches:
            each.stop()

    def _interpreters_client(self) -> Callable[..., Any]:
        """moto's interpreter makes a client for every task, to a port that it takes from the environment."""
        client = self.client("lambda", read_timeout=900)
        return lambda **_given: client

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if invoked := _INVOKE.fullmatch(environ["PATH_INFO"]):
            return self._invoke(unquote(invoked.group(1)), environ, start)
        return super()._answer(environ, start)

    def _invoke(self, function: str, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        payload = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        (qualifier,) = parse_qs(environ["QUERY_STRING"]).get("Qualifier", [None])
        outcome = self.functions.invoke(function, payload or b"{}", qualifier)
        headers = [("Content-Type", "application/json"), ("X-Amz-Executed-Version", "1")]
        if outcome.failed:
            headers.append(("X-Amz-Function-Error", "Unhandled"))
        start("200 OK", headers)
        return [outcome.payload]
