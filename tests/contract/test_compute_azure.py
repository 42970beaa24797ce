"""What is Azure's own: one deployment for a gang, late failures, evictions, rights, sizes and families."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from stix.adapters.system import SystemClock
from stix.clouds.azure.compute import connect
from stix.clouds.azure.errors import leaf_of, refusal
from stix.clouds.azure.facts import FACTS, family_of, has_premium_disks, is_arm
from stix.clouds.registry import check_config
from stix.model.errors import (
    CredentialsError,
    InvalidInputError,
    InvalidRequestError,
    NotYetTerminatedError,
    UnavailableError,
)
from stix.ports.compute import MachineState
from tests.contract.compute_worlds import await_states
from tests.contract.world_azure import World
from tests.providers.azure.shapes import unknown_fields


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def template_of(world: World) -> list[dict[str, Any]]:
    [group] = world.server.groups.values()
    found: list[dict[str, Any]] = group["deployment"]["template"]["resources"]
    return found


def machine_of(world: World) -> dict[str, Any]:
    found: dict[str, Any] = next(
        one["properties"] for one in template_of(world) if one["type"].endswith("virtualMachines")
    )
    return found


def test_gang_is_one_group_with_everything_in_it(world: World) -> None:
    world.compute().create(world.request("a", 2, ports=("8080", "9000-9010")))
    kinds = sorted(one["type"].rpartition("/")[2] for one in template_of(world))
    assert kinds == [
        *("networkInterfaces", "networkInterfaces", "networkSecurityGroups", "publicIPAddresses"),
        *("publicIPAddresses", "virtualMachines", "virtualMachines", "virtualNetworks"),
    ]
    rules = next(one for one in template_of(world) if one["name"] == "firewall")["properties"][
        "securityRules"
    ]
    assert [rule["properties"]["destinationPortRange"] for rule in rules] == ["8080", "9000-9010"]
    assert {tuple(sorted(one["tags"])) for one in template_of(world)} == {
        ("stix-cluster", "stix-deployment", "stix-intent")
    }


def test_subnet_of_the_settings_is_used_without_a_network_of_ours(world: World) -> None:
    subnet = "/subscriptions/s/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/v/subnets/x"
    compute = world.compute(subnet_ids={"eastus": subnet}, public_addresses=False)
    compute.create(world.request("a"))
    assert {one["type"].rpartition("/")[2] for one in template_of(world)} == {
        *("networkInterfaces", "networkSecurityGroups", "virtualMachines")
    }
    interface = next(one for one in template_of(world) if one["type"].endswith("networkInterfaces"))
    assert interface["properties"]["ipConfigurations"][0]["properties"]["subnet"]["id"] == subnet


def test_spot_machine_is_deleted_when_it_is_evicted_and_costs_no_more_than_on_demand(world: World) -> None:
    world.compute().create(world.request("a", spot=True))
    machine = machine_of(world)
    assert (machine["priority"], machine["evictionPolicy"]) == ("Spot", "Delete")
    assert machine["billingProfile"] == {"maxPrice": -1}


@pytest.mark.parametrize(
    ("size", "tier", "expected"),
    [
        ("Standard_D2s_v5", "", "Premium_LRS"),
        ("Standard_D2_v5", "best", "StandardSSD_LRS"),
        ("Standard_D2s_v5", "low", "Standard_LRS"),
    ],
)
def test_disk_is_what_tier_and_size_allow(world: World, size: str, tier: str, expected: str) -> None:
    world.compute().create(world.request("a", instance_type=size, disk_tier=tier, disk_size_gib=64))
    disk = machine_of(world)["storageProfile"]["osDisk"]
    assert (disk["managedDisk"]["storageAccountType"], disk["diskSizeGB"]) == (expected, 64)


@pytest.mark.parametrize(
    ("offer", "image", "expected"),
    [
        ({}, "", {"offer": "ubuntu-24_04-lts", "sku": "server"}),
        ({"instance_type": "Standard_D2ps_v5"}, "", {"sku": "server-arm64"}),
        ({"accelerator": "A100", "accelerator_count": 1}, "", {"offer": "ubuntu-hpc"}),
        ({}, "docker:me/mine", {"sku": "server"}),
        ({}, "a:b:c:1.0", {"publisher": "a", "version": "1.0"}),
        ({}, "/subscriptions/s/images/i", {"id": "/subscriptions/s/images/i"}),
    ],
)
def test_image_is_the_tasks_or_fits_the_machine(
    world: World, offer: dict[str, Any], image: str, expected: dict[str, str]
) -> None:
    world.compute().create(world.request("a", image=image, **offer))
    found = machine_of(world)["storageProfile"]["imageReference"]
    assert expected.items() <= found.items()


def test_image_that_azure_cannot_have_is_refused_by_name(world: World) -> None:
    with pytest.raises(InvalidRequestError, match=r"resources\.image_id: 'ami-1'"):
        world.compute().create(world.request("a", image="ami-1"))
    assert world.leftovers() == []


def test_boot_script_and_a_key_are_given(world: World) -> None:
    world.compute().create(world.request("a"))
    profile = machine_of(world)["osProfile"]
    assert base64.b64decode(profile["customData"]).startswith(b"#!/bin/sh")
    [key] = profile["linuxConfiguration"]["ssh"]["publicKeys"]
    assert key["keyData"].startswith("ssh-rsa ")


def test_single_machine_waits_to_be_ended_while_its_gang_is_being_made(world: World) -> None:
    compute = world.compute()
    ids = compute.create(world.request("a", 2))
    with pytest.raises(NotYetTerminatedError):
        compute.terminate(world.place, ids[:1])
    compute.terminate(world.place, ids)
    await_states(compute, world, ids, MachineState.TERMINATED)
    assert world.leftovers() == []


def test_role_allows_every_call_that_is_made(world: World) -> None:
    compute = world.compute()
    ids = compute.create(world.request("a", 2, ports=("80",)))
    await_states(compute, world, ids, MachineState.RUNNING)
    compute.stop(world.place, ids)
    await_states(compute, world, ids, MachineState.STOPPED)
    compute.start(world.place, ids)
    await_states(compute, world, ids, MachineState.RUNNING)
    compute.quotas(world.place)
    compute.identity()
    compute.terminate(world.place, ids[:1])
    compute.terminate(world.place, ids)
    text = resources.files("stix.clouds.azure").joinpath("role.json").read_text(encoding="utf-8")
    allowed = set(json.loads(text)["Actions"])
    assert set(world.server.calls) <= allowed
    # The rest is what Azure checks while it carries the template out.
    others = {action for action in allowed - set(world.server.calls) if action.endswith("/read")}
    assert others == {"Microsoft.Resources/deployments/operationstatuses/read"}


@pytest.mark.parametrize(
    ("size", "family"),
    [
        ("Standard_D2s_v5", "standardDSv5Family"),
        ("Standard_NC24ads_A100_v4", "standardNCADSA100v4Family"),
        ("Standard_B2s", "standardBSFamily"),
        ("Standard_E4-2ds_v5", "standardEDSv5Family"),
    ],
)
def test_family_follows_from_the_size(size: str, family: str) -> None:
    assert family_of(size) == family


def test_features_are_read_from_the_size() -> None:
    assert is_arm("Standard_D4ps_v5")
    assert not is_arm("Standard_D4s_v5")
    assert has_premium_disks("Standard_NC24ads_A100_v4")
    assert not has_premium_disks("Standard_D4_v5")


def test_innermost_error_is_told() -> None:
    inner = json.dumps({"error": {"code": "ZonalAllocationFailed", "message": "no room"}})
    wrapped = {"code": "DeploymentFailed", "details": [{"code": "Conflict", "message": inner}]}
    assert leaf_of(wrapped) == ("ZonalAllocationFailed", "no room")
    assert isinstance(refusal("OperationNotAllowed", "the machine is stopped"), InvalidRequestError)


def test_endpoint_that_does_not_answer_is_unavailable(world: World) -> None:
    with pytest.raises(UnavailableError, match="cannot be reached"):
        world.compute(endpoint_url="https://127.0.0.1:9").identity()


def test_certificate_of_somebody_else_is_not_trusted(world: World) -> None:
    config = {**world.server.config(), "ca_file": ""}
    with pytest.raises((UnavailableError, CredentialsError)):
        connect(config, deployment="dep", clock=SystemClock()).identity()


def test_subscription_is_asked_for_when_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_SUBSCRIPTION_ID", raising=False)
    with pytest.raises(CredentialsError, match="subscription") as refused:
        connect({}, deployment="dep", clock=SystemClock())
    assert "clouds.azure.subscription_id" in refused.value.hint


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"subscription": "x"}, "clouds.azure.subscription"),
        ({"client_id": "x"}, "clouds.azure.tenant_id"),
        ({"client_secret": 5}, "clouds.azure.client_secret"),
    ],
)
def test_wrong_setting_is_named_and_no_secret_repeated(config: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInputError, match=field) as refused:
        check_config("azure", config)
    assert "5" not in str(refused.value.message).replace("s5", "")


def test_credentials_are_found_where_azures_tools_find_them(tmp_path: Path) -> None:
    assert FACTS.find_credentials({}, str(tmp_path)) == ""
    principal = {"AZURE_CLIENT_ID": "a", "AZURE_TENANT_ID": "b"}
    assert "AZURE_CLIENT_ID" in FACTS.find_credentials(principal, str(tmp_path))
    (tmp_path / ".azure").mkdir()
    (tmp_path / ".azure" / "azureProfile.json").write_text("{}")
    assert FACTS.find_credentials({}, str(tmp_path)).endswith("azureProfile.json")


def test_shapes_find_a_field_that_azure_does_not_know() -> None:
    import azure.mgmt.compute.models as models

    wrong = {"properties": {"hardwareProfile": {"vmSize": "x", "vmsize": "y"}}}
    assert unknown_fields(models.VirtualMachine, wrong) == [".properties.hardwareProfile.vmsize"]
