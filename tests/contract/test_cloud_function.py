"""A cloud's own function as it is deployed: its handler, driven through the port that the workers use."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from functions.cloud.handler import handler
from stix.adapters.lambda_compute import LambdaCompute
from stix.model.errors import NoCapacityError, ThrottledError
from stix.ports.compute import MachineState
from stix.runtime import cloud_driver
from stix.runtime.settings import MissingSettingError
from tests.contract.world_aws import World

CONTEXT = SimpleNamespace(function_name="stix-cloud-aws", aws_request_id="r")


class Invoked:
    """Lambda's ``invoke``, in this process."""

    def invoke(self, *, FunctionName: str, Payload: bytes) -> dict[str, Any]:  # noqa: N803
        answer = handler(json.loads(Payload), CONTEXT)  # type: ignore[arg-type]
        return {"Payload": io.BytesIO(json.dumps(answer).encode())}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(tmp_path)
    monkeypatch.setenv("STIX_CLOUD", "aws")
    monkeypatch.setenv("STIX_DEPLOYMENT", "dep")
    monkeypatch.setenv("STIX_CLOUD_CONFIG", json.dumps({"endpoint_url": world.server.url}))
    monkeypatch.delenv("STIX_SECRETS_BUCKET", raising=False)
    cloud_driver._compute.cache_clear()
    yield world
    cloud_driver._compute.cache_clear()
    world.close()


@pytest.fixture
def compute() -> LambdaCompute:
    return LambdaCompute("aws", "stix-cloud-aws:live", client=Invoked())


def test_gang_lives_and_ends_through_the_function(world: World, compute: LambdaCompute) -> None:
    request = world.request("a", 2, ports=("8080",))
    ids = compute.create(request)
    assert compute.create(request) == ids
    world.settle()
    machines = compute.describe(world.place, ids)
    assert {machine.state for machine in machines} == {MachineState.RUNNING}
    assert machines[0].tags["stix-intent"] == request.token
    assert {machine.id for machine in compute.list_tagged(world.place, "dep")} == set(ids)
    compute.stop(world.place, ids)
    world.settle()
    compute.start(world.place, ids)
    world.settle()
    compute.terminate(world.place, ids)
    world.settle()
    compute.release(world.place, request.token)
    assert world.leftovers() == []
    assert "123456789012" in compute.identity()
    assert compute.offers() == []


def test_refusals_arrive_as_what_they_are(world: World, compute: LambdaCompute) -> None:
    world.refuse("InsufficientInstanceCapacity")
    with pytest.raises(NoCapacityError) as refused:
        compute.create(world.request("a"))
    assert refused.value.provider_code == "InsufficientInstanceCapacity"
    world.throttle(100)
    with pytest.raises(ThrottledError) as throttled:
        compute.create(world.request("a"))
    assert throttled.value.retry_after > 0


def test_function_says_which_setting_it_lacks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STIX_CLOUD")
    with pytest.raises(MissingSettingError, match="STIX_CLOUD"):
        handler({"call": "identity"}, CONTEXT)  # type: ignore[arg-type]


def test_key_of_a_cloud_is_under_what_the_deployment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bucket:
        def __init__(self, name: str) -> None:
            assert name == "secrets"

        def get(self, key: str) -> bytes:
            assert key == "clouds/aws.json"
            return b'{"instance_profile": "kept", "vpc_id": {"a": "b"}}'

    monkeypatch.setattr(cloud_driver, "S3ObjectStore", Bucket)
    environ = {
        "STIX_CLOUD": "aws",
        "STIX_SECRETS_BUCKET": "secrets",
        "STIX_CLOUD_CONFIG": '{"instance_profile": "said"}',
    }
    assert cloud_driver.cloud_config(environ) == {"instance_profile": "said", "vpc_id": {"a": "b"}}
