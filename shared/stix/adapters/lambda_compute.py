"""``Compute`` over a cloud's own function: this process holds neither its SDK nor its credentials."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

from stix.adapters.aws_client import create_client, error_code, translated
from stix.adapters.compute_wire import machine_from, request_to, result_of
from stix.model.errors import ThrottledError, UnavailableError
from stix.model.offer import Offer
from stix.ports.compute import GangRequest, Machine, Place, Quota

__all__ = ["LambdaCompute"]

_READ_SECONDS = 115.0
"""Above the time that a cloud's function is given: what it made must be heard of here."""


class LambdaCompute:
    """Implements ``Compute`` and every power; the cloud's facts say which of them are real.

    A call whose outcome is unknown (a function that was cut off, an answer that did not arrive) raises
    ``UnavailableError``; too many calls at once raise ``ThrottledError``.
    """

    def __init__(self, cloud: str, function: str, *, client: Any = None) -> None:
        """``function``: name or ARN, with the alias or version to call."""
        self.cloud = cloud
        self._function = function
        self._given = client

    @cached_property
    def _client(self) -> Any:
        # One attempt: a create call that is sent twice is safe, but it hides what happened.
        retries = {"mode": "standard", "total_max_attempts": 1}
        return self._given or create_client("lambda", read_timeout=_READ_SECONDS, retries=retries)

    def create(self, request: GangRequest) -> list[str]:
        return [str(one) for one in self._call("create", request=request_to(request))]

    def describe(self, place: Place, machine_ids: Sequence[str]) -> list[Machine]:
        return [
            machine_from(one) for one in self._call("describe", place=asdict(place), ids=list(machine_ids))
        ]

    def terminate(self, place: Place, machine_ids: Sequence[str]) -> None:
        self._call("terminate", place=asdict(place), ids=list(machine_ids))

    def list_tagged(self, place: Place, deployment: str) -> Iterator[Machine]:
        """The whole list is one answer of at most 6 MB: some ten thousand machines a region."""
        yield from map(machine_from, self._call("list_tagged", place=asdict(place), deployment=deployment))

    def identity(self) -> str:
        return str(self._call("identity"))

    def stop(self, place: Place, machine_ids: Sequence[str]) -> None:
        self._call("stop", place=asdict(place), ids=list(machine_ids))

    def start(self, place: Place, machine_ids: Sequence[str]) -> None:
        self._call("start", place=asdict(place), ids=list(machine_ids))

    def release(self, place: Place, token: str) -> None:
        self._call("release", place=asdict(place), token=token)

    def quotas(self, place: Place) -> list[Quota]:
        return [Quota(**one) for one in self._call("quotas", place=asdict(place))]

    def offers(self) -> list[Offer]:
        return [Offer.model_validate(one) for one in self._call("offers")]

    def _call(self, name: str, **arguments: Any) -> Any:
        import botocore.exceptions

        payload = json.dumps({"call": name, **arguments}).encode()
        with translated(f"function of {self.cloud}"):
            try:
                answer = self._client.invoke(FunctionName=self._function, Payload=payload)
            except botocore.exceptions.ClientError as exc:
                if error_code(exc) == "TooManyRequestsException":
                    raise ThrottledError(f"Too many calls of {self.cloud} at once.", retry_after=2.0) from exc
                raise
        body = json.loads(answer["Payload"].read())
        if answer.get("FunctionError"):
            words = body.get("errorMessage", "") if isinstance(body, dict) else body
            raise UnavailableError(f"The function of {self.cloud} did not finish {name}: {words}")
        return result_of(body)
