"""The faults themselves: the same from the same seed, and as AWS and its SDK know them."""

from __future__ import annotations

import json
import os
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError
from werkzeug.serving import make_server

from tests.deployed.chaos import Chaos, Fate, Rates, Trouble
from tests.deployed.runtime_api import Environment, Outcome

NONE = Rates(killed=0, timed_out=0, twice=0, throttled=0, unanswered=0)
ARN = "arn:aws:lambda:us-east-1:123456789012:function:f"


def drawn(seed: int, function: str, calls: int = 200) -> list[tuple[Any, ...]]:
    chaos = Chaos(seed)
    fates = [chaos.fate(function) for _ in range(calls)]
    return [(one.end, one.at, one.before, one.seconds, one.twice, one.at_once) for one in fates]


def test_fates_are_the_same_when_the_seed_is_whatever_else_is_called() -> None:
    assert drawn(7, "a") == drawn(7, "a")
    assert drawn(7, "a") != drawn(8, "a")
    assert drawn(7, "a") != drawn(7, "b")
    chaos = Chaos(7)
    mixed = [chaos.fate(name) for _ in range(200) for name in ("b", "a")][1::2]
    assert [one.end for one in mixed] == [one[0] for one in drawn(7, "a")]


def test_fates_are_as_frequent_as_their_rates() -> None:
    ends = Counter(one[0] for one in drawn(1, "a", 4000))
    assert 0.012 < ends[Trouble.KILLED] / 4000 < 0.028
    assert 0.008 < ends[Trouble.TIMED_OUT] / 4000 < 0.022
    assert 0.04 < sum(one[4] for one in drawn(1, "a", 4000)) / 4000 < 0.06


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Environment]:
    (tmp_path / "code.py").write_text(
        "import time\ndef handler(event, context):\n    time.sleep(event)\n    return event\n"
    )
    command = [sys.executable, "-m", "awslambdaric", "code.handler"]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)}
    made = Environment(command, cwd=tmp_path, environ=environ, log=tmp_path / "log")
    yield made
    made.stop()


def fate(counted: list[Trouble], **rates: float) -> Fate:
    return Fate(random.Random(3), Rates(**{**dict.fromkeys(Rates.__slots__, 0.0), **rates}), counted.append)


@pytest.mark.parametrize(
    ("rates", "kind"), [({"killed": 1.0}, "Runtime.ExitError"), ({"timed_out": 1.0}, "Sandbox.Timedout")]
)
@pytest.mark.parametrize(("seconds", "sleep"), [(0.1, 90), (None, 0)])
def test_call_ends_in_the_midst_or_after_its_work_when_its_process_dies(
    environment: Environment, rates: dict[str, float], kind: str, seconds: float | None, sleep: int
) -> None:
    counted: list[Trouble] = []
    doomed = fate(counted, **rates)
    doomed.seconds = seconds
    environment.wait_ready()
    call = lambda: environment.invoke(ARN, json.dumps(sleep).encode(), seconds=60)  # noqa: E731
    outcome = doomed.run(environment, call)
    assert outcome.failed
    assert json.loads(outcome.payload)["errorType"] == kind
    assert not environment.alive
    assert counted == [doomed.end]


def test_call_answers_when_nothing_befalls_it(environment: Environment) -> None:
    counted: list[Trouble] = []
    outcome = fate(counted).run(environment, lambda: environment.invoke(ARN, b"0", seconds=60))
    assert (outcome.failed, outcome.payload, environment.alive, counted) == (False, b"0", True, [])


@pytest.mark.parametrize("at_once", [True, False])
def test_call_is_made_twice_when_it_is_delivered_twice(at_once: bool) -> None:
    counted: list[Trouble] = []
    made: list[int] = []

    def call() -> Outcome:
        made.append(threading.get_ident())
        return Outcome(b"")

    one = fate(counted, twice=1.0)
    one.at_once = at_once
    one.deliver(call)
    assert (len(made), len(set(made)) == 2, counted) == (2, at_once, [Trouble.TWICE])
    fate(counted).deliver(call)
    assert len(made) == 3


class Wire:
    """A server of AWS's whose every request meets one fate; ``carried_out`` counts those that were."""

    def __init__(self, fate: Fate) -> None:
        self._fate = fate
        self.carried_out = 0
        self._server = make_server("127.0.0.1", 0, self._answer)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            region_name="us-east-1",
            endpoint_url=f"http://127.0.0.1:{self._server.server_port}",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"total_max_attempts": 1}),
        )

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))

        def carry_out(begin: Callable[..., Any]) -> list[bytes]:
            self.carried_out += 1
            begin("200 OK", [("Content-Type", "application/json")])
            return [b"{}"]

        return self._fate.request(environ, body, start, carry_out)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def wire() -> Iterator[Callable[..., Wire]]:
    made: list[Wire] = []

    def make(fate: Fate) -> Wire:
        made.append(Wire(fate))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_throttling_is_what_dynamodb_says_and_ends(wire: Callable[..., Wire]) -> None:
    counted: list[Trouble] = []
    server = wire(fate(counted, throttled=1.0))
    table = server.client("dynamodb")
    get = {"TableName": "t", "Key": {"pk": {"S": "a"}}}
    put = {"Put": {"TableName": "t", "Item": {"pk": {"S": "a"}}}}
    codes = set()
    for _ in range(20):
        with pytest.raises(ClientError) as caught:
            table.get_item(**get)
        codes.add(caught.value.response["Error"]["Code"])
    assert codes == {"ProvisionedThroughputExceededException", "ThrottlingException"}
    with pytest.raises(table.exceptions.TransactionCanceledException) as cancelled:
        table.transact_write_items(TransactItems=[put, put])
    first, second = cancelled.value.response["CancellationReasons"]
    assert first["Code"] in ("ThrottlingError", "ProvisionedThroughputExceeded")
    assert second["Code"] == "None"
    assert (len(counted), server.carried_out) == (21, 0)
    assert wire(fate(counted)).client("dynamodb").get_item(**get)["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_answer_does_not_arrive_when_ec2_has_done_what_it_was_asked(wire: Callable[..., Wire]) -> None:
    counted: list[Trouble] = []
    server = wire(fate(counted, unanswered=1.0))
    with pytest.raises(ConnectionClosedError):
        server.client("ec2").terminate_instances(InstanceIds=["i-1"])
    assert (counted, server.carried_out) == ([Trouble.UNANSWERED], 1)
    # Other services answer.
    server.client("sqs").list_queues()
    assert server.carried_out == 2


@pytest.mark.parametrize("before", [True, False])
def test_request_is_the_last_when_its_function_dies_there(
    environment: Environment, wire: Callable[..., Wire], before: bool
) -> None:
    counted: list[Trouble] = []
    doomed = fate(counted, killed=1.0)
    doomed.seconds, doomed.at, doomed.before = None, 2, before
    server = wire(doomed)
    queue = server.client("sqs")
    environment.wait_ready()

    def call() -> Outcome:
        queue.list_queues()
        with pytest.raises(ConnectionClosedError):
            queue.list_queues()
        return environment.invoke(ARN, b"90", seconds=60)

    assert doomed.run(environment, call).failed
    assert (counted, server.carried_out) == ([Trouble.KILLED], 1 if before else 2)
