"""What is Kubernetes' own: offers from nodes, GPUs by label, autoscalers, services, rights, images."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
import yaml

from stix.adapters.system import SystemClock
from stix.clouds.kubernetes.compute import connect
from stix.clouds.kubernetes.errors import refusal
from stix.clouds.kubernetes.facts import FACTS
from stix.clouds.registry import check_config
from stix.model.errors import (
    CredentialsError,
    InvalidInputError,
    InvalidRequestError,
    NoCapacityError,
    NotYetTerminatedError,
    QuotaExceededError,
    UnavailableError,
)
from stix.ports.compute import MachineState
from tests.contract.world_kubernetes import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def test_offers_are_what_single_nodes_can_give(world: World) -> None:
    offers = {(o.vcpus, o.spot, o.accelerator, o.accelerator_count) for o in world.compute().offers()}
    assert offers == {(64, False, "", 0), (64, True, "", 0), (32, False, "A100", 8)}
    assert all(offer.elastic and offer.price == 0 for offer in world.compute().offers())


def test_pod_gets_its_gpus_on_a_node_of_that_kind(world: World) -> None:
    other = {"nvidia.com/gpu.product": "Tesla-T4"}
    world.server.add_node("aaa-other", cpu="32", memory="128Gi", gpus=8, labels=other)
    compute = world.compute()
    (name,) = compute.create(world.request("a", accelerator="A100", accelerator_count=4))
    spec = world.server.objects["pods"][name]["spec"]
    assert spec["nodeName"] == "gpu"
    asked = spec["containers"][0]["resources"]
    assert asked["limits"]["nvidia.com/gpu"] == asked["requests"]["nvidia.com/gpu"] == "4"


def test_create_says_so_when_no_node_has_the_accelerator(world: World) -> None:
    with pytest.raises(NoCapacityError, match="H100"):
        world.compute().create(world.request("a", accelerator="H100", accelerator_count=1))
    assert world.leftovers() == []


def test_spot_pod_goes_to_a_spot_node(world: World) -> None:
    (name,) = world.compute().create(world.request("a", spot=True))
    assert world.server.objects["pods"][name]["spec"]["nodeName"] == "spot"


def test_pod_waits_when_the_autoscaler_brings_a_node(world: World) -> None:
    world.capacity(0)
    compute = world.compute(pending_seconds=60)
    ids = compute.create(world.request("a"))
    assert [m.state for m in compute.describe(world.place, ids)] == [MachineState.PENDING]
    impatient = world.compute(pending_seconds=0)
    (refused,) = impatient.describe(world.place, ids)
    assert (refused.state, refused.reason.split(":")[0]) == (MachineState.TERMINATING, "Unschedulable")
    world.server.event(ids[0], "TriggeredScaleUp")
    assert [m.state for m in impatient.describe(world.place, ids)] == [MachineState.PENDING]


def test_pod_is_refused_at_once_when_the_autoscaler_cannot_help(world: World) -> None:
    world.capacity(0)
    compute = world.compute(pending_seconds=600)
    ids = compute.create(world.request("a"))
    world.server.event(ids[0], "NotTriggerScaleUp")
    (machine,) = compute.describe(world.place, ids)
    assert machine.reason.startswith("NotTriggerScaleUp: ")
    with pytest.raises(NoCapacityError):
        compute.create(world.request("a"))


def test_quota_of_a_namespace_is_a_quota(world: World) -> None:
    world.refuse("ExceededQuota")
    with pytest.raises(QuotaExceededError, match="exceeded quota") as refused:
        world.compute().create(world.request("a"))
    assert "owner of the namespace" in refused.value.hint


@pytest.mark.parametrize(
    "words",
    [
        "maximum memory usage per Container is 1Gi, but limit is 4Gi",
        "[maximum memory usage per Container is 1Gi, but limit is 4Gi, maximum cpu usage per Pod is 1, ...]",
        "memory max limit to request ratio per Container is 1, but provided ratio is 2.000000",
    ],
)
def test_limit_range_is_a_quota(words: str) -> None:
    assert isinstance(refusal("Forbidden", f'pods "p" is forbidden: {words}'), QuotaExceededError)


def test_rule_of_the_cluster_is_no_missing_right(world: World) -> None:
    world.refuse("Denied")
    with pytest.raises(InvalidRequestError, match='serviceaccount "x" not found') as refused:
        world.compute().create(world.request("a"))
    assert "role" not in refused.value.hint


def test_spot_node_with_the_clouds_taint_is_offered_and_used(world: World) -> None:
    labels = {"kubernetes.azure.com/scalesetpriority": "spot"}
    (taint,) = ({"key": key, "value": value, "effect": "NoSchedule"} for key, value in labels.items())
    world.server.add_node("aks", cpu="96", memory="512Gi", labels=labels, taints=[taint])
    (offer,) = [offer for offer in world.compute().offers() if offer.vcpus == 96]
    assert offer.spot
    (name,) = world.compute().create(world.request("a", spot=True, vcpus=90))
    assert world.server.objects["pods"][name]["spec"]["nodeName"] == "aks"


def test_preemption_is_told_by_the_schedulers_event_while_the_pod_ends_and_after(world: World) -> None:
    compute = world.compute()
    first, second = ids = compute.create(world.request("a", 2))
    world.settle()
    world.server.take(first)
    compute.terminate(world.place, [second])
    for state in (MachineState.TERMINATING, MachineState.TERMINATED):
        taken, own = compute.describe(world.place, ids)
        assert (taken.state, taken.preempted, own.state, own.preempted) == (state, True, state, False)
        assert taken.reason == "Preempted: Preempted by team/urgent on node big"
        world.settle()


def test_pod_is_not_taken_when_its_node_came_back(world: World) -> None:
    compute = world.compute()
    ids = compute.create(world.request("a"))
    world.settle()
    for words in ("Marking for deletion Pod team/p", "Cancelling deletion of Pod team/p"):
        world.server.event(ids[0], "TaintManagerEviction", words)
    compute.terminate(world.place, ids)
    assert not compute.describe(world.place, ids)[0].preempted


def test_release_deletes_the_service_while_pods_still_end(world: World) -> None:
    compute = world.compute()
    request = world.request("a", ports=("8080",))
    compute.create(request)
    world.settle()
    with pytest.raises(NotYetTerminatedError):
        compute.release(world.place, request.token)
    assert world.server.objects["services"] == {}
    world.settle()
    compute.release(world.place, request.token)
    assert world.leftovers() == []


def test_service_goes_with_its_pods_when_nobody_releases_it(world: World) -> None:
    compute = world.compute()
    ids = compute.create(world.request("a", 2, ports=("8080", "9000-9002")))
    (service,) = world.server.objects["services"].values()
    assert [port["port"] for port in service["spec"]["ports"]] == [8080, 9000, 9001, 9002]
    compute.terminate(world.place, ids)
    world.settle()
    assert world.server.objects["services"] == {}


def test_too_many_ports_are_refused_by_name(world: World) -> None:
    with pytest.raises(InvalidRequestError, match="1001 ports are asked"):
        world.compute().create(world.request("a", ports=("1000-2000",)))
    assert world.leftovers() == []


def test_image_is_the_tasks_or_the_settings(world: World) -> None:
    compute = world.compute(image="registry.example/base:1")
    (plain,) = compute.create(world.request("a"))
    (own,) = compute.create(world.request("b", image="docker:me/mine:2"))
    images = [world.server.objects["pods"][name]["spec"]["containers"][0]["image"] for name in (plain, own)]
    assert images == ["registry.example/base:1", "me/mine:2"]


def test_role_allows_every_call_that_is_made_and_no_other(world: World) -> None:
    compute = world.compute()
    request = world.request("a", 2, ports=("80",), accelerator="A100", accelerator_count=1)
    ids = compute.create(request)
    world.capacity(0)
    compute.describe(world.place, ids)
    list(compute.list_tagged(world.place, "dep"))
    with pytest.raises(NoCapacityError):
        compute.create(world.request("full"))
    compute.terminate(world.place, ids)
    world.settle()
    compute.release(world.place, request.token)
    compute.offers()
    text = resources.files("stix.clouds.kubernetes").joinpath("role.yaml").read_text(encoding="utf-8")
    allowed = {
        f"{verb} {resource}"
        for role in yaml.safe_load_all(text)
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert set(world.server.calls) == allowed


def test_identity_is_refused_with_the_namespace_when_pods_may_not_be_made(world: World) -> None:
    assert world.compute().identity() == "lab (namespace team)"
    world.server.may_create = False
    with pytest.raises(CredentialsError, match="namespace team of lab"):
        world.compute().identity()


def test_context_that_is_not_named_is_refused(world: World) -> None:
    with pytest.raises(InvalidRequestError, match="'elsewhere' may not be used"):
        world.compute().create(world.request("a", region="elsewhere"))


def test_cluster_that_does_not_answer_is_unavailable(world: World) -> None:
    config = world.server.kubeconfig()
    config["clusters"][0]["cluster"]["server"] = "http://127.0.0.1:9"
    compute = connect({"kubeconfig": config}, deployment="dep", clock=SystemClock())
    with pytest.raises(UnavailableError, match="cannot be reached"):
        compute.offers()


def test_kubeconfig_file_and_its_current_context_are_used(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(world.server.kubeconfig("here")))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    compute = connect({}, deployment="dep", clock=SystemClock())
    assert {offer.region for offer in compute.offers()} == {"here"}


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"namespaces": "x"}, "clouds.kubernetes.namespaces"),
        ({"service_type": "Ingress"}, "clouds.kubernetes.service_type"),
        ({"pending_seconds": -1}, "clouds.kubernetes.pending_seconds"),
    ],
)
def test_wrong_setting_is_named(config: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInputError, match=field):
        check_config("kubernetes", config)


def test_credentials_are_found_where_kubectl_finds_them(tmp_path: Path) -> None:
    assert FACTS.find_credentials({}, str(tmp_path)) == ""
    assert FACTS.find_credentials({"KUBECONFIG": "x"}, str(tmp_path)) == "the variable KUBECONFIG"
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube" / "config").write_text("")
    assert FACTS.find_credentials({}, str(tmp_path)).endswith(".kube/config")
