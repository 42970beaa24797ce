"""What a real control plane refuses, and with which words: quotas, rights, rules, what is not there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stix.clouds.kubernetes.compute import KubernetesCompute
from stix.model.errors import CredentialsError, InvalidRequestError, QuotaExceededError, StixError
from tests.contract.world_kubernetes_real import World
from tests.substrate.kubernetes.control_plane import ControlPlane
from tests.substrate.kubernetes.tenant import role

pytestmark = pytest.mark.kubernetes


@pytest.fixture
def world(control_plane: ControlPlane) -> Iterator[World]:
    world = World(control_plane)
    yield world
    world.close()


@pytest.fixture
def compute(world: World) -> KubernetesCompute:
    return world.direct()


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
    ids = world.running(compute, request)
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


def test_token_that_the_server_does_not_know_is_said_so(world: World) -> None:
    config = world.tenant.kubeconfig()
    config["users"][0]["user"]["token"] = "expired"
    with pytest.raises(CredentialsError, match="Unauthorized") as refused:
        world.direct(kubeconfig=config).create(world.request("a"))
    assert refused.value.provider_code == "Unauthorized"


def test_namespace_that_is_not_there_is_named(world: World, control_plane: ControlPlane) -> None:
    admin = world.direct(kubeconfig=control_plane.kubeconfig(), namespace="nowhere")
    with pytest.raises(InvalidRequestError, match='namespaces "nowhere" not found') as refused:
        admin.create(world.request("a"))
    assert "clouds.kubernetes.namespace" in refused.value.hint


def test_what_the_server_finds_invalid_is_said_with_its_words(
    compute: KubernetesCompute, world: World
) -> None:
    with pytest.raises(InvalidRequestError, match=r"spec.containers\[0\].resources.*must be an integer"):
        compute.create(world.request("a", accelerator="A100", accelerator_count=0.5))
    assert world.leftovers() == []


def test_account_of_the_pods_that_is_not_there_is_no_missing_right(world: World) -> None:
    with pytest.raises(InvalidRequestError, match='serviceaccount "nobody" not found') as refused:
        world.direct(service_account="nobody").create(world.request("a"))
    assert "ask its owner" in refused.value.hint


def test_pods_have_the_account_of_the_settings(world: World) -> None:
    (name,) = world.direct(service_account="stix").create(world.request("a"))
    assert world.tenant.objects("pods")[name]["spec"]["serviceAccountName"] == "stix"
