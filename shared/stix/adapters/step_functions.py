"""State machine runs on AWS Step Functions (Standard workflows)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from stix.adapters.aws_client import create_client, error_code, translated
from stix.ports.workflows import TaskTokenError

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

__all__ = ["StepFunctionsWorkflows"]

_TOKEN_CODES = frozenset({"InvalidToken", "TaskDoesNotExist", "TaskTimedOut"})
_REFUSED_CODES = frozenset(
    {
        "InvalidArn",
        "InvalidExecutionInput",
        "InvalidName",
        "InvalidOutput",
        "StateMachineDoesNotExist",
        "ValidationException",
    }
)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")
_LONGEST_ERROR = 256
_LONGEST_CAUSE = 32_768


class StepFunctionsWorkflows:
    """Implements ``stix.ports.workflows.Workflows``.

    ``arn_of`` gives the ARN of a state machine by its name. Raises ``ValueError`` for what Step Functions
    refuses (an unknown machine, a bad name, an input over 256 KiB), ``UnavailableError`` for throttling and
    failures of the network, ``StixError`` for anything else.
    """

    def __init__(self, arn_of: Mapping[str, str] | Callable[[str], str], client: SFNClient | None = None):
        self._arn_of = arn_of
        self._given_client = client

    def start(self, machine: str, name: str, payload: Mapping[str, Any]) -> bool:
        """See the port.

        While a run of that name is going on, AWS answers a second request with the same input as it
        answered the first: True then, and still only one run.
        """
        if not _NAME.fullmatch(name):  # AWS takes more; the same names have to work embedded
            raise ValueError(f"the run name {name!r} must be 1 to 80 characters of A-Z, a-z, 0-9, _ and -")
        text = _dump(payload)
        with _translated():
            try:
                self._client.start_execution(stateMachineArn=self._arn(machine), name=name, input=text)
            except self._client.exceptions.ExecutionAlreadyExists:
                return False
        return True

    def succeed(self, token: str, output: Mapping[str, Any]) -> None:
        with _translated():
            self._client.send_task_success(taskToken=token, output=_dump(output))

    def fail(self, token: str, error: str, cause: str) -> None:
        with _translated():
            self._client.send_task_failure(
                taskToken=token, error=error[:_LONGEST_ERROR], cause=cause[:_LONGEST_CAUSE]
            )

    def heartbeat(self, token: str) -> None:
        with _translated():
            self._client.send_task_heartbeat(taskToken=token)

    @cached_property
    def _client(self) -> SFNClient:
        if self._given_client is not None:
            return self._given_client
        client: SFNClient = create_client("stepfunctions")
        return client

    def _arn(self, machine: str) -> str:
        try:
            return self._arn_of(machine) if callable(self._arn_of) else self._arn_of[machine]
        except KeyError as exc:
            raise ValueError(f"there is no state machine {machine!r}") from exc


def _dump(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


@contextmanager
def _translated() -> Iterator[None]:
    from botocore.exceptions import ClientError

    with translated("state machines"):
        try:
            yield
        except ClientError as exc:
            code = error_code(exc)
            if code in _TOKEN_CODES:
                raise TaskTokenError(f"the token cannot be answered: {code}") from exc
            if code in _REFUSED_CODES:
                words = exc.response["Error"].get("Message", "")
                raise ValueError(f"Step Functions refused the request: {code}: {words}") from exc
            raise
