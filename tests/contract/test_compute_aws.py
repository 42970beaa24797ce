"""What holds for AWS alone: its network, images, disks, permissions and settings."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from stix.clouds.aws.compute import AwsCompute
from stix.clouds.aws.facts import FACTS, family_of, is_arm
from stix.clouds.aws.settings import from_config
from stix.model.errors import (
    Blocks,
    CredentialsError,
    InvalidInputError,
    InvalidRequestError,
    NoCapacityError,
    UnavailableError,
)
from stix.ports.compute import GangRequest, MachineState
from tests.contract.compute_worlds import await_states
from tests.contract.world_aws import REGION, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


@pytest.fixture
def compute(world: World) -> AwsCompute:
    return world.compute()


def _instance(world: World, machine_id: str, region: str = REGION) -> dict[str, Any]:
    found = world.server.client("ec2", region).describe_instances(InstanceIds=[machine_id])
    instance: dict[str, Any] = found["Reservations"][0]["Instances"][0]
    return instance


def _template(world: World, request: GangRequest) -> dict[str, Any]:
    versions = world.server.client("ec2").describe_launch_template_versions(
        LaunchTemplateName=f"stix-{request.token}"
    )["LaunchTemplateVersions"]
    data: dict[str, Any] = versions[-1]["LaunchTemplateData"]
    return data


def test_gang_is_in_one_zone_and_reaches_itself(world: World, compute: AwsCompute) -> None:
    ids = compute.create(world.request("a", 3))
    machines = await_states(compute, world, ids, MachineState.RUNNING)
    assert len({machine.zone for machine in machines}) == 1
    groups = {group["GroupName"] for group in _instance(world, ids[0])["SecurityGroups"]}
    assert groups == {"stix-dep"}
    rules = world.server.client("ec2").describe_security_groups(
        Filters=[{"Name": "group-name", "Values": ["stix-dep"]}]
    )["SecurityGroups"][0]["IpPermissions"]
    assert [rule["IpProtocol"] for rule in rules] == ["-1"]
    assert rules[0]["UserIdGroupPairs"]
    assert not rules[0]["IpRanges"]


def test_zone_of_the_offer_is_kept(world: World, compute: AwsCompute) -> None:
    (machine_id,) = compute.create(world.request("a", zone="us-east-1c"))
    assert compute.describe(world.place, [machine_id])[0].zone == "us-east-1c"
    with pytest.raises(NoCapacityError, match="us-east-1z"):
        compute.create(world.request("b", zone="us-east-1z"))


def test_ports_are_open_to_the_world_and_closed_with_the_gang(world: World, compute: AwsCompute) -> None:
    request = world.request("a", ports=("8080", "9000-9010"))
    ids = compute.create(request)
    groups = world.server.client("ec2").describe_security_groups(
        Filters=[{"Name": "group-name", "Values": [f"stix-{request.token}"]}]
    )["SecurityGroups"]
    opened = {(rule["FromPort"], rule["ToPort"]) for rule in groups[0]["IpPermissions"]}
    assert opened == {(8080, 8080), (9000, 9010)}
    compute.terminate(world.place, ids)
    world.settle()
    compute.release(world.place, request.token)
    assert world.leftovers() == []


def test_network_is_made_once_when_the_account_has_none(world: World) -> None:
    ec2 = world.server.client("ec2")
    default = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    for subnet in ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [default]}])["Subnets"]:
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    ec2.delete_vpc(VpcId=default)
    first = world.compute().create(world.request("a"))
    second = world.compute().create(world.request("b"))
    (vpc,) = ec2.describe_vpcs()["Vpcs"]
    assert {_instance(world, one[0])["VpcId"] for one in (first, second)} == {vpc["VpcId"]}
    assert {tag["Key"]: tag["Value"] for tag in vpc["Tags"]} == {"stix-deployment": "dep"}
    zones = ec2.describe_availability_zones()["AvailabilityZones"]
    assert len(ec2.describe_subnets()["Subnets"]) == len(zones)


def test_disk_is_encrypted_and_goes_with_its_machine(world: World, compute: AwsCompute) -> None:
    request = world.request("a", disk_size_gib=77, disk_tier="high")
    (machine_id,) = compute.create(request)
    ids = list(world.disks(machine_id))
    (volume,) = world.server.client("ec2").describe_volumes(VolumeIds=ids)["Volumes"]
    assert (volume["Size"], volume["Encrypted"]) == (77, True)
    assert _template(world, request)["BlockDeviceMappings"][0]["Ebs"]["DeleteOnTermination"] is True


def test_machine_boots_the_agent_that_it_was_given(world: World, compute: AwsCompute) -> None:
    request = world.request("a")
    compute.create(request)
    data = _template(world, request)
    script = base64.b64decode(data["UserData"]).decode()
    assert script.startswith("#!/bin/sh\n")
    assert f"sha={'f' * 64}" in script
    assert data["MetadataOptions"]["HttpTokens"] == "required"
    assert data["InstanceInitiatedShutdownBehavior"] == "terminate"


def test_image_fits_the_region_and_the_processor(world: World, compute: AwsCompute) -> None:
    images = {}
    for name, kind in (("x86", "m5.large"), ("arm", "m6g.large")):
        (machine_id,) = compute.create(world.request(name, instance_type=kind))
        images[name] = _instance(world, machine_id)["ImageId"]
    assert images["x86"] != images["arm"]
    (machine_id,) = compute.create(world.request("own", image=images["arm"]))
    assert _instance(world, machine_id)["ImageId"] == images["arm"]
    (machine_id,) = compute.create(world.request("container", image="docker:python:3.12"))
    assert _instance(world, machine_id)["ImageId"] == images["x86"]
    (machine_id,) = compute.create(world.request("elsewhere", region="eu-west-1"))
    assert _instance(world, machine_id, "eu-west-1")["Placement"]["AvailabilityZone"].startswith("eu-west-1")


def test_policy_allows_every_call_that_was_made_and_nothing_else(world: World, compute: AwsCompute) -> None:
    test_network_is_made_once_when_the_account_has_none(world)
    request = world.request("all", 2, ports=("80",))
    ids = compute.create(request)
    world.settle()
    compute.stop(world.place, ids)
    world.settle()
    compute.start(world.place, ids)
    list(compute.list_tagged(world.place, "dep"))
    compute.identity()
    compute.quotas(world.place)
    compute.terminate(world.place, ids)
    world.settle()
    compute.release(world.place, request.token)
    policy = json.loads(resources.files("stix.clouds.aws").joinpath("policy.json").read_text())
    allowed = {
        action.partition(":")[2]
        for statement in policy["Statement"]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }
    made = set(world.server.calls)
    assert made <= allowed
    # What EC2 asks for in the name of a fleet is never called by its own name.
    assert allowed - made == {"CreateServiceLinkedRole", "CreateTags", "RunInstances"}


def test_refused_attempt_leaves_no_template_behind(world: World, compute: AwsCompute) -> None:
    world.refuse("InsufficientInstanceCapacity")
    with pytest.raises(NoCapacityError) as refused:
        compute.create(world.request("a", ports=("80",)))
    assert (refused.value.provider_code, refused.value.blocks) == (
        "InsufficientInstanceCapacity",
        Blocks.OFFER,
    )
    assert world.leftovers() == []


@pytest.mark.parametrize("code", ["InternalError", "Unavailable"])
def test_outcome_is_unknown_when_ec2_fails(world: World, compute: AwsCompute, code: str) -> None:
    world.refuse(code)
    with pytest.raises(UnavailableError, match=code):
        compute.create(world.request("a"))
    assert compute.create(world.request("a"))


def test_code_that_nobody_knows_stops_with_ec2s_words(world: World, compute: AwsCompute) -> None:
    world.refuse("SomethingNew")
    with pytest.raises(InvalidRequestError, match="SomethingNew"):
        compute.create(world.request("a"))


def test_credentials_are_asked_for_when_there_are_none(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(CredentialsError, match="credentials"):
        world.compute().identity()
    assert FACTS.find_credentials({}, str(tmp_path)) == ""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text("[default]\n")
    assert FACTS.find_credentials({}, str(tmp_path)) == str(tmp_path / ".aws/credentials")
    assert FACTS.find_credentials({"AWS_PROFILE": "x"}, "") == "the variable AWS_PROFILE"


def test_setting_is_named_when_it_is_unknown_or_wrong() -> None:
    with pytest.raises(InvalidInputError, match=r"clouds\.aws\.zone") as wrong:
        from_config({"zone": "x"})
    assert "vpc_id" in wrong.value.hint
    with pytest.raises(InvalidInputError, match=r"clouds\.aws\.vpc_id"):
        from_config({"vpc_id": "vpc-1"})


@pytest.mark.parametrize(
    ("kind", "family", "arm"),
    [
        ("m5.large", "Standard", False),
        ("m7gd.metal", "Standard", True),
        ("c6gn.large", "Standard", True),
        ("t4g.nano", "Standard", True),
        ("a1.large", "Standard", True),
        ("im4gn.large", "Standard", True),
        ("g4dn.xlarge", "G and VT", False),
        ("g5g.xlarge", "G and VT", True),
        ("gr6.4xlarge", "G and VT", False),
        ("p4d.24xlarge", "P", False),
        ("p5en.48xlarge", "P", False),
        ("trn1.2xlarge", "Trn", False),
        ("inf2.xlarge", "Inf", False),
        ("x2gd.large", "X", True),
        ("u-6tb1.metal", "High Memory", False),
        ("hpc7g.4xlarge", "HPC", True),
    ],
)
def test_family_and_processor_follow_from_the_type(kind: str, family: str, arm: bool) -> None:
    assert (family_of(kind), is_arm(kind)) == (family, arm)


def test_quotas_are_those_of_instances_when_asked(world: World, compute: AwsCompute) -> None:
    world.server.page_size = 3
    found = {(quota.family, quota.spot): quota.limit for quota in compute.quotas(world.place)}
    assert found == {
        ("G and VT", False): 512.0,
        ("P", False): 512.0,
        ("Standard", False): 2000.0,
        ("G and VT", True): 512.0,
        ("P", True): 512.0,
        ("Standard", True): 2000.0,
    }
    for instance_type, family in (("p5.48xlarge", "P"), ("g6.xlarge", "G and VT"), ("m7i.large", "Standard")):
        assert FACTS.quota_family(world.request("a", instance_type=instance_type).offer) == family


@pytest.mark.parametrize("how", ["stopped", "terminated", "preempted"])
def test_machine_tells_when_it_ended(world: World, compute: AwsCompute, how: str) -> None:
    world.server.now = lambda: 1_800_000_000.7
    [machine] = compute.create(world.request("when", 1))
    assert compute.describe(world.place, [machine])[0].ended_at == 0.0
    world.server.settle()
    if how == "preempted":
        world.server.preempt(machine)
    else:
        (compute.stop if how == "stopped" else compute.terminate)(world.place, [machine])
    world.server.now = lambda: 1_800_000_100.0
    world.server.settle()
    assert compute.describe(world.place, [machine])[0].ended_at == 1_800_000_000.0
