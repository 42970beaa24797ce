"""What Google Cloud refuses and whom: codes and their words, quotas, rights, credentials, settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from stix.adapters.system import SystemClock
from stix.clouds.gcp.compute import GcpCompute, connect
from stix.clouds.gcp.errors import REFUSALS, refusal
from stix.clouds.gcp.facts import FACTS, is_arm
from stix.clouds.gcp.names import request_id
from stix.clouds.registry import check_config
from stix.model.errors import (
    Blocks,
    CredentialsError,
    InvalidInputError,
    InvalidRequestError,
    NoCapacityError,
    QuotaExceededError,
    StixError,
    UnavailableError,
)
from stix.model.offer import Offer
from stix.ports.compute import MachineState, Quota
from tests.contract.compute_worlds import await_states
from tests.contract.world_gcp import REGION, World
from tests.providers.gcp.permissions import needed
from tests.providers.gcp.server import PROJECT


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


@pytest.fixture
def compute(world: World) -> GcpCompute:
    return world.compute()


# --- refusals ---


@pytest.mark.parametrize("code", sorted(REFUSALS))
def test_code_means_its_class_in_an_answer_and_in_an_operation(code: str) -> None:
    error = refusal(code, "Google says so.")
    assert type(error) is REFUSALS[code]
    assert error.message == f"Google says so ({code})."


@pytest.mark.parametrize(
    ("code", "words", "kind", "blocks"),
    [
        ("invalid", "Machine type with name 'c4-x' does not exist in zone 'z'.", NoCapacityError, "offer"),
        ("invalid", "Invalid value for field 'zone': 'us-east9-z'. Unknown zone.", NoCapacityError, "offer"),
        ("notFound", "The resource 'projects/p/zones/us-east9-z' was not found", NoCapacityError, "offer"),
        (
            "notFound",
            "The resource 'projects/p/zones/z/acceleratorTypes/t4' was not found",
            NoCapacityError,
            "offer",
        ),
        (
            "notFound",
            "The resource 'projects/p/global/images/none' was not found",
            InvalidRequestError,
            "nothing",
        ),
        ("quotaExceeded", "Quota 'N2_CPUS' exceeded. Limit: 8.0 in region r.", QuotaExceededError, "family"),
        (
            "QUOTA_EXCEEDED",
            "Quota 'GPUS_ALL_REGIONS' exceeded. Limit: 0.0 globally.",
            QuotaExceededError,
            "cloud",
        ),
        ("QUOTA_EXCEEDED", "Quota 'IN_USE_ADDRESSES' exceeded. Limit: 8.0.", QuotaExceededError, "region"),
    ],
)
def test_words_of_a_refusal_say_how_far_it_reaches(
    code: str, words: str, kind: type[StixError], blocks: str
) -> None:
    error = refusal(code, words)
    assert type(error) is kind
    assert getattr(error, "blocks", None) == Blocks(blocks)


def test_quota_counts_first_when_zones_refuse_for_different_reasons(
    world: World, compute: GcpCompute
) -> None:
    world.refuse("ZONE_RESOURCE_POOL_EXHAUSTED")
    compute.create(world.request("a"))
    world.settle()
    ((_, operation),) = world.server.state.operations('clientOperationId : "-"')
    operation["error"]["errors"].append(
        {"code": "QUOTA_EXCEEDED", "message": "Quota 'CPUS_PER_VM_FAMILY' exceeded."}
    )
    with pytest.raises(QuotaExceededError) as refused:
        compute.create(world.request("a"))
    assert refused.value.blocks is Blocks.FAMILY


def test_insertion_of_one_machine_is_not_taken_for_that_of_its_gang(
    world: World, compute: GcpCompute
) -> None:
    request = world.request("a", 2)
    ids = compute.create(request)
    name = world.server.state.add_operation(
        f"zones/{REGION}-a", "insert", f"instances/{ids[0]}", client_id=request_id(request.token)
    )["name"]
    world.settle()
    assert world.server.state.operations("")[-1][1]["name"] == name
    world.server.state.operations("")[-1][1]["error"] = {"errors": [{"code": "INTERNAL_ERROR"}]}
    assert compute.create(request) == ids


@pytest.mark.parametrize("code", ["backendError", "internalError"])
def test_outcome_is_unknown_when_compute_engine_fails(world: World, compute: GcpCompute, code: str) -> None:
    world.refuse(code)
    with pytest.raises(UnavailableError, match=code):
        compute.create(world.request("a"))
    assert compute.create(world.request("a"))


def test_code_that_nobody_knows_stops_with_googles_words(world: World, compute: GcpCompute) -> None:
    world.refuse("somethingNew", "It is Tuesday.")
    with pytest.raises(InvalidRequestError, match=r"It is Tuesday \(somethingNew\)"):
        compute.create(world.request("a", ports=("80",)))
    assert world.leftovers() == []


def test_operation_that_ended_in_an_outage_is_not_awaited_for_ever(world: World, compute: GcpCompute) -> None:
    world.refuse("INTERNAL_ERROR")
    compute.create(world.request("a"))
    world.settle()
    with pytest.raises(NoCapacityError, match="INTERNAL_ERROR"):
        compute.create(world.request("a"))


# --- quotas ---


@pytest.mark.parametrize(
    ("kind", "accelerator", "spot", "family"),
    [
        ("n1-standard-4", "", False, "CPUS"),
        ("e2-standard-4", "", False, "CPUS"),
        ("n2-standard-4", "", False, "N2_CPUS"),
        ("c4a-standard-4", "", False, "C4A_CPUS"),
        ("n2-standard-4", "", True, "CPUS"),
        ("n1-standard-8+T4:1", "T4", False, "NVIDIA_T4_GPUS"),
        ("a2-ultragpu-1g", "A100-80GB", True, "NVIDIA_A100_80GB_GPUS"),
    ],
)
def test_quota_family_is_googles_metric(kind: str, accelerator: str, spot: bool, family: str) -> None:
    offer = Offer(
        cloud="gcp",
        region=REGION,
        instance_type=kind,
        accelerator=accelerator,
        spot=spot,
        vcpus=4,
        memory_gib=16,
        price=1,
    )
    assert FACTS.quota_family(offer) == family


def test_quotas_are_those_of_processors_and_accelerators(world: World, compute: GcpCompute) -> None:
    found = compute.quotas(world.place)
    assert Quota("CPUS", False, 72, 8, "vcpus") in found
    assert Quota("NVIDIA_L4_GPUS", False, 4, 1, "accelerators") in found
    assert Quota("NVIDIA_L4_GPUS", True, 0, 0, "accelerators") in found
    # Spot vCPUs without a quota of their own draw from the others; addresses and commitments bound nothing.
    assert {(one.family, one.spot) for one in found} == {
        ("CPUS", False),
        ("N2_CPUS", False),
        ("NVIDIA_L4_GPUS", False),
        ("NVIDIA_L4_GPUS", True),
    }


def test_processor_follows_from_the_type() -> None:
    assert is_arm("c4a-standard-4")
    assert not is_arm("c4-standard-4")


# --- rights, credentials, settings ---


def test_policy_allows_every_call_that_is_made_and_nothing_else(world: World) -> None:
    compute = world.compute(service_account="me@x.iam.gserviceaccount.com")
    request = world.request("a", 2, ports=("80",))
    ids = compute.create(request)
    compute.create(world.request("zonal", zone="us-central1-a"))
    await_states(compute, world, ids, MachineState.RUNNING)
    list(compute.list_tagged(world.place, "dep"))
    compute.quotas(world.place)
    compute.identity()
    compute.stop(world.place, ids)
    await_states(compute, world, ids, MachineState.STOPPED)
    compute.start(world.place, ids)
    await_states(compute, world, ids, MachineState.RUNNING)
    compute.terminate(world.place, ids)
    await_states(compute, world, ids, MachineState.TERMINATED)
    compute.release(world.place, request.token)
    role = json.loads(resources.files("stix.clouds.gcp").joinpath("policy.json").read_text(encoding="utf-8"))
    assert set(role["includedPermissions"]) == {one for call in world.server.calls for one in needed(call)}
    assert role["includedPermissions"] == sorted(role["includedPermissions"])


def test_identity_names_the_account_and_its_project(compute: GcpCompute) -> None:
    assert compute.identity() == f"stix@{PROJECT}.iam.gserviceaccount.com in project {PROJECT}"


def test_key_in_the_settings_is_used_without_a_file(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    assert PROJECT in world.compute(key=json.loads(world.key_file.read_text())).identity()


def test_workload_identity_gets_its_token_from_awss_credentials(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "lambda")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    federation = {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/aws",
        "subject_token_type": "urn:ietf:params:aws:token-type:aws4_request",
        "token_url": f"{world.server.url}/sts",
        "credential_source": {
            "environment_id": "aws1",
            "regional_cred_verification_url": "https://sts.{region}.amazonaws.com"
            "?Action=GetCallerIdentity&Version=2011-06-15",
        },
    }
    compute = world.compute(federation=federation, project=PROJECT)
    assert compute.identity() == f"external_account in project {PROJECT}"
    (grant,) = world.server.grants
    assert grant["audience"] == [federation["audience"]]
    assert "sts.eu-west-1.amazonaws.com" in grant["subject_token"][0]


def test_credentials_are_asked_for_when_there_are_none(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CLOUDSDK_CONFIG", raising=False)
    with pytest.raises(CredentialsError, match="No Google credentials") as refused:
        world.compute().identity()
    assert "gcloud auth application-default login" in refused.value.hint
    assert FACTS.find_credentials({}, str(tmp_path)) == ""
    named = FACTS.find_credentials({"GOOGLE_APPLICATION_CREDENTIALS": "/x"}, str(tmp_path))
    assert named == "the variable GOOGLE_APPLICATION_CREDENTIALS"
    folder = tmp_path / ".config" / "gcloud"
    folder.mkdir(parents=True)
    file = folder / "application_default_credentials.json"
    file.write_text(world.key_file.read_text())
    assert FACTS.find_credentials({}, str(tmp_path)) == str(file)
    assert PROJECT in world.compute().identity()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read"),
        ('{"type": "oracle", "project_id": "p"}', "unknown type 'oracle'"),
        ('{"type": "service_account", "project_id": "p"}', "cannot be used"),
        (
            '{"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "t"}',
            "No Google Cloud project is named",
        ),
    ],
)
def test_credentials_that_are_none_are_refused_with_what_is_wrong(
    world: World, tmp_path: Path, content: str, words: str
) -> None:
    file = tmp_path / "broken.json"
    file.write_text(content)
    with pytest.raises(CredentialsError, match=words):
        world.compute(credentials_file=str(file)).identity()


def test_project_of_somebody_else_is_refused(world: World) -> None:
    with pytest.raises(CredentialsError, match="other-project") as refused:
        world.compute(project="other-project").create(world.request("a"))
    assert refused.value.blocks is Blocks.CLOUD


def test_endpoint_that_does_not_answer_is_unavailable(world: World) -> None:
    with pytest.raises(UnavailableError, match="cannot be reached"):
        world.compute(endpoint_url="http://127.0.0.1:9").identity()


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"zone": "x"}, r"clouds\.gcp\.zone"),
        ({"subnetworks": "x"}, r"clouds\.gcp\.subnetworks"),
        ({"image": "ami-1"}, r"clouds\.gcp\.image"),
        ({"public_addresses": "maybe"}, r"clouds\.gcp\.public_addresses"),
        ({"federation": {"type": "service_account", "private_key": "hush"}}, r"clouds\.gcp\.federation"),
        ({"key": {"type": "authorized_user", "refresh_token": "hush"}}, r"clouds\.gcp\.key"),
        ({"key": "hush"}, r"clouds\.gcp\.key"),
    ],
)
def test_wrong_setting_is_named_and_no_secret_repeated(config: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInputError, match=field) as refused:
        check_config("gcp", config)
    assert "hush" not in f"{refused.value} {refused.value.details}"
    assert "credentials_file" in refused.value.hint


def test_connecting_sends_nothing(world: World) -> None:
    connect({"endpoint_url": world.server.url}, deployment="dep", clock=SystemClock())
    assert world.server.calls == []
