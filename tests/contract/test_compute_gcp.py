"""What is Google Cloud's own: outcomes in operations, its network, accelerators, disks, images, tags."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stix.catalog.fetchers.gcp import ACCELERATORS
from stix.catalog.snapshot import snapshot_rows
from stix.clouds.bootstrap import MOST_BYTES
from stix.clouds.gcp.compute import GcpCompute
from stix.clouds.gcp.facts import FACTS, is_arm
from stix.clouds.gcp.shapes import disk_of
from stix.model.errors import (
    Blocks,
    InvalidRequestError,
    NoCapacityError,
    NotYetTerminatedError,
    ThrottledError,
)
from stix.ports.compute import MachineState
from tests.contract.compute_worlds import await_states
from tests.contract.world_gcp import REGION, World
from tests.providers.faults import Kind
from tests.providers.gcp.server import PROJECT

V100 = {"instance_type": "n1-standard-8+V100:2", "accelerator": "V100", "accelerator_count": 2}
A100 = {"instance_type": "a2-highgpu-1g", "accelerator": "A100", "accelerator_count": 1}
H100 = {"instance_type": "a3-highgpu-8g", "accelerator": "H100", "accelerator_count": 8}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


@pytest.fixture
def compute(world: World) -> GcpCompute:
    return world.compute()


def _asked(world: World) -> dict[str, Any]:
    """What the newest bulk insertion wanted of each machine."""
    properties: dict[str, Any] = world.server.bodies["bulkInsert"]["instanceProperties"]
    return properties


def _metadata(world: World) -> dict[str, str]:
    return {item["key"]: item["value"] for item in _asked(world)["metadata"]["items"]}


def _image(asked: dict[str, Any]) -> str:
    return str(asked["disks"][0]["initializeParams"]["sourceImage"])


# --- a gang and its operation ---


def test_gang_is_one_request_for_all_machines_in_any_one_zone(world: World, compute: GcpCompute) -> None:
    ids = compute.create(world.request("a", 3))
    body = world.server.bodies["bulkInsert"]
    assert (body["count"], body["minCount"], sorted(body["perInstanceProperties"])) == ("3", "3", ids)
    assert body["locationPolicy"] == {"targetShape": "ANY_SINGLE_ZONE"}
    machines = await_states(compute, world, ids, MachineState.RUNNING)
    assert len({machine.zone for machine in machines}) == 1
    assert world.server.calls.count("regionInstances.bulkInsert") == 1


def test_zone_of_the_offer_is_kept(world: World, compute: GcpCompute) -> None:
    (machine_id,) = compute.create(world.request("a", zone="us-central1-f"))
    assert compute.describe(world.place, [machine_id])[0].zone == "us-central1-f"
    assert "instances.bulkInsert" in world.server.calls
    with pytest.raises(NoCapacityError, match="us-central1-z"):
        compute.create(world.request("b", zone="us-central1-z"))


def test_operation_is_found_again_and_nothing_sent_when_the_token_is_known(
    world: World, compute: GcpCompute
) -> None:
    ids = compute.create(world.request("a", 2))
    (operation,) = world.server.state.operations('clientOperationId : "-"')
    await_states(compute, world, ids, MachineState.RUNNING)
    assert world.compute().create(world.request("a", 2)) == ids
    assert world.server.calls.count("regionInstances.bulkInsert") == 1
    assert operation[1]["operationType"] == "bulkInsert"


def test_refusal_is_told_again_and_nothing_sent_when_the_attempt_is_over(
    world: World, compute: GcpCompute
) -> None:
    world.refuse("ZONE_RESOURCE_POOL_EXHAUSTED", "The zone has no room.")
    ids = compute.create(world.request("a", ports=("80",)))
    assert compute.describe(world.place, ids)[0].state is MachineState.PENDING
    world.settle()
    (machine,) = compute.describe(world.place, ids)
    assert machine.state is MachineState.TERMINATED
    assert machine.reason == "The zone has no room (ZONE_RESOURCE_POOL_EXHAUSTED)."
    for _ in range(2):
        with pytest.raises(NoCapacityError, match="The zone has no room") as refused:
            world.compute().create(world.request("a", ports=("80",)))
        assert (refused.value.provider_code, refused.value.blocks) == (
            "ZONE_RESOURCE_POOL_EXHAUSTED",
            Blocks.OFFER,
        )
    assert world.server.calls.count("regionInstances.bulkInsert") == 1
    assert world.leftovers() == []


def test_machines_of_a_gang_that_is_still_being_made_are_awaited(world: World, compute: GcpCompute) -> None:
    world.server.faults.add(Kind.SLOW, "bulkInsert")
    request = world.request("a", 2)
    ids = compute.create(request)
    assert {machine.state for machine in compute.describe(world.place, ids)} == {MachineState.PENDING}
    with pytest.raises(NotYetTerminatedError):
        compute.release(world.place, request.token)
    await_states(compute, world, ids, MachineState.RUNNING)
    compute.release(world.place, request.token)


def test_machine_that_is_being_deleted_is_told_from_one_that_is_being_stopped(
    world: World, compute: GcpCompute
) -> None:
    ended, stopped = ids = compute.create(world.request("a", 2))
    await_states(compute, world, ids, MachineState.RUNNING)
    compute.terminate(world.place, [ended])
    compute.stop(world.place, [stopped])
    assert {one["status"] for one in world.server.state.machines.values()} == {"STOPPING"}
    states = [machine.state for machine in compute.describe(world.place, ids)]
    assert states == [MachineState.TERMINATING, MachineState.STOPPING]
    with pytest.raises(NotYetTerminatedError):
        compute.start(world.place, [stopped])


def test_preempted_machine_is_gone_with_googles_words(world: World, compute: GcpCompute) -> None:
    ids = compute.create(world.request("a", spot=True))
    await_states(compute, world, ids, MachineState.RUNNING)
    world.preempt(ids[0])
    assert compute.describe(world.place, ids)[0].state is MachineState.TERMINATING
    world.settle()
    (machine,) = world.compute().describe(world.place, ids)
    assert (machine.state, machine.preempted) == (MachineState.TERMINATED, True)
    assert "Instance was preempted" in machine.reason


def test_stop_gives_up_the_content_of_local_disks_alone(world: World, compute: GcpCompute) -> None:
    ids = compute.create(world.request("a", **H100))
    await_states(compute, world, ids, MachineState.RUNNING)
    disks = world.disks(ids[0])
    compute.stop(world.place, ids)
    await_states(compute, world, ids, MachineState.STOPPED)
    assert world.disks(ids[0]) == disks != set()


def test_spot_machine_can_be_stopped_and_started_again(world: World, compute: GcpCompute) -> None:
    assert FACTS.stops_spot
    ids = compute.create(world.request("a", spot=True))
    await_states(compute, world, ids, MachineState.RUNNING)
    compute.stop(world.place, ids)
    (stopped,) = await_states(compute, world, ids, MachineState.STOPPED)
    assert not stopped.preempted
    compute.start(world.place, ids)
    await_states(compute, world, ids, MachineState.RUNNING)


def test_stopped_machine_tells_since_when_until_it_runs_again(world: World, compute: GcpCompute) -> None:
    def ended_at() -> float:
        return compute.describe(world.place, ids)[0].ended_at

    ids = compute.create(world.request("a"))
    await_states(compute, world, ids, MachineState.RUNNING)
    assert ended_at() == 0.0
    for moment in (1_800_000_000.5, 1_800_000_700.0):
        world.server.state.now = lambda moment=moment: moment
        compute.stop(world.place, ids)
        # What it names meanwhile is the moment of the stop before.
        assert ended_at() == 0.0
        await_states(compute, world, ids, MachineState.STOPPED)
        assert ended_at() == moment
        compute.start(world.place, ids)
        await_states(compute, world, ids, MachineState.RUNNING)
        assert ended_at() == 0.0


# --- network ---


def test_network_is_made_once_and_lets_only_its_machines_in(world: World) -> None:
    for token in ("a", "b"):
        world.compute().create(world.request(token))
    assert list(world.server.state.networks) == ["stix-dep"]
    assert world.server.state.networks["stix-dep"]["autoCreateSubnetworks"] is True
    assert world.server.calls.count("networks.insert") == 1
    assert world.server.calls.count("firewalls.insert") == 1
    rule = world.server.state.firewalls["stix-dep-inside"]
    assert rule["allowed"] == [{"IPProtocol": "all"}]
    assert (rule["sourceTags"], rule["targetTags"]) == (["stix-dep"], ["stix-dep"])
    assert "sourceRanges" not in rule
    assert "stix-dep" in _asked(world)["tags"]["items"]


def test_create_says_wait_while_the_network_is_being_made(world: World, compute: GcpCompute) -> None:
    world.server.faults.add(Kind.SLOW, "networks.insert")
    for _ in range(2):
        with pytest.raises(ThrottledError) as wait:
            compute.create(world.request("a"))
        assert wait.value.retry_after > 0
    assert world.server.state.machines == {}
    world.settle()
    assert compute.create(world.request("a"))
    assert list(world.server.state.networks) == ["stix-dep"]


def test_named_network_is_used_and_never_made(world: World) -> None:
    compute = world.compute(network="corp", subnetworks={REGION: "gpus"}, public_addresses=False)
    with pytest.raises(InvalidRequestError, match="networks/corp"):
        compute.create(world.request("a"))
    assert world.server.state.networks == {}
    world.server.state.networks["corp"] = {"kind": "compute#network", "name": "corp"}
    compute.create(world.request("b"))
    (interface,) = _asked(world)["networkInterfaces"]
    assert interface == {
        "network": f"projects/{PROJECT}/global/networks/corp",
        "subnetwork": f"regions/{REGION}/subnetworks/gpus",
    }
    assert world.server.state.firewalls["stix-dep-inside"]["network"].endswith("/corp")


def test_machine_has_a_public_address_unless_the_settings_say_no(world: World, compute: GcpCompute) -> None:
    ids = compute.create(world.request("a"))
    (machine,) = await_states(compute, world, ids, MachineState.RUNNING)
    assert machine.public_address
    private = world.compute(public_addresses=False)
    ids = private.create(world.request("b"))
    (machine,) = await_states(private, world, ids, MachineState.RUNNING)
    assert not machine.public_address


def test_ports_are_open_to_the_world_and_closed_with_the_gang(world: World, compute: GcpCompute) -> None:
    request = world.request("a", ports=("8080", "9000-9010"))
    ids = compute.create(request)
    rule = world.server.state.firewalls[f"stix-{request.token}"]
    assert rule["allowed"] == [{"IPProtocol": "tcp", "ports": ["8080", "9000-9010"]}]
    assert (rule["sourceRanges"], rule["targetTags"]) == (["0.0.0.0/0"], [f"stix-{request.token}"])
    assert f"stix-{request.token}" in _asked(world)["tags"]["items"]
    compute.terminate(world.place, ids)
    world.settle()
    compute.release(world.place, request.token)
    assert world.leftovers() == []


# --- what is asked for ---


def test_spot_machine_is_deleted_when_it_is_taken(world: World, compute: GcpCompute) -> None:
    compute.create(world.request("a", spot=True))
    assert _asked(world)["scheduling"] == {
        "provisioningModel": "SPOT",
        "instanceTerminationAction": "DELETE",
        "onHostMaintenance": "TERMINATE",
        "automaticRestart": False,
    }
    compute.create(world.request("b"))
    assert not _asked(world).get("scheduling")


def test_accelerators_are_attached_to_n1_and_built_into_the_others(world: World, compute: GcpCompute) -> None:
    compute.create(world.request("n1", **V100))
    assert _asked(world)["machineType"] == "n1-standard-8"
    assert _asked(world)["guestAccelerators"] == [
        {"acceleratorType": "nvidia-tesla-v100", "acceleratorCount": 2}
    ]
    assert _asked(world)["scheduling"]["onHostMaintenance"] == "TERMINATE"
    compute.create(world.request("a2", **A100))
    assert _asked(world)["machineType"] == "a2-highgpu-1g"
    assert not _asked(world).get("guestAccelerators")
    assert _asked(world)["scheduling"]["onHostMaintenance"] == "TERMINATE"
    with pytest.raises(InvalidRequestError, match="H100 cannot be put into"):
        compute.create(world.request("no", **{**H100, "instance_type": "n1-standard-8"}))


def test_types_that_are_not_sold_on_demand_are_passed_over(world: World, compute: GcpCompute) -> None:
    shape = {**H100, "instance_type": "a3-highgpu-1g", "accelerator_count": 1}
    with pytest.raises(NoCapacityError, match="on demand"):
        compute.create(world.request("a", **shape, ports=("80",)))
    assert world.leftovers() == []
    assert compute.create(world.request("b", **shape, spot=True))


def test_every_kind_of_machine_in_the_catalog_can_be_asked_for(world: World, compute: GcpCompute) -> None:
    rows = [row for row in snapshot_rows() if row.cloud == "gcp"]
    kinds = {row.instance_type: row for row in rows}
    # None of them has the zones of a live catalog, and none the GPUs that N1 machines are given there.
    for name, count in (("P4", 1), ("P100", 1), ("T4", 4), ("V100", 8)):
        assert name in {known for known, _ in ACCELERATORS.values()}
        kind = f"n1-standard-16+{name}:{count}"
        kinds[kind] = replace(
            kinds["n1-standard-16"],
            instance_type=kind,
            zone=f"{REGION}-a",
            accelerator=name,
            accelerator_count=float(count),
        )
    compute.create(world.request("first"))
    for kind, row in kinds.items():
        for spot in (False, True):
            if (row.spot_price if spot else row.price) is None:
                continue
            offer = {"accelerator": row.accelerator, "accelerator_count": row.accelerator_count}
            request = world.request(f"{kind} {spot}", instance_type=kind, spot=spot, zone=row.zone, **offer)
            assert len(compute.create(request)) == 1
            asked = _asked(world)
            for given in asked.get("guestAccelerators", ()):
                assert ACCELERATORS[given["acceleratorType"]][0] == row.accelerator
                assert given["acceleratorCount"] == row.accelerator_count
            assert is_arm(kind) == (row.arch == "arm64") == ("arm64" in _image(asked))


@pytest.mark.parametrize(
    ("kind", "tier", "disk"),
    [
        ("n2-standard-2", "", {"disk_type": "pd-balanced"}),
        ("n2-standard-2", "low", {"disk_type": "pd-standard"}),
        ("n2-standard-2", "medium", {"disk_type": "pd-balanced"}),
        ("n2-standard-2", "best", {"disk_type": "pd-ssd"}),
        ("g2-standard-4", "low", {"disk_type": "pd-balanced"}),
        ("a3-highgpu-8g", "high", {"disk_type": "pd-ssd"}),
        ("c4a-standard-4", "low", {"disk_type": "hyperdisk-balanced"}),
        (
            "n4-standard-2",
            "high",
            {"disk_type": "hyperdisk-balanced", "provisioned_iops": 12000, "provisioned_throughput": 500},
        ),
    ],
)
def test_disk_is_what_tier_and_series_allow(kind: str, tier: str, disk: dict[str, Any]) -> None:
    assert disk_of(kind, tier, 256) == disk


def test_small_hyperdisk_is_as_fast_as_its_size_allows() -> None:
    speeds = [disk_of("n4-standard-2", "best", gib) for gib in (4, 20, 256)]
    assert [(one["provisioned_iops"], one["provisioned_throughput"]) for one in speeds] == [
        (3000, 750),
        (10000, 1000),
        (24000, 1000),
    ]


def test_disk_has_its_size_and_goes_with_its_machine(world: World, compute: GcpCompute) -> None:
    compute.create(world.request("a", disk_size_gib=77, disk_tier="high"))
    (disk,) = _asked(world)["disks"]
    assert (disk["boot"], disk["autoDelete"]) == (True, True)
    assert (disk["initializeParams"]["diskSizeGb"], disk["initializeParams"]["diskType"]) == ("77", "pd-ssd")
    assert disk["initializeParams"]["labels"]["stix-deployment"] == "dep"


@pytest.mark.parametrize(
    ("changes", "settings", "image"),
    [
        ({}, {}, "debian-12"),
        ({"instance_type": "t2a-standard-2"}, {}, "debian-12-arm64"),
        (A100, {}, "ubuntu-accelerator-2404-amd64-with-nvidia-580"),
        ({"image": "docker:python:3.12"}, {}, "debian-12"),
        ({"image": "projects/me/global/images/mine"}, {"image": "projects/me/global/images/x"}, "mine"),
        ({}, {"image": "projects/me/global/images/ours"}, "ours"),
        (A100, {"accelerated_image": "projects/me/global/images/fast"}, "fast"),
    ],
)
def test_image_is_the_tasks_or_the_settings_or_fits_the_machine(
    world: World, changes: dict[str, Any], settings: dict[str, Any], image: str
) -> None:
    world.compute(**settings).create(world.request("a", **changes))
    (disk,) = _asked(world)["disks"]
    assert disk["initializeParams"]["sourceImage"].rpartition("/")[2] == image


def test_image_of_another_cloud_is_refused_by_name(world: World, compute: GcpCompute) -> None:
    with pytest.raises(InvalidRequestError, match=r"resources\.image_id: 'ami-1'"):
        compute.create(world.request("a", image="ami-1", ports=("80",)))
    assert world.leftovers() == []


def test_machine_boots_the_agent_that_it_was_given(world: World, compute: GcpCompute) -> None:
    compute.create(world.request("a"))
    script = _metadata(world)["startup-script"]
    assert script.startswith("#!/bin/sh\n")
    assert f"sha={'f' * 64}" in script
    assert "cloud=gcp" in script
    # Compute Engine takes 256 KiB in one item.
    assert len(script.encode()) <= MOST_BYTES < 256 * 1024


def test_tags_that_are_no_labels_are_kept_beside_them(world: World, compute: GcpCompute) -> None:
    tags = {"Owner": "Zoë", "team": "ml", "note": "two words", "long": "x" * 64}
    request = world.request("a", tags=tags)
    ids = compute.create(request)
    labels = _asked(world)["labels"]
    assert labels["team"] == "ml"
    assert not {"Owner", "note", "long"} & labels.keys()
    assert (labels["stix-token"], labels["stix-size"]) == (request.token, "1")
    assert dict(compute.describe(world.place, ids)[0].tags) == dict(request.tags)


def test_deployment_whose_name_is_no_label_finds_its_machines(world: World) -> None:
    compute = world.compute(deployment="Stix.Prod")
    ids = compute.create(world.request("a", deployment="Stix.Prod"))
    assert [machine.id for machine in compute.list_tagged(world.place, "Stix.Prod")] == ids
    (name,) = world.server.state.networks
    assert name.startswith("stix-")


def test_machines_act_as_nobody_unless_the_settings_say_who(world: World, compute: GcpCompute) -> None:
    compute.create(world.request("a"))
    assert not _asked(world).get("serviceAccounts")
    world.compute(service_account="me@x.iam.gserviceaccount.com").create(world.request("b"))
    (account,) = _asked(world)["serviceAccounts"]
    assert account["email"] == "me@x.iam.gserviceaccount.com"
