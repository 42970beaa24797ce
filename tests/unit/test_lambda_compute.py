"""A cloud's function seen from the worker that calls it: calls and refusals pass through JSON unharmed."""

from __future__ import annotations

import io
import json
from typing import Any

import botocore.exceptions
import pytest

from stix.adapters.compute_wire import answer_call, error_from
from stix.adapters.lambda_compute import LambdaCompute
from stix.model import errors
from stix.model.errors import (
    Blocks,
    NoCapacityError,
    NotYetTerminatedError,
    ProviderError,
    QuotaExceededError,
    StixError,
    ThrottledError,
    UnavailableError,
)
from stix.model.offer import Offer
from stix.ports.compute import AgentSource, GangRequest, Machine, MachineState, Place, Quota

PLACE = Place("fake", "north")
REQUEST = GangRequest(
    token="a" * 32,
    count=2,
    offer=Offer(
        cloud="fake", region="north", instance_type="m4", vcpus=4, memory_gib=16, price=1.5, spot=True
    ),
    tags={"stix-deployment": "dep", "stix-intent": "a" * 32, "owner": "Zoë"},
    join_token="join",
    api_url="https://api.example",
    boot_seconds=600,
    ports=("8080", "9000-9010"),
    labels={"team": "vision"},
    agent=AgentSource("https://api.example", "f" * 64),
    disk_size_gib=100,
    disk_tier="high",
    image="docker:python:3.12",
)
MACHINE = Machine(
    "m-1",
    MachineState.RUNNING,
    {"stix-deployment": "dep", "protected": "true"},
    address="10.0.0.1",
    public_address="203.0.113.7",
    zone="north-a",
    preempted=True,
    reason="why",
)


class Provider:
    """Records what arrives; ``refusal`` is raised instead of an answer."""

    cloud = "fake"

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.refusal: Exception | None = None

    def _record(self, *call: Any) -> None:
        self.calls.append(call)
        if self.refusal is not None:
            raise self.refusal

    def create(self, request: GangRequest) -> list[str]:
        self._record("create", request)
        return ["m-1", "m-2"]

    def describe(self, place: Place, machine_ids: list[str]) -> list[Machine]:
        self._record("describe", place, machine_ids)
        return [MACHINE]

    def terminate(self, place: Place, machine_ids: list[str]) -> None:
        self._record("terminate", place, machine_ids)

    def list_tagged(self, place: Place, deployment: str) -> Any:
        self._record("list_tagged", place, deployment)
        yield MACHINE

    def identity(self) -> str:
        self._record("identity")
        return "account 1"

    def stop(self, place: Place, machine_ids: list[str]) -> None:
        self._record("stop", place, machine_ids)

    def start(self, place: Place, machine_ids: list[str]) -> None:
        self._record("start", place, machine_ids)

    def release(self, place: Place, token: str) -> None:
        self._record("release", place, token)

    def quotas(self, place: Place) -> list[Quota]:
        self._record("quotas", place)
        return [Quota("P", True, 96, 8, "vcpus")]

    def offers(self) -> list[Offer]:
        self._record("offers")
        return [REQUEST.offer]


class Client:
    """Lambda's ``invoke`` over a provider; ``failure`` is what happens instead."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.failure: Any = None

    def invoke(self, *, FunctionName: str, Payload: bytes) -> dict[str, Any]:  # noqa: N803
        assert FunctionName == "stix-cloud-fake:live"
        if isinstance(self.failure, Exception):
            raise self.failure
        if self.failure is not None:
            return {"FunctionError": "Unhandled", "Payload": io.BytesIO(json.dumps(self.failure).encode())}
        answer = answer_call(self.provider, json.loads(Payload))
        return {"Payload": io.BytesIO(json.dumps(answer).encode())}


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def client(provider: Provider) -> Client:
    return Client(provider)


@pytest.fixture
def compute(client: Client) -> LambdaCompute:
    return LambdaCompute("fake", "stix-cloud-fake:live", client=client)


def test_every_call_arrives_whole_when_made_through_the_function(
    compute: LambdaCompute, provider: Provider
) -> None:
    assert compute.create(REQUEST) == ["m-1", "m-2"]
    assert compute.describe(PLACE, ["m-1"]) == [MACHINE]
    assert list(compute.list_tagged(PLACE, "dep")) == [MACHINE]
    compute.terminate(PLACE, ["m-1"])
    compute.stop(PLACE, ["m-1"])
    compute.start(PLACE, ["m-1"])
    compute.release(PLACE, "a")
    assert compute.identity() == "account 1"
    assert compute.quotas(PLACE) == [Quota("P", True, 96, 8, "vcpus")]
    assert compute.offers() == [REQUEST.offer]
    assert provider.calls == [
        ("create", REQUEST),
        ("describe", PLACE, ["m-1"]),
        ("list_tagged", PLACE, "dep"),
        ("terminate", PLACE, ["m-1"]),
        ("stop", PLACE, ["m-1"]),
        ("start", PLACE, ["m-1"]),
        ("release", PLACE, "a"),
        ("identity",),
        ("quotas", PLACE),
        ("offers",),
    ]


@pytest.mark.parametrize(
    "refusal",
    [
        NoCapacityError("full", hint="elsewhere", provider_code="InsufficientInstanceCapacity"),
        QuotaExceededError("no GPUs anywhere", blocks=Blocks.CLOUD, provider_code="GPUS_ALL_REGIONS"),
        ThrottledError("slower", retry_after=7.5, provider_code="RequestLimitExceeded"),
        NotYetTerminatedError("still there", details={"left": 2}),
        UnavailableError("no answer"),
    ],
)
def test_refusal_is_the_same_when_it_comes_through_the_function(
    compute: LambdaCompute, provider: Provider, refusal: StixError
) -> None:
    provider.refusal = refusal
    with pytest.raises(type(refusal)) as raised:
        compute.create(REQUEST)
    assert vars(raised.value) == vars(refusal)


def test_every_class_of_error_comes_back_as_itself() -> None:
    kinds = [getattr(errors, name) for name in errors.__all__ if name != "Blocks"]
    for kind in kinds:
        words = {"retry_after": 1.0} if kind is ThrottledError else {}
        body = {"class": kind.__name__, "message": "m", "hint": "h", "code": kind.default_code, **words}
        if issubclass(kind, ProviderError):
            body["blocks"] = "offer"
        assert type(error_from(body)) is kind
    assert type(error_from({"class": "Surprise", "message": "m"})) is StixError


@pytest.mark.parametrize(
    "failure",
    [
        {"errorType": "Sandbox.Timedout", "errorMessage": "Task timed out after 110.00 seconds"},
        botocore.exceptions.ReadTimeoutError(endpoint_url="https://lambda.example"),
        botocore.exceptions.ClientError({"Error": {"Code": "ServiceException"}}, "Invoke"),
    ],
)
def test_outcome_is_unknown_when_the_function_does_not_answer(
    compute: LambdaCompute, client: Client, failure: Any
) -> None:
    client.failure = failure
    if isinstance(failure, botocore.exceptions.ClientError):
        failure.response["ResponseMetadata"] = {"HTTPStatusCode": 500}
    with pytest.raises(UnavailableError, match="fake"):
        compute.create(REQUEST)


def test_caller_is_told_to_wait_when_too_many_calls_run_at_once(
    compute: LambdaCompute, client: Client
) -> None:
    client.failure = botocore.exceptions.ClientError(
        {"Error": {"Code": "TooManyRequestsException"}}, "Invoke"
    )
    with pytest.raises(ThrottledError) as raised:
        compute.describe(PLACE, ["m-1"])
    assert raised.value.retry_after > 0


def test_call_is_refused_when_it_is_not_one(provider: Provider) -> None:
    with pytest.raises(ValueError, match="create"):
        answer_call(provider, {"call": "destroy"})
