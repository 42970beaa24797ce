"""What is Azure's own when a gang is made: one group, one deployment, and what its machines need."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stix.clouds.azure import template
from stix.clouds.azure.compute import AzureCompute
from stix.clouds.azure.settings import from_config
from stix.clouds.bootstrap import MOST_BYTES
from stix.model.errors import (
    InvalidRequestError,
    NoCapacityError,
    UnavailableError,
)
from stix.ports.compute import MachineState
from tests.contract.compute_worlds import await_states
from tests.contract.world_azure import World
from tests.providers.azure.template import refused

SUBNET = "/subscriptions/s/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/v/subnets/x"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


@pytest.fixture
def compute(world: World) -> AzureCompute:
    return world.compute()


def _sent(world: World, kind: str) -> list[dict[str, Any]]:
    """The resources of a kind in the one template that was sent."""
    [group] = world.server.cloud.groups.values()
    return [one for one in group.template["resources"] if one["type"].endswith(f"/{kind}")]


def _machine(world: World) -> dict[str, Any]:
    found: dict[str, Any] = _sent(world, "virtualMachines")[0]["properties"]
    return found


# --- a gang ---


def test_gang_is_one_group_with_everything_in_it(world: World, compute: AzureCompute) -> None:
    compute.create(world.request("a", 2))
    expected = {
        "virtualMachines": 2,
        "networkInterfaces": 2,
        "publicIPAddresses": 2,
        "networkSecurityGroups": 1,
        "virtualNetworks": 1,
    }
    assert {kind: len(_sent(world, kind)) for kind in expected} == expected
    [group] = world.server.cloud.groups.values()
    assert len(group.template["resources"]) == sum(expected.values())
    for resource in group.template["resources"]:
        assert set(resource["tags"]) == {"stix-cluster", "stix-deployment", "stix-intent"}


def test_gang_and_its_network_are_made_once_when_it_is_asked_again(
    world: World, compute: AzureCompute
) -> None:
    ids = compute.create(world.request("a", 2))
    await_states(compute, world, ids, MachineState.RUNNING)
    before = world.server.cloud.groups[ids[0].partition("/")[0]].others.copy()
    assert world.compute().create(world.request("a", 2)) == ids
    assert world.server.cloud.deployments == 1
    assert world.server.cloud.groups[ids[0].partition("/")[0]].others == before


def test_gang_is_deployed_when_only_its_group_was_made(world: World, compute: AzureCompute) -> None:
    world.refuse("InternalServerError")
    with pytest.raises(UnavailableError, match="did not say what became of it"):
        compute.create(world.request("a", 2))
    [group] = world.server.cloud.groups.values()
    assert group.deployment is None
    ids = compute.create(world.request("a", 2))
    await_states(compute, world, ids, MachineState.RUNNING)


def test_gang_is_another_when_its_disk_is(world: World, compute: AzureCompute) -> None:
    compute.create(world.request("a", disk_tier="low"))
    with pytest.raises(InvalidRequestError, match="token"):
        compute.create(world.request("a", disk_tier="high"))


def test_ports_are_open_to_the_world_and_nothing_else_is(world: World, compute: AzureCompute) -> None:
    compute.create(world.request("a", ports=("8080", "9000-9010")))
    [firewall] = _sent(world, "networkSecurityGroups")
    rules = [rule["properties"] for rule in firewall["properties"]["securityRules"]]
    assert [rule["destinationPortRange"] for rule in rules] == ["8080", "9000-9010"]
    assert {(rule["access"], rule["direction"], rule["protocol"]) for rule in rules} == {
        ("Allow", "Inbound", "Tcp")
    }
    assert len({rule["priority"] for rule in rules}) == 2
    interfaces = [one["properties"]["networkSecurityGroup"] for one in _sent(world, "networkInterfaces")]
    assert interfaces == [{"id": "[resourceId('Microsoft.Network/networkSecurityGroups', 'firewall')]"}]


def test_no_port_is_open_when_none_is_asked(world: World, compute: AzureCompute) -> None:
    compute.create(world.request("a"))
    [firewall] = _sent(world, "networkSecurityGroups")
    assert firewall["properties"]["securityRules"] == []


def test_subnet_of_the_settings_is_used_without_a_network_of_ours(world: World) -> None:
    compute = world.compute(subnet_ids={"eastus": SUBNET}, public_addresses=False)
    ids = compute.create(world.request("a", 2))
    assert not _sent(world, "virtualNetworks")
    assert not _sent(world, "publicIPAddresses")
    [main] = _sent(world, "networkInterfaces")[0]["properties"]["ipConfigurations"]
    assert main["properties"]["subnet"] == {"id": SUBNET}
    machines = await_states(compute, world, ids, MachineState.RUNNING)
    assert all(machine.address.startswith("172.16.") for machine in machines)
    assert {machine.public_address for machine in machines} == {""}


def test_machines_without_a_way_out_are_refused_by_the_settings_name(world: World) -> None:
    compute = world.compute(subnet_ids={"westeurope": SUBNET}, public_addresses=False)
    with pytest.raises(InvalidRequestError, match=r"clouds\.azure\.subnet_ids.*eastus") as refusal:
        compute.create(world.request("a"))
    assert "clouds.azure.public_addresses" in refusal.value.hint
    assert world.leftovers() == []


@pytest.mark.parametrize("zone", ["eastus-2", "2"])
def test_zone_of_the_offer_is_kept(world: World, compute: AzureCompute, zone: str) -> None:
    ids = compute.create(world.request("a", 2, zone=zone))
    machines = await_states(compute, world, ids, MachineState.RUNNING)
    assert {machine.zone for machine in machines} == {"eastus-2"}
    assert all(one["zones"] == ["2"] for one in _sent(world, "publicIPAddresses"))


def test_more_machines_than_a_deployment_holds_are_refused(world: World, compute: AzureCompute) -> None:
    with pytest.raises(InvalidRequestError, match="250"):
        compute.create(world.request("a", 251))
    assert refused(template.gang_template(world.request("a", 250), from_config({}))) is None


@pytest.mark.parametrize(
    "labels",
    [{"a/b": "x"}, {"name": "x" * 257}, {"Team": "a", "team": "b"}, {f"l{n}": "" for n in range(45)}],
    ids=["name", "value", "capitals", "number"],
)
def test_labels_that_cannot_be_tags_are_refused_by_name(
    world: World, compute: AzureCompute, labels: dict[str, str]
) -> None:
    with pytest.raises(InvalidRequestError, match=r"resources\.labels"):
        compute.create(world.request("a", tags=labels))
    assert world.leftovers() == []


def test_as_many_labels_as_fit_are_kept(world: World, compute: AzureCompute) -> None:
    ids = compute.create(world.request("a", tags={f"l{n}": "x" * 256 for n in range(44)}))
    [machine] = compute.describe(world.place, ids)
    assert len(machine.tags) == 47


# --- machines ---


def test_spot_machine_is_deleted_when_it_is_evicted_and_costs_no_more_than_on_demand(
    world: World, compute: AzureCompute
) -> None:
    compute.create(world.request("a", spot=True))
    machine = _machine(world)
    assert (machine["priority"], machine["evictionPolicy"]) == ("Spot", "Delete")
    assert machine["billingProfile"] == {"maxPrice": -1}


def test_ordinary_machine_has_no_priority(world: World, compute: AzureCompute) -> None:
    compute.create(world.request("a"))
    assert not {"priority", "evictionPolicy", "billingProfile"} & _machine(world).keys()


def test_rest_of_a_gang_runs_on_when_one_is_evicted(world: World, compute: AzureCompute) -> None:
    ids = compute.create(world.request("a", 3, spot=True))
    await_states(compute, world, ids, MachineState.RUNNING)
    world.preempt(ids[1])
    machines = compute.describe(world.place, ids)
    assert [machine.preempted for machine in machines] == [False, True, False]
    assert "Evicted" in machines[1].reason
    assert {one.id for one in compute.list_tagged(world.place, "dep")} == {ids[0], ids[2]}


@pytest.mark.parametrize(
    ("size", "tier", "expected"),
    [
        ("Standard_D2s_v5", "", "Premium_LRS"),
        ("Standard_D2_v5", "best", "StandardSSD_LRS"),
        ("Standard_D2s_v5", "low", "Standard_LRS"),
    ],
)
def test_disk_is_what_tier_and_size_allow_and_goes_with_its_machine(
    world: World, compute: AzureCompute, size: str, tier: str, expected: str
) -> None:
    compute.create(world.request("a", instance_type=size, disk_tier=tier, disk_size_gib=64))
    disk = _machine(world)["storageProfile"]["osDisk"]
    assert (disk["managedDisk"]["storageAccountType"], disk["diskSizeGB"]) == (expected, 64)
    assert disk["deleteOption"] == "Delete"


@pytest.mark.parametrize(
    ("offer", "image", "expected"),
    [
        ({}, "", {"offer": "ubuntu-24_04-lts", "sku": "server"}),
        ({"instance_type": "Standard_D2ps_v5"}, "", {"sku": "server-arm64"}),
        ({"instance_type": "Standard_D2_v3"}, "", {"sku": "server-gen1"}),
        ({"instance_type": "Standard_D2_v5"}, "", {"sku": "server"}),
        ({"accelerator": "A100", "accelerator_count": 1}, "", {"offer": "ubuntu-hpc"}),
        ({}, "docker:me/mine", {"sku": "server"}),
        ({}, "a:b:c:1.0", {"publisher": "a", "version": "1.0"}),
        ({}, "/subscriptions/s/images/i", {"id": "/subscriptions/s/images/i"}),
    ],
)
def test_image_is_the_tasks_or_fits_the_machine(
    world: World, compute: AzureCompute, offer: dict[str, Any], image: str, expected: dict[str, str]
) -> None:
    compute.create(world.request("a", image=image, **offer))
    assert expected.items() <= _machine(world)["storageProfile"]["imageReference"].items()


def test_image_of_the_settings_is_for_every_region(world: World) -> None:
    compute = world.compute(image="mine:mine:mine:1", accelerated_image=SUBNET)
    compute.create(world.request("a", region="westeurope"))
    assert _machine(world)["storageProfile"]["imageReference"]["publisher"] == "mine"
    [virtual] = _sent(world, "virtualMachines")
    assert virtual["location"] == "westeurope"


def test_image_that_azure_cannot_have_is_refused_by_name(world: World, compute: AzureCompute) -> None:
    with pytest.raises(InvalidRequestError, match=r"resources\.image_id: 'ami-1'") as refusal:
        compute.create(world.request("a", image="ami-1"))
    assert "publisher:offer:sku:version" in refusal.value.hint
    assert world.leftovers() == []


def test_size_for_confidential_machines_is_passed_over(world: World, compute: AzureCompute) -> None:
    with pytest.raises(NoCapacityError, match="confidential"):
        compute.create(world.request("a", instance_type="Standard_DC2ads_v5"))
    assert world.leftovers() == []


def test_machine_boots_the_agent_that_it_was_given(world: World, compute: AzureCompute) -> None:
    compute.create(world.request("a"))
    profile = _machine(world)["osProfile"]
    script = base64.b64decode(profile["customData"])
    assert script.startswith(b"#!/bin/sh")
    assert f"sha={'f' * 64}".encode() in script
    assert len(script) <= MOST_BYTES <= 65_535


def test_nobody_can_log_in_unless_a_key_is_named(world: World, compute: AzureCompute) -> None:
    compute.create(world.request("a"))
    linux = _machine(world)["osProfile"]["linuxConfiguration"]
    assert linux["disablePasswordAuthentication"] is True
    [key] = linux["ssh"]["publicKeys"]
    assert key["keyData"].startswith("ssh-rsa ")
    world.server.cloud.groups.clear()
    world.compute(ssh_public_key="ssh-ed25519 AAAA me").create(world.request("b"))
    [key] = _machine(world)["osProfile"]["linuxConfiguration"]["ssh"]["publicKeys"]
    assert key["keyData"] == "ssh-ed25519 AAAA me"
