"""Environments of functions: what AWS's own runtime client reports, and what Lambda says where it cannot."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deployed.runtime_api import Environment, Outcome

HANDLERS = """
import os, time

def answer(event, context):
    left = context.get_remaining_time_in_millis()
    return {"given": event, "arn": context.invoked_function_arn, "left": left}

def fail(event, context):
    raise LookupError("no such thing")

def hang(event, context):
    time.sleep(60)

def leave(event, context):
    os._exit(3)

def flood(event, context):
    return "x" * (7 * 2**20)
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Environment]]:
    (tmp_path / "code.py").write_text(HANDLERS)
    started = []

    def begin(handler: str) -> Environment:
        command = [sys.executable, "-m", "awslambdaric", handler]
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)}
        started.append(Environment(command, cwd=tmp_path, environ=environ, log=tmp_path / "log"))
        return started[-1]

    yield begin
    for environment in started:
        if environment.alive:
            environment.stop()


def told(outcome: Outcome) -> Any:
    return json.loads(outcome.payload)


def test_function_answers_again_and_again_in_one_environment(start: Callable[[str], Environment]) -> None:
    environment = start("code.answer")
    for number in range(3):
        outcome = environment.invoke("arn:f", json.dumps(number).encode(), seconds=60)
        assert not outcome.failed
        assert (told(outcome)["given"], told(outcome)["arn"]) == (number, "arn:f")
        assert 0 < told(outcome)["left"] <= 60_000
    assert environment.alive


def test_exception_is_told_with_its_type_and_the_environment_goes_on(
    start: Callable[[str], Environment],
) -> None:
    environment = start("code.fail")
    outcome = environment.invoke("arn:f", b"{}", seconds=60)
    assert outcome.failed
    assert (told(outcome)["errorType"], told(outcome)["errorMessage"]) == ("LookupError", "no such thing")
    assert environment.invoke("arn:f", b"{}", seconds=60).failed
    assert environment.alive


@pytest.mark.parametrize(
    ("handler", "kind", "alive"),
    [
        ("code.hang", "Sandbox.Timedout", False),
        ("code.leave", "Runtime.ExitError", False),
        ("code.flood", "Function.ResponseSizeTooLarge", True),
        ("absent.handler", "Runtime.ImportModuleError", False),
        ("code.absent", "Runtime.HandlerNotFound", False),
    ],
)
def test_lambda_says_what_went_wrong_when_a_function_cannot(
    start: Callable[[str], Environment], handler: str, kind: str, alive: bool
) -> None:
    environment = start(handler)
    seconds = 0.5 if handler == "code.hang" else 60.0
    outcome = environment.invoke("arn:f", b"{}", seconds=seconds)
    assert outcome.failed
    assert told(outcome)["errorType"] == kind
    assert environment.alive is alive
