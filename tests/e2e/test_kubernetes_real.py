"""A task on a real Kubernetes control plane: its API server, scheduler and controllers, by the rights of
``role.yaml``; the pods are processes that execute the real boot script and the real agent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cloud_home import cloud_home
from tests.e2e.embedded import EmbeddedHome
from tests.substrate.kubernetes.control_plane import ControlPlane
from tests.substrate.kubernetes.kubelet import Kubelets
from tests.substrate.kubernetes.tenant import Tenant

pytestmark = pytest.mark.kubernetes
A100 = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB"}


@pytest.fixture(scope="module")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    made = ControlPlane(tmp_path_factory.mktemp("kubernetes"))
    yield made
    made.close()


@pytest.fixture
def tenant(control_plane: ControlPlane) -> Iterator[Tenant]:
    tenant = Tenant(control_plane)
    yield tenant
    tenant.close()


@pytest.fixture
def kubelets(tenant: Tenant, tmp_path: Path) -> Iterator[Kubelets]:
    kubelets = Kubelets(tenant, tmp_path / "hosts")
    yield kubelets
    kubelets.close()


@pytest.fixture
def home(tmp_path: Path, tenant: Tenant, kubelets: Kubelets) -> Iterator[EmbeddedHome]:
    """A home whose control plane has a public address and a kubeconfig. It ends before the kubelets do."""
    config = {"kubeconfig": tenant.kubeconfig(), "pending_seconds": 0}
    home = cloud_home(tmp_path / "home", "kubernetes", config)
    yield home
    home.finish()


def _left(tenant: Tenant) -> list[str]:
    return [
        name
        for kind in ("pods", "secrets", "services")
        for name in tenant.objects(kind)
        if name.startswith("stix-") and "-token-" not in name
    ]


def test_task_runs_in_pods_and_nothing_is_left_when_its_cluster_is_down(
    home: EmbeddedHome, tenant: Tenant, kubelets: Kubelets
) -> None:
    for name in ("a", "b"):
        tenant.add_node(name, cpu="3", memory="8Gi")
    checks = json.loads(home.stix("check", "-o", "json").stdout)["clouds"]
    assert {one["cloud"]: one["enabled"] for one in checks}["kubernetes"] is True
    done = home.stix(
        *("launch", "-y", "-c", "train", "--infra", "k8s/lab", "--cpus", "2", "--memory", "1"),
        *("--num-nodes", "2", "--ports", "8080", 'echo "rank $STIX_NODE_RANK"'),
    )
    assert "Job 1 SUCCEEDED." in done.stderr
    for rank in range(2):
        assert f"rank {rank}\n" in done.stdout
    assert {pod["spec"]["nodeName"] for pod in tenant.objects("pods").values()} == {"a", "b"}
    assert len(kubelets.machines) == 2
    assert all(host.on for host in kubelets.machines.values())
    assert [name for name in tenant.objects("services") if name.startswith("stix-")] != []

    home.stix("down", "-y", "train")
    assert not any(host.on for host in kubelets.machines.values())
    assert _left(tenant) == []


def test_launch_fails_with_the_schedulers_words_when_another_has_the_gpus(
    home: EmbeddedHome, tenant: Tenant
) -> None:
    tenant.add_node("gpu", cpu="8", memory="32Gi", gpus=8, labels=A100)
    tenant.make_pod("theirs", gpus=8)
    tenant.until(lambda: tenant.objects("pods")["theirs"]["spec"].get("nodeName"), "it has the GPUs")
    launch = ("launch", "-y", "--infra", "kubernetes", "--gpus", "A100:8", "--cpus", "2+", "-c", "train")
    failed = home.stix(*launch, "true", code=None)
    assert failed.returncode != 0
    assert "0/1 nodes are available: 1 Insufficient nvidia.com/gpu" in failed.stderr
    assert _left(tenant) == []
