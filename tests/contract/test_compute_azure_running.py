"""What is Azure's own once a gang was asked for: failures that come late, power, rights, quotas."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from stix.clouds.azure.compute import AzureCompute
from stix.clouds.azure.facts import FACTS
from stix.model.errors import (
    CredentialsError,
    NoCapacityError,
    NotYetTerminatedError,
    ThrottledError,
    UnavailableError,
)
from stix.ports.compute import MachineState
from tests.contract.compute_worlds import await_states, states
from tests.contract.world_azure import World
from tests.providers.azure.server import role_actions
from tests.providers.azure.state import SUBSCRIPTION

NO_PRINCIPAL = {"tenant_id": "", "client_id": "", "client_secret": ""}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


@pytest.fixture
def compute(world: World) -> AzureCompute:
    return world.compute()


# --- what becomes of it ---


def test_single_machine_waits_to_be_ended_or_stopped_while_its_gang_is_being_made(
    world: World, compute: AzureCompute
) -> None:
    ids = compute.create(world.request("a", 2))
    for call in (compute.terminate, compute.stop):
        with pytest.raises(NotYetTerminatedError):
            call(world.place, ids[:1])
    compute.terminate(world.place, ids)
    await_states(compute, world, ids, MachineState.TERMINATED)
    assert world.leftovers() == []


@pytest.mark.parametrize("code", ["ZonalAllocationFailed", "SubnetIsFull"])
def test_failed_machine_is_told_and_removed_with_the_rest(
    world: World, compute: AzureCompute, code: str
) -> None:
    world.refuse(code)
    ids = compute.create(world.request("a", 3))
    world.settle()
    [group] = world.server.cloud.groups.values()
    # One that found no room stays behind as a resource; without an address there is none.
    assert len(group.vms) == (3 if code == "ZonalAllocationFailed" else 2)
    machines = compute.describe(world.place, ids)
    assert {machine.state for machine in machines} == {MachineState.TERMINATING}
    assert all(code in machine.reason for machine in machines)
    with pytest.raises(NoCapacityError, match=code):
        compute.create(world.request("a", 3))
    await_states(compute, world, ids, MachineState.TERMINATED)
    assert world.leftovers() == []


def test_attempt_moves_on_when_its_group_is_going_already(world: World, compute: AzureCompute) -> None:
    ids = compute.create(world.request("a"))
    compute.terminate(world.place, ids)
    with pytest.raises(NoCapacityError) as refusal:
        compute.create(world.request("a"))
    assert refusal.value.blocks == "nothing"


def test_stopped_machine_keeps_its_disk_when_there_is_no_room_to_start_it(
    world: World, compute: AzureCompute
) -> None:
    [machine_id] = ids = compute.create(world.request("a"))
    await_states(compute, world, ids, MachineState.RUNNING)
    compute.stop(world.place, ids)
    await_states(compute, world, ids, MachineState.STOPPED)
    world.server.cloud.fails_to_start = "AllocationFailed"
    compute.start(world.place, ids)
    world.settle()
    [machine] = compute.describe(world.place, ids)
    assert machine.state is MachineState.STOPPED
    assert "AllocationFailed" in machine.reason
    assert world.disks(machine_id)
    compute.start(world.place, ids)
    await_states(compute, world, ids, MachineState.RUNNING)


def test_machine_that_shut_itself_down_is_deallocated_by_stop(world: World, compute: AzureCompute) -> None:
    ids = compute.create(world.request("a"))
    await_states(compute, world, ids, MachineState.RUNNING)
    [group] = world.server.cloud.groups.values()
    group.vms["node-0"]["power"] = "stopped"
    [machine] = compute.describe(world.place, ids)
    assert machine.state is MachineState.RUNNING
    assert "bills" in machine.reason
    compute.stop(world.place, ids)
    await_states(compute, world, ids, MachineState.STOPPED)


def test_large_gang_is_described_by_lists_alone(world: World, compute: AzureCompute) -> None:
    ids = compute.create(world.request("a", 12))
    await_states(compute, world, ids, MachineState.RUNNING)
    world.server.routes.calls.clear()
    machines = compute.describe(world.place, ids)
    assert len({machine.address for machine in machines} | {m.public_address for m in machines}) == 24
    assert Counter(world.server.routes.calls)["Microsoft.Compute/virtualMachines/read"] == 2


def test_group_is_still_listed_when_somebody_took_its_count_away(world: World, compute: AzureCompute) -> None:
    ids = compute.create(world.request("a", 2))
    await_states(compute, world, ids, MachineState.RUNNING)
    [group] = world.server.cloud.groups.values()
    del group.tags["stix-azure-count"]
    assert {machine.id for machine in compute.list_tagged(world.place, "dep")} == set(ids)
    compute.terminate(world.place, ids[:1])
    world.settle()
    assert states(compute, world, ids) == [MachineState.TERMINATED, MachineState.RUNNING]


# --- rights ---


def test_role_allows_every_call_that_was_made_and_nothing_else(world: World, compute: AzureCompute) -> None:
    gallery = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/galleries/g/images/i/versions/1"
    compute.create(world.request("image", image="/subscriptions/s/resourceGroups/g/images/i"))
    compute.create(world.request("gallery", image=gallery))
    ids = compute.create(world.request("a", 2, ports=("80",)))
    await_states(compute, world, ids, MachineState.RUNNING)
    compute.stop(world.place, ids)
    await_states(compute, world, ids, MachineState.STOPPED)
    compute.start(world.place, ids)
    await_states(compute, world, ids, MachineState.RUNNING)
    list(compute.list_tagged(world.place, "dep"))
    compute.quotas(world.place)
    compute.identity()
    compute.terminate(world.place, ids[:1])
    world.settle()
    compute.terminate(world.place, ids)
    assert set(world.server.routes.calls) == set(role_actions())


def test_right_that_the_role_lacks_is_named(world: World, compute: AzureCompute) -> None:
    world.server.routes.allowed -= {"Microsoft.Network/publicIPAddresses/join/action"}
    with pytest.raises(CredentialsError, match="publicIPAddresses/join"):
        compute.create(world.request("a"))
    world.settle()
    assert world.leftovers() == []


# --- reaching Azure, quotas ---


def test_throttled_call_says_how_long_azure_wants_to_be_left_alone(
    world: World, compute: AzureCompute
) -> None:
    world.throttle(1)
    with pytest.raises(ThrottledError) as refusal:
        compute.create(world.request("a"))
    assert (refusal.value.retry_after, refusal.value.provider_code) == (7.0, "TooManyRequests")


def test_quotas_are_vcpus_of_families_and_of_all_spot_machines(world: World, compute: AzureCompute) -> None:
    quotas = {quota.family: quota for quota in compute.quotas(world.place)}
    assert {family: (quota.limit, quota.spot) for family, quota in quotas.items()} == {
        "lowprioritycores": (100, True),
        "standarddsv5family": (50, False),
        "standardncasv3t4family": (16, False),
        "standardncadsa100v4family": (0, False),
    }
    assert {(quota.used, quota.unit) for quota in quotas.values()} == {(4, "vcpus")}
    for offer in ({"instance_type": "Standard_NC4as_T4_v3"}, {"spot": True}):
        assert FACTS.quota_family(world.request("a", **offer).offer) in quotas


def test_endpoint_that_does_not_answer_is_unavailable(world: World) -> None:
    with pytest.raises(UnavailableError, match="cannot be reached"):
        world.compute(endpoint_url="https://127.0.0.1:9").identity()


def test_certificate_of_somebody_else_is_not_trusted(world: World) -> None:
    with pytest.raises((UnavailableError, CredentialsError), match=r"(?i)certificate"):
        world.compute(ca_file="").identity()


def test_service_principal_of_the_environment_is_used(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TENANT_ID", "CLIENT_ID", "CLIENT_SECRET"):
        monkeypatch.setenv(f"AZURE_{name}", world.server.config()[name.lower()])
    assert SUBSCRIPTION in world.compute(**NO_PRINCIPAL).identity()


def test_credentials_are_asked_for_when_there_are_none(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TENANT_ID", "CLIENT_ID", "CLIENT_SECRET"):
        monkeypatch.delenv(f"AZURE_{name}", raising=False)
    # Of all the ways the one that asks nobody.
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    with pytest.raises(CredentialsError, match="cannot be used") as refusal:
        world.compute(**NO_PRINCIPAL).identity()
    assert "stix check azure" in refusal.value.hint


def test_secret_that_entra_id_does_not_know_is_told(world: World) -> None:
    world.server.secret_is_wrong = True
    with pytest.raises(CredentialsError, match="Invalid client secret"):
        world.compute().identity()


def test_subscription_that_is_not_ours_is_a_matter_of_credentials(world: World) -> None:
    with pytest.raises(CredentialsError, match="SubscriptionNotFound"):
        world.compute(subscription_id="00000000-0000-0000-0000-000000000000").identity()
