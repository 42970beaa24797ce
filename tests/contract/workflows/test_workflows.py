"""The contract of ``stix.ports.workflows.Workflows`` over the interpreter and Step Functions (moto)."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stix.adapters.sqlite_database import SqliteDatabase
from stix.adapters.step_functions import StepFunctionsWorkflows
from stix.local.interpreter import Definition, Interpreter
from stix.model.errors import StixError, UnavailableError
from stix.ports.workflows import TaskTokenError, Workflows

REGION = "us-east-1"
TOKEN_TASK = {
    "StartAt": "Ask",
    "States": {
        "Ask": {
            "Type": "Task",
            "Resource": "arn:aws:states:::lambda:invoke.waitForTaskToken",
            "TimeoutSeconds": 60,
            "HeartbeatSeconds": 30,
            "Parameters": {"FunctionName": "keep", "Payload": {"token.$": "$$.Task.Token"}},
            "End": True,
        }
    },
}
PASS = {"StartAt": "Go", "States": {"Go": {"Type": "Pass", "End": True}}}


@dataclass
class Engine:
    workflows: Workflows
    describe: Callable[[str, str], dict[str, Any]]
    tokens: list[str]
    advance: Callable[[], None]

    def until(self, done: Callable[[], Any]) -> Any:
        end = time.monotonic() + 60
        while not (found := done()):
            assert time.monotonic() < end
            self.advance()
        return found

    def finished(self, machine: str, name: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            found = self.describe(machine, name)
            return found if found["status"] != "RUNNING" else None

        result: dict[str, Any] = self.until(look)
        return result


@pytest.fixture
def interpreter(tmp_path: Path) -> Iterator[Engine]:
    tokens: list[str] = []
    database = SqliteDatabase(tmp_path / "state.db")
    machines = {"ask": TOKEN_TASK, "pass": PASS}
    engine = Interpreter(
        database,
        {name: Definition.from_text(name, json.dumps(text)) for name, text in machines.items()},
        lambda _function, payload: tokens.append(payload["token"]),
    )

    def describe(machine: str, name: str) -> dict[str, Any]:
        run = engine.describe(name, machine)
        assert run is not None
        return {"status": run.status, "output": run.output, "error": run.error, "cause": run.cause}

    yield Engine(engine, describe, tokens, lambda: engine.run_ready() and None)
    database.close()


@pytest.fixture
def step_functions() -> Iterator[Engine]:
    import boto3
    from moto import mock_aws
    from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils

    tokens: list[str] = []
    config = {"stepfunctions": {"execute_state_machine": True}, "lambda": {"use_docker": False}}

    def invoke(parameters: dict[str, Any], **_given: Any) -> dict[str, Any]:
        payload = parameters["Payload"]
        tokens.append((payload if isinstance(payload, dict) else json.loads(payload))["token"])
        return {"StatusCode": 200, "Payload": None}

    with mock_aws(config=config), pytest.MonkeyPatch.context() as patch:
        patch.setattr(lambda_eval_utils, "_invoke_lambda_function", invoke)
        client = boto3.client(
            "stepfunctions", region_name=REGION, aws_access_key_id="a", aws_secret_access_key="s"
        )
        arns = {
            name: client.create_state_machine(
                # Runs of other tests may still be known under these names: the mock outlives one test.
                name=f"{name}-{uuid.uuid4().hex}",
                definition=json.dumps(text),
                roleArn="arn:aws:iam::123456789012:role/contract",
            )["stateMachineArn"]
            for name, text in {"ask": TOKEN_TASK, "pass": PASS}.items()
        }

        def describe(machine: str, name: str) -> dict[str, Any]:
            arn = arns[machine].replace(":stateMachine:", ":execution:") + ":" + name
            found = client.describe_execution(executionArn=arn)
            return {**found, "output": json.loads(found.get("output", "null"))}

        yield Engine(StepFunctionsWorkflows(arns, client), describe, tokens, lambda: time.sleep(0.05))


@pytest.fixture(params=["interpreter", "step_functions"])
def engine(request: pytest.FixtureRequest) -> Engine:
    found: Engine = request.getfixturevalue(request.param)
    return found


def test_start_runs_the_machine_with_the_payload(engine: Engine) -> None:
    assert engine.workflows.start("pass", "one", {"x": "grün"}) is True
    found = engine.finished("pass", "one")
    assert (found["status"], found["output"]) == ("SUCCEEDED", {"x": "grün"})


def test_start_answers_false_when_the_name_was_used(engine: Engine) -> None:
    engine.workflows.start("pass", "one", {"x": 1})
    engine.finished("pass", "one")
    assert engine.workflows.start("pass", "one", {"x": 2}) is False
    assert engine.workflows.start("pass", "two", {"x": 2}) is True
    assert engine.finished("pass", "one")["output"] == {"x": 1}


def test_start_refuses_when_the_machine_is_unknown(engine: Engine) -> None:
    with pytest.raises(ValueError, match="no state machine 'other'"):
        engine.workflows.start("other", "one", {})


def test_start_refuses_when_the_name_is_bad(engine: Engine) -> None:
    with pytest.raises(ValueError, match="run name"):
        engine.workflows.start("pass", "no spaces please", {})


def test_succeed_gives_the_task_its_output(engine: Engine) -> None:
    engine.workflows.start("ask", "one", {})
    token = engine.until(lambda: engine.tokens)[0]
    engine.workflows.heartbeat(token)
    engine.workflows.succeed(token, {"answer": 42})
    found = engine.finished("ask", "one")
    assert (found["status"], found["output"]) == ("SUCCEEDED", {"answer": 42})


def test_fail_fails_the_task(engine: Engine) -> None:
    engine.workflows.start("ask", "one", {})
    engine.workflows.fail(engine.until(lambda: engine.tokens)[0], "NoCapacity", "none left")
    found = engine.finished("ask", "one")
    assert (found["status"], found["error"]) == ("FAILED", "NoCapacity")


def test_token_calls_raise_when_the_token_was_answered(interpreter: Engine) -> None:
    # Not on moto: it goes on accepting an answered token. The adapter's part of it is the translation below.
    interpreter.workflows.start("ask", "one", {})
    token = interpreter.until(lambda: interpreter.tokens)[0]
    interpreter.workflows.succeed(token, {})
    for call in (
        lambda: interpreter.workflows.succeed(token, {}),
        lambda: interpreter.workflows.fail(token, "E", "c"),
        lambda: interpreter.workflows.heartbeat(token),
    ):
        with pytest.raises(TaskTokenError):
            call()


def test_token_calls_raise_when_the_token_is_unknown(engine: Engine) -> None:
    with pytest.raises(TaskTokenError):
        engine.workflows.succeed("AAAA", {})


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("TaskTimedOut", TaskTokenError),
        ("InvalidToken", TaskTokenError),
        ("TaskDoesNotExist", TaskTokenError),
        ("ThrottlingException", UnavailableError),
        ("InvalidOutput", ValueError),
        ("AccessDeniedException", StixError),
    ],
)
def test_step_functions_errors_are_translated_when_a_token_is_answered(
    code: str, error: type[Exception]
) -> None:
    import boto3
    from botocore.stub import Stubber

    client = boto3.client(
        "stepfunctions", region_name=REGION, aws_access_key_id="a", aws_secret_access_key="s"
    )
    with Stubber(client) as stub:
        stub.add_client_error("send_task_success", service_error_code=code, http_status_code=400)
        with pytest.raises(error):
            StepFunctionsWorkflows({}, client).succeed("token", {})
