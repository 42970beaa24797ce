"""What only a real control plane shows: the scheduler's words, quotas, rights, preemption, owners.

The adapter reaches the API server as it does at a user's: by TLS, with the token of a service account that is
bound to ``role.yaml``. The kubelets are the test's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stix.adapters.system import SystemClock
from stix.clouds.kubernetes.compute import KubernetesCompute, connect
from stix.clouds.kubernetes.manifests import pod, secret, service
from stix.clouds.kubernetes.settings import KubernetesCloud
from stix.model.errors import (
    CredentialsError,
    InvalidRequestError,
    NoCapacityError,
    ProviderError,
    QuotaExceededError,
    StixError,
)
from stix.ports.compute import GangRequest, Machine, MachineState
from tests.contract.world_kubernetes_real import World
from tests.substrate.kubernetes.control_plane import ControlPlane
from tests.substrate.kubernetes.tenant import role

pytestmark = pytest.mark.kubernetes
A100 = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB"}
T4 = {"nvidia.com/gpu.product": "Tesla-T4"}


@pytest.fixture
def world(control_plane: ControlPlane) -> Iterator[World]:
    world = World(control_plane)
    yield world
    world.close()


@pytest.fixture
def connected(world: World) -> Callable[..., KubernetesCompute]:
    """The adapter, straight to the API server."""

    def make(**settings: Any) -> KubernetesCompute:
        config = {"kubeconfig": world.tenant.kubeconfig(), "pending_seconds": 0, **settings}
        return connect(config, deployment="dep", clock=SystemClock())

    return make


@pytest.fixture
def compute(connected: Callable[..., KubernetesCompute]) -> KubernetesCompute:
    return connected()


def _refused(compute: KubernetesCompute, world: World, request: GangRequest) -> ProviderError:
    """A pod is accepted first: the scheduler's word is there when the same call comes again."""
    try:
        compute.create(request)
        world.settle()
        compute.create(request)
    except ProviderError as error:
        return error
    raise AssertionError("nothing was refused")


def _node_of(world: World, pod: str) -> str:
    return str(world.tenant.objects("pods")[pod]["spec"].get("nodeName"))


def _running(compute: KubernetesCompute, world: World, request: GangRequest) -> list[str]:
    ids = compute.create(request)
    world.settle()
    assert {machine.state for machine in compute.describe(world.place, ids)} == {MachineState.RUNNING}
    return ids


# --- where pods go ---


def test_pods_go_to_nodes_with_so_many_gpus_of_that_product(compute: KubernetesCompute, world: World) -> None:
    world.tenant.add_node("half", cpu="32", memory="128Gi", gpus=4, labels=A100)
    world.tenant.add_node("other", cpu="32", memory="128Gi", gpus=8, labels=T4)
    (eight,) = _running(compute, world, world.request("a", accelerator="A100", accelerator_count=8))
    (four,) = _running(compute, world, world.request("b", accelerator="A100", accelerator_count=4))
    (t4,) = _running(compute, world, world.request("c", accelerator="T4", accelerator_count=4))
    assert [_node_of(world, name) for name in (eight, four, t4)] == ["gpu", "half", "other"]


def test_refusal_has_the_schedulers_words_when_gpus_are_used_up(
    compute: KubernetesCompute, world: World
) -> None:
    _running(compute, world, world.request("a", accelerator="A100", accelerator_count=8))
    error = _refused(compute, world, world.request("b", accelerator="A100", accelerator_count=8))
    assert isinstance(error, NoCapacityError)
    assert error.provider_code == "Unschedulable"
    assert re.search(r"0/3 nodes are available: .*1 Insufficient nvidia.com/gpu", error.message)


def test_refusal_leaves_the_first_gang_alone_when_the_second_does_not_fit(
    compute: KubernetesCompute, world: World
) -> None:
    ids = _running(compute, world, world.request("a", 2, vcpus=60))
    assert isinstance(_refused(compute, world, world.request("b", 2, vcpus=60)), NoCapacityError)
    world.settle()
    assert {machine.id for machine in compute.list_tagged(world.place, "dep")} == set(ids)


def test_taint_keeps_pods_off_and_its_node_out_of_the_offers(
    compute: KubernetesCompute, world: World
) -> None:
    taint = {"key": "team", "value": "other", "effect": "NoSchedule"}
    world.tenant.add_node("theirs", cpu="96", memory="512Gi", taints=[taint])
    assert 96 not in {offer.vcpus for offer in compute.offers()}
    error = _refused(compute, world, world.request("a", vcpus=80))
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
    (name,) = _running(compute, world, world.request("a", spot=True, vcpus=90))
    assert _node_of(world, name) == "hosted"


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
    (name,) = _running(compute, world, world.request("a", zone="z1", vcpus=3.92, memory_gib=15.6))
    assert _node_of(world, name) == "zoned"


# --- what the autoscaler says ---


def test_autoscalers_events_decide_whether_a_pod_waits(
    connected: Callable[..., KubernetesCompute], world: World
) -> None:
    world.capacity(0)
    patient = connected(pending_seconds=600)
    ids = patient.create(world.request("a"))
    world.settle()
    assert [m.state for m in patient.describe(world.place, ids)] == [MachineState.PENDING]
    world.tenant.tell(ids[0], "TriggeredScaleUp")
    assert [m.state for m in connected().describe(world.place, ids)] == [MachineState.PENDING]
    # Its word on another pod is none on this one.
    others = patient.create(world.request("b"))
    world.settle()
    world.tenant.tell(others[0], "NotTriggerScaleUp")
    (machine,) = patient.describe(world.place, others)
    assert machine.reason.startswith("NotTriggerScaleUp: 0/3 nodes are available")
    with pytest.raises(NoCapacityError):
        patient.create(world.request("b"))


# --- limits of a namespace ---


def test_quota_of_gpus_is_a_quota_with_the_servers_words(compute: KubernetesCompute, world: World) -> None:
    world.tenant.limit("gpus", **{"requests.nvidia.com/gpu": "4"})
    with pytest.raises(
        QuotaExceededError, match=r"exceeded quota: gpus, requested: requests.nvidia.com/gpu=8"
    ):
        compute.create(world.request("a", accelerator="A100", accelerator_count=8))
    assert world.leftovers() == []


def test_nothing_is_left_when_the_quota_ends_in_the_middle_of_a_gang(
    compute: KubernetesCompute, world: World
) -> None:
    world.tenant.limit("pods", pods="2")
    with pytest.raises(QuotaExceededError, match=r"exceeded quota: pods"):
        compute.create(world.request("a", 3))
    world.settle()
    assert world.leftovers() == []


@pytest.mark.parametrize("limits", [{"memory": "1Gi"}, {"memory": "1Gi", "nvidia.com/gpu": "1"}])
def test_limit_range_is_a_quota(compute: KubernetesCompute, world: World, limits: dict[str, str]) -> None:
    item = {"type": "Container", "max": limits}
    world.tenant.make("limitranges", {"metadata": {"name": "most"}, "spec": {"limits": [item]}})
    request = world.request("a", memory_gib=4, accelerator="A100", accelerator_count=2)

    def refused() -> StixError | None:
        try:
            compute.create(request)
        except StixError as error:
            return error
        return None

    # The API server hears of a new LimitRange a moment later.
    world.tenant.until(refused, "the limit is in force")
    error = refused()
    assert isinstance(error, QuotaExceededError)
    assert "maximum memory usage per Container is 1Gi" in error.message


# --- who may do what ---


@pytest.mark.parametrize(
    ("verb", "resource"),
    [(verb, rule["resources"][0]) for one in role() for rule in one["rules"] for verb in rule["verbs"]],
)
def test_missing_right_is_named_and_none_of_the_role_is_superfluous(
    compute: KubernetesCompute, world: World, verb: str, resource: str
) -> None:
    world.tenant.withdraw(verb, resource)
    words = rf"cannot {verb} resource .{resource}."
    with pytest.raises(CredentialsError, match=words) as refused:
        _everything(compute, world)
    assert refused.value.provider_code == "Forbidden"
    assert "docs/clouds/kubernetes.md" in refused.value.hint


def _everything(compute: KubernetesCompute, world: World) -> None:
    request = world.request("a", 2, ports=("80",), accelerator="A100", accelerator_count=1)
    ids = _running(compute, world, request)
    list(compute.list_tagged(world.place, "dep"))
    compute.terminate(world.place, ids)
    compute.describe(world.place, ids)
    world.settle()
    compute.release(world.place, request.token)
    compute.offers()


def test_role_is_enough_for_everything(compute: KubernetesCompute, world: World) -> None:
    _everything(compute, world)
    assert world.leftovers() == []


def test_identity_asks_the_server_whether_pods_may_be_made(compute: KubernetesCompute, world: World) -> None:
    assert compute.identity() == f"lab (namespace {world.tenant.namespace})"
    world.tenant.withdraw("create", "pods")
    with pytest.raises(CredentialsError, match=f"namespace {world.tenant.namespace} of lab"):
        compute.identity()


def test_token_that_the_server_does_not_know_is_said_so(
    connected: Callable[..., KubernetesCompute], world: World
) -> None:
    config = world.tenant.kubeconfig()
    config["users"][0]["user"]["token"] = "expired"
    with pytest.raises(CredentialsError, match="Unauthorized") as refused:
        connected(kubeconfig=config).create(world.request("a"))
    assert refused.value.provider_code == "Unauthorized"


def test_namespace_that_is_not_there_is_named(
    connected: Callable[..., KubernetesCompute], world: World, control_plane: ControlPlane
) -> None:
    admin = connected(kubeconfig=control_plane.kubeconfig(), namespace="nowhere")
    with pytest.raises(InvalidRequestError, match='namespaces "nowhere" not found') as refused:
        admin.create(world.request("a"))
    assert "clouds.kubernetes.namespace" in refused.value.hint


def test_what_the_server_finds_invalid_is_said_with_its_words(
    compute: KubernetesCompute, world: World
) -> None:
    with pytest.raises(InvalidRequestError, match=r"spec.containers\[0\].resources.*must be an integer"):
        compute.create(world.request("a", accelerator="A100", accelerator_count=0.5))
    assert world.leftovers() == []


def test_account_of_the_pods_that_is_not_there_is_no_missing_right(
    connected: Callable[..., KubernetesCompute], world: World
) -> None:
    with pytest.raises(InvalidRequestError, match='serviceaccount "nobody" not found') as refused:
        connected(service_account="nobody").create(world.request("a"))
    assert "ask its owner" in refused.value.hint


def test_pods_have_the_account_of_the_settings(
    connected: Callable[..., KubernetesCompute], world: World
) -> None:
    (name,) = connected(service_account="stix").create(world.request("a"))
    assert world.tenant.objects("pods")[name]["spec"]["serviceAccountName"] == "stix"


# --- pods that somebody else ends ---


def _one(compute: KubernetesCompute, world: World, name: str) -> Machine:
    (machine,) = compute.describe(world.place, [name])
    return machine


def test_preemption_by_the_scheduler_is_seen_while_the_pod_ends_and_after(
    compute: KubernetesCompute, world: World
) -> None:
    (name,) = _running(compute, world, world.request("a", spot=True))
    world.preempt(name)
    world.tenant.until(lambda: _one(compute, world, name).preempted, "the scheduler's event is there")
    ending = _one(compute, world, name)
    assert ending.state is MachineState.TERMINATING
    assert ending.reason.startswith("Preempted: Preempted by")
    world.settle()
    ended = _one(compute, world, name)
    assert (ended.state, ended.preempted, ended.reason) == (MachineState.TERMINATED, True, ending.reason)


def test_own_end_is_no_preemption(compute: KubernetesCompute, world: World) -> None:
    (name,) = _running(compute, world, world.request("a"))
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
    (name,) = _running(compute, world, world.request("a", accelerator="A100", accelerator_count=1))
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
    first, second = _running(compute, world, request)
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
    (name,) = _running(compute, world, request)
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
