"""Requests that the checked-in API document allows, and ones that it does not, to the embedded server.

No answer is a server's error, and every status is one that the document names for its operation.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import status_code_conformance

from stix.local.daemon import Endpoint, ensure_running, stop
from stix.sdk.client import Client
from stix.sdk.endpoint import Endpoint as Target

SERVER = (sys.executable, str(Path(__file__).with_name("fuzzed_server.py")))
DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"
THERE = {"name": "there", "job_id": "1", "run": "1"}
"""Path parameters of things that exist, which no generator would guess."""
CASES, SOAK_CASES = 500, 5_000


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """A server that knows one cluster with one job, whose machines never come."""
    home = tmp_path_factory.mktemp("fuzz") / "home"
    found = ensure_running(home, command=SERVER)
    try:
        with Client(Target(found.url, found.token)) as client:
            client.launch({"cluster": "there", "task": {"run": "true"}})
        yield found
    finally:
        stop(home)


def operations() -> list[Any]:
    document = json.loads(DOCUMENT.read_text())
    schema = schemathesis.openapi.from_dict(document)
    return [found.ok() for found in schema.get_all_operations()]


def fuzz(endpoint: Endpoint, cases: int, first_seed: int) -> Counter[int]:
    """Spread over all operations: how many answers had which status."""
    seen: Counter[int] = Counter()
    found = operations()
    while (left := cases - seen.total()) > 0:
        # An operation without parameters has few different requests.
        for operation in found:
            first_seed += 1
            _fuzz_operation(endpoint, operation, -(-left // len(found)), first_seed, seen)
    return seen


def _fuzz_operation(endpoint: Endpoint, operation: Any, cases: int, number: int, seen: Counter[int]) -> None:
    valid = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    broken = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)

    @seed(number)
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=valid | broken, there=st.booleans())
    def ask(case: Any, there: bool) -> None:
        if there:
            case.path_parameters = {
                name: THERE.get(name, value) for name, value in (case.path_parameters or {}).items()
            }
        # Nothing happens here that a request could wait for.
        case.query = {name: value for name, value in (case.query or {}).items() if name != "wait"}
        answer = case.call_and_validate(
            base_url=endpoint.url,
            headers={"Authorization": f"Bearer {endpoint.token}"},
            checks=[not_a_server_error, status_code_conformance],
            timeout=60,
        )
        seen[answer.status_code] += 1

    ask()


def test_api_answers_as_documented_whatever_is_asked(endpoint: Endpoint) -> None:
    seen = fuzz(endpoint, CASES, 0)
    assert seen.total() >= CASES
    # Neither were all refused, nor all taken.
    assert {200, 202, 400, 404} <= seen.keys(), seen


@pytest.mark.soak
def test_api_answers_as_documented_whatever_is_asked_for_long(endpoint: Endpoint) -> None:
    seen = fuzz(endpoint, SOAK_CASES, 1000)
    assert seen.total() >= SOAK_CASES
    print(f"\n{seen.total()} requests: {dict(sorted(seen.items()))}")
