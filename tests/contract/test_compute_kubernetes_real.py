"""What only a real control plane shows: where pods go, who takes them, what becomes of what they own.

The adapter reaches the API server as it does at a user's: by TLS, with the token of a service account that is
bound to ``role.yaml``. The kubelets are the test's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from stix.clouds.kubernetes.compute import KubernetesCompute
from stix.clouds.kubernetes.manifests import pod, secret, service
from stix.clouds.kubernetes.settings import KubernetesCloud
from stix.model.errors import NoCapacityError
from stix.ports.compute import Machine, MachineState
from tests.contract.world_kubernetes_real import World
from tests.substrate.kubernetes.control_plane import ControlPlane

pytestmark = pytest.mark.kubernetes
A100 = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB"}
T4 = {"nvidia.com/gpu.product": "Tesla-T4"}


@pytest.fixture
def world(control_plane: ControlPlane) -> Iterator[World]:
    world = World(control_plane)
    yield world
    world.close()


@pytest.fixture
def compute(world: World) -> KubernetesCompute:
    return world.direct()


# --- where pods go ---


def test_pods_go_to_nodes_with_so_many_gpus_of_that_product(compute: KubernetesCompute, world: World) -> None:
    world.tenant.add_node("half", cpu="32", memory="128Gi", gpus=4, labels=A100)
    world.tenant.add_node("other", cpu="32", memory="128Gi", gpus=8, labels=T4)
    (eight,) = world.running(compute, world.request("a", accelerator="A100", accelerator_count=8))
    (four,) = world.running(compute, world.request("b", accelerator="A100", accelerator_count=4))
    (t4,) = world.running(compute, world.request("c", accelerator="T4", accelerator_count=4))
    assert [world.node_of(name) for name in (eight, four, t4)] == ["gpu", "half", "other"]


def test_refusal_has_the_schedulers_words_when_gpus_are_used_up(
    compute: KubernetesCompute, world: World
) -> None:
    world.running(compute, world.request("a", accelerator="A100", accelerator_count=8))
    error = world.refusal(compute, world.request("b", accelerator="A100", accelerator_count=8))
    assert isinstance(error, NoCapacityError)
    assert error.provider_code == "Unschedulable"
    assert re.search(r"0/3 nodes are available: .*1 Insufficient nvidia.com/gpu", error.message)


def test_refusal_leaves_the_first_gang_alone_when_the_second_does_not_fit(
    compute: KubernetesCompute, world: World
) -> None:
    ids = world.running(compute, world.request("a", 2, vcpus=60))
    assert isinstance(world.refusal(compute, world.request("b", 2, vcpus=60)), NoCapacityError)
    world.settle()
    assert {machine.id for machine in compute.list_tagged(world.place, "dep")} == set(ids)


def test_taint_keeps_pods_off_and_its_node_out_of_the_offers(
    compute: KubernetesCompute, world: World
) -> None:
    taint = {"key": "team", "value": "other", "effect": "NoSchedule"}
    world.tenant.add_node("theirs", cpu="96", memory="512Gi", taints=[taint])
    assert 96 not in {offer.vcpus for offer in compute.offers()}
    error = world.refusal(compute, world.request("a", vcpus=80))
    assert isinstance(error, NoCapacityError)
    assert "1 node(s) had taint {team: other}" in error.message


@pytest.mark.parametrize("key", ["cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority"])
def test_spot_pods_go_to_spot_nodes_that_have_the_clouds_taint(
    compute: KubernetesCompute, world: World, key: str
) -> None:
    value = "true" if key.endswith("gke-spot") else "spot"
    taint = {"key": key, "value": value, "effect": "NoSchedule"}
    world.tenant.add_node("hosted", cpu="96", memory="512Gi", labels={key: value}, taints=[taint])
    (offer,) = [offer for offer in compute.offers() if offer.vcpus == 96]
    assert offer.spot
    (name,) = world.running(compute, world.request("a", spot=True, vcpus=90))
    assert world.node_of(name) == "hosted"


def test_offers_are_the_nodes_as_they_are(compute: KubernetesCompute, world: World) -> None:
    zone = {"topology.kubernetes.io/zone": "z1"}
    world.tenant.add_node("zoned", cpu="3920m", memory="16393228Ki", labels=zone)
    found = {
        (o.vcpus, o.memory_gib, o.zone, o.spot, o.accelerator, o.accelerator_count) for o in compute.offers()
    }
    assert found == {
        (64, 256, "", False, "", 0),
        (64, 256, "", True, "", 0),
        (32, 128, "", False, "A100", 8),
        (3.92, 15.6, "z1", False, "", 0),
    }
    (name,) = world.running(compute, world.request("a", zone="z1", vcpus=3.92, memory_gib=15.6))
    assert world.node_of(name) == "zoned"


# --- what the autoscaler says ---


def test_autoscalers_events_decide_whether_a_pod_waits(world: World) -> None:
    world.capacity(0)
    patient = world.direct(pending_seconds=600)
    ids = patient.create(world.request("a"))
    world.settle()
    assert [m.state for m in patient.describe(world.place, ids)] == [MachineState.PENDING]
    world.tenant.tell(ids[0], "TriggeredScaleUp")
    assert [m.state for m in world.direct().describe(world.place, ids)] == [MachineState.PENDING]
    # Its word on another pod is none on this one.
    others = patient.create(world.request("b"))
    world.settle()
    world.tenant.tell(others[0], "NotTriggerScaleUp")
    (machine,) = patient.describe(world.place, others)
    assert machine.reason.startswith("NotTriggerScaleUp: 0/3 nodes are available")
    with pytest.raises(NoCapacityError):
        patient.create(world.request("b"))


# --- pods that somebody else ends ---


def _one(compute: KubernetesCompute, world: World, name: str) -> Machine:
    (machine,) = compute.describe(world.place, [name])
    return machine


def test_preemption_by_the_scheduler_is_seen_while_the_pod_ends_and_after(
    compute: KubernetesCompute, world: World
) -> None:
    (name,) = world.running(compute, world.request("a", spot=True))
    world.preempt(name)
    world.tenant.until(lambda: _one(compute, world, name).preempted, "the scheduler's event is there")
    ending = _one(compute, world, name)
    assert ending.state is MachineState.TERMINATING
    assert ending.reason.startswith("Preempted: Preempted by")
    world.settle()
    ended = _one(compute, world, name)
    assert (ended.state, ended.preempted, ended.reason) == (MachineState.TERMINATED, True, ending.reason)


def test_own_end_is_no_preemption(compute: KubernetesCompute, world: World) -> None:
    (name,) = world.running(compute, world.request("a"))
    compute.terminate(world.place, [name])
    assert (_one(compute, world, name).state, _one(compute, world, name).preempted) == (
        MachineState.TERMINATING,
        False,
    )
    world.settle()
    assert (_one(compute, world, name).state, _one(compute, world, name).preempted) == (
        MachineState.TERMINATED,
        False,
    )


def test_pod_of_a_lost_node_is_taken(compute: KubernetesCompute, world: World) -> None:
    (name,) = world.running(compute, world.request("a", accelerator="A100", accelerator_count=1))
    world.tenant.lose_node("gpu")
    world.tenant.until(lambda: _one(compute, world, name).preempted, "the controller takes the pod")
    machine = _one(compute, world, name)
    assert machine.state is MachineState.TERMINATING
    assert machine.reason.startswith("TaintManagerEviction: Marking for deletion Pod")
    assert "A100" not in {offer.accelerator for offer in compute.offers()}


# --- what a gang holds ---


def test_service_is_collected_by_the_cluster_when_its_last_pod_is_gone(
    compute: KubernetesCompute, world: World
) -> None:
    request = world.request("a", 2, ports=("8080", "9000-9002"))
    first, second = world.running(compute, request)
    name = f"stix-{request.token}"
    ports = [port["port"] for port in world.tenant.objects("services")[name]["spec"]["ports"]]
    assert ports == [8080, 9000, 9001, 9002]
    compute.terminate(world.place, [first])
    world.settle()
    assert set(world.tenant.objects("pods")) == {second}
    assert name in world.tenant.objects("services")
    compute.terminate(world.place, [second])
    world.settle()
    world.tenant.until(lambda: name not in world.tenant.objects("services"), "the service is collected")
    assert world.leftovers() == [f"secrets/{name}"]
    compute.release(world.place, request.token)
    assert world.leftovers() == []


def test_server_keeps_every_field_that_is_sent(compute: KubernetesCompute, world: World) -> None:
    """It drops what it does not know without a word."""
    request = world.request(
        "a", ports=("80",), accelerator="A100", accelerator_count=1, spot=False, disk_size_gib=10
    )
    (name,) = world.running(compute, request)
    settings = KubernetesCloud()
    gang = f"stix-{request.token}"
    found = world.tenant.objects("pods")[name]
    models = {"nvidia.com/gpu.product": [A100["nvidia.com/gpu.product"]]}
    _within(pod(request, name, settings, gpu="nvidia.com/gpu", models=models), found)
    uids = {name: found["metadata"]["uid"]}
    _within(service(request, settings.service_type, uids), world.tenant.objects("services")[gang])
    sent = secret(request, "kubernetes")
    kept = world.tenant.objects("secrets")[gang]
    assert set(sent.pop("stringData")) == set(kept["data"])
    _within(sent, kept)


def _within(sent: Any, kept: Any, path: str = "") -> None:
    """Quantities are written in another way; all else is kept as it is, and more is filled in."""
    if isinstance(sent, dict):
        assert set(sent) <= set(kept), path
        for key, value in sent.items():
            _within(value, kept[key], f"{path}.{key}")
    elif isinstance(sent, list):
        assert len(sent) <= len(kept), path
        for number, (one, other) in enumerate(zip(sent, kept, strict=False)):
            _within(one, other, f"{path}[{number}]")
    elif ".resources." not in path:
        assert sent == kept, path


def test_list_of_250_pods_comes_in_pages_of_the_servers(world: World) -> None:
    world.add_machines(250, deployment="dep")
    world.front.page_size = None
    compute = world.compute()
    before = world.front.calls.count("list pods")
    assert len({machine.id for machine in compute.list_tagged(world.place, "dep")}) == 250
    assert world.front.calls.count("list pods") - before == 2
