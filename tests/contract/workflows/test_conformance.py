"""One case file, two engines: the interpreter and moto's, which differ exactly where the file says so.

A case is a machine, its input and the outcome that Step Functions documents; ``functions.py`` holds what it
calls. ``differs`` explains a case that moto answers otherwise, ``only_ours`` one that moto cannot run.
"""

from __future__ import annotations

import io
import json
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from stix.adapters.sqlite_database import SqliteDatabase
from stix.adapters.step_functions import StepFunctionsWorkflows
from stix.local.interpreter import Definition, FunctionError, Interpreter
from stix.ports.workflows import Workflows
from tests.contract.workflows.functions import Functions

REGION = "us-east-1"
MACHINE = f"arn:aws:states:{REGION}:123456789012:stateMachine:"
LONGEST_WAIT = 300.0
Case = dict[str, Any]
CASES: list[Case] = json.loads(Path(__file__).with_name("cases.json").read_text(encoding="utf-8"))
SHARED = [case for case in CASES if "only_ours" not in case]


def answer(case: Case, found: dict[str, Any]) -> dict[str, Any]:
    """Of what an engine found, that part which the case is about."""
    fields = ["status", "output"] if found["status"] == "SUCCEEDED" else ["status"]
    if found["status"] == "FAILED":
        fields.append("error")
    if "cause" in case["expected"]:
        fields.append("cause")
    return {field: found.get(field) for field in fields}


def on_ours(case: Case, folder: Path) -> dict[str, Any]:
    clock = [1_700_000_000.0]

    def pause(seconds: float) -> None:
        clock[0] += seconds

    machines = {"case": case["machine"], **case.get("others", {})}
    definitions = {name: Definition.from_text(name, json.dumps(text)) for name, text in machines.items()}
    functions = Functions(lambda: interpreter, pause)
    database = SqliteDatabase(folder / "state.db")
    interpreter = Interpreter(database, definitions, functions, clock=lambda: clock[0])
    try:
        interpreter.start("case", "run", case["input"])
        for _ in range(200):
            interpreter.run_ready()
            run = interpreter.describe("run", "case")
            assert run is not None
            if run.status != "RUNNING":
                break
            wakeup = interpreter.next_wakeup()
            assert wakeup is not None, f"{case['name']} waits for nothing"
            clock[0] = max(clock[0], wakeup)
    finally:
        database.close()
    return answer(case, asdict(run))


class Moto:
    """moto's interpreter in this process, with our functions behind botocore's request."""

    def __init__(self) -> None:
        import boto3
        from botocore.awsrequest import AWSResponse
        from moto import mock_aws
        from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils

        self._response = AWSResponse
        self._mock = mock_aws(
            config={"stepfunctions": {"execute_state_machine": True}, "lambda": {"use_docker": False}}
        )
        self._mock.start()
        # It logs a traceback for every failure of a state, which is what many cases are about.
        logging.getLogger("moto.stepfunctions").setLevel(logging.CRITICAL)
        self.client = boto3.client(
            "stepfunctions", region_name=REGION, aws_access_key_id="a", aws_secret_access_key="s"
        )
        self.workflows: Workflows = StepFunctionsWorkflows(lambda name: MACHINE + name, self.client)
        self._functions = Functions(lambda: self.workflows, time.sleep)
        caller = boto3.client("lambda", region_name=REGION, aws_access_key_id="a", aws_secret_access_key="s")
        caller.meta.events.register_first("before-send.lambda.Invoke", self._invoke)
        self._patch = patch.object(lambda_eval_utils, "boto_client_for", lambda **_given: caller)
        self._patch.start()

    def close(self) -> None:
        self._patch.stop()
        self._mock.stop()

    def _invoke(self, request: Any, **_given: Any) -> Any:
        function = request.url.split("/functions/")[1].split("/")[0].rsplit("%3A", 1)[-1].rsplit(":", 1)[-1]
        headers = {"Content-Type": "application/json", "X-Amz-Executed-Version": "$LATEST"}
        try:
            answer = self._functions(function, json.loads(request.body or "{}"))
        except FunctionError as exc:
            headers["X-Amz-Function-Error"] = "Unhandled"
            answer = {"errorMessage": exc.message, "errorType": exc.error_type}
        body = json.dumps(answer).encode()
        response = self._response(request.url, 200, headers, io.BytesIO(body))
        response._content = body
        return response

    def run_again(self, case: Case) -> dict[str, Any]:
        self._functions.calls.clear()
        return self.run({**case, "name": case["name"] + "_again"})

    def run(self, case: Case) -> dict[str, Any]:
        machine = self.client.create_state_machine(
            name=case["name"],
            definition=json.dumps(case["machine"]),
            roleArn="arn:aws:iam::123456789012:role/conformance",
        )["stateMachineArn"]
        self.workflows.start(case["name"], "run", case["input"])
        run = machine.replace(":stateMachine:", ":execution:") + ":run"
        end = time.monotonic() + LONGEST_WAIT
        while (found := self.client.describe_execution(executionArn=run))["status"] == "RUNNING":
            assert time.monotonic() < end, f"{case['name']} did not end on moto"
            time.sleep(0.1)
        if "output" in found:
            found["output"] = json.loads(found["output"])
        return answer(case, found)


@pytest.fixture(scope="module")
def moto_answers() -> Iterator[dict[str, Any]]:
    moto = Moto()
    try:
        with ThreadPoolExecutor(12) as pool:
            answers = dict(zip([case["name"] for case in SHARED], pool.map(moto.run, SHARED), strict=True))
        # moto's parsers are shared by its threads and not made for it: an answer that surprises counts only
        # when moto gives it again to this case alone.
        for case in SHARED:
            if answers[case["name"]] != case["expected"] and "differs" not in case:
                answers[case["name"]] = moto.run_again(case)
        yield answers
    finally:
        moto.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_interpreter_answers_as_documented_when_a_case_runs(case: Case, tmp_path: Path) -> None:
    assert on_ours(case, tmp_path) == case["expected"]


def test_engines_differ_exactly_where_the_case_file_says(moto_answers: dict[str, Any]) -> None:
    answers = {case["name"]: (moto_answers[case["name"]], case["expected"]) for case in SHARED}
    different = {name: pair for name, pair in answers.items() if pair[0] != pair[1]}
    explained = {case["name"] for case in SHARED if "differs" in case}
    assert set(different) == explained, different
    assert len(explained) <= 6


def test_case_file_is_large_enough_and_its_names_are_unique() -> None:
    assert len({case["name"] for case in CASES}) == len(CASES)
    assert len(SHARED) >= 60
