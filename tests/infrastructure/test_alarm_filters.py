"""Which lines of the functions' logs count as errors, by the deployed filter's own pattern."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.infrastructure.conftest import Synthesized

_COMPARISON = re.compile(r'\$\.([\w.]+) (?:(=|!=) "([^"]*)"|(NOT EXISTS))')


def counted(pattern: str, line: dict[str, Any]) -> bool:
    """CloudWatch's JSON patterns, as far as ours go: a comparison with an absent field does not match."""

    def compare(found: re.Match[str]) -> str:
        path, operator, value, absent = found.groups()
        here: Any = line
        for name in path.split("."):
            here = here.get(name) if isinstance(here, dict) else None
        if absent:
            return str(here is None)
        return str(here is not None and (here == value) == (operator == "="))

    text = _COMPARISON.sub(compare, pattern.strip("{} "))
    assert re.fullmatch(r"[TrueFals()&| ]+", text), text
    return bool(eval(text.replace("&&", "and").replace("||", "or")))


@pytest.fixture(scope="module")
def pattern(synthesized: Synthesized) -> str:
    patterns = {
        one["FilterPattern"]
        for one in synthesized.properties("AWS::Logs::MetricFilter")
        if one["MetricTransformations"][0]["MetricName"] == "FunctionErrors"
    }
    (found,) = patterns
    return str(found)


@pytest.mark.parametrize(
    "line",
    [
        {"level": "ERROR", "message": "item could not be swept", "service": "monitor"},
        {"level": "ERROR", "errorType": "KeyError", "errorMessage": "'x'", "requestId": "r"},
        {"level": "CRITICAL", "message": "bad"},
        {"type": "platform.report", "record": {"status": "timeout"}},
        {"type": "platform.report", "record": {"status": "failure", "errorType": "Runtime.ExitError"}},
    ],
)
def test_line_counts_when_something_went_wrong(pattern: str, line: dict[str, Any]) -> None:
    assert counted(pattern, line)


@pytest.mark.parametrize(
    "line",
    [
        {"level": "INFO", "message": "done"},
        {"level": "ERROR", "errorType": "NotYetTerminatedError", "errorMessage": "Not gone yet: i-1."},
        {"type": "platform.report", "record": {"status": "error", "errorType": "NotYetTerminatedError"}},
        {"type": "platform.report", "record": {"status": "success"}},
    ],
)
def test_line_does_not_count_when_all_is_well_or_a_machine_takes_its_time(
    pattern: str, line: dict[str, Any]
) -> None:
    assert not counted(pattern, line)
