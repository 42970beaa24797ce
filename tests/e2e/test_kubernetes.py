"""A task on Kubernetes: real commands, control plane, SDK, boot script and agents; the cluster is a server of
ours whose pods are processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cloud_home import cloud_home
from tests.e2e.embedded import EmbeddedHome
from tests.providers.kubernetes.server import KubernetesServer

pytestmark = pytest.mark.xdist_group("e2e-kubernetes")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[KubernetesServer]:
    server = KubernetesServer(hosts=tmp_path / "hosts")
    yield server
    server.close()
    assert server.violations == []


@pytest.fixture
def home(tmp_path: Path, cluster: KubernetesServer) -> Iterator[EmbeddedHome]:
    """A home whose control plane has a public address and a kubeconfig."""
    config = {"kubeconfig": cluster.kubeconfig(), "pending_seconds": 0}
    home = cloud_home(tmp_path / "home", "kubernetes", config)
    yield home
    home.finish()


def test_task_runs_in_pods_and_nothing_is_left_when_its_cluster_is_down(
    home: EmbeddedHome, cluster: KubernetesServer
) -> None:
    cluster.add_node("small", cpu="4", memory="8Gi")
    cluster.add_node("full", cpu="8", memory="16Gi", labels={"topology.kubernetes.io/zone": "z2"})
    checks = json.loads(home.stix("check", "-o", "json").stdout)["clouds"]
    assert {one["cloud"]: one["enabled"] for one in checks}["kubernetes"] is True
    done = home.stix(
        *("launch", "-y", "-c", "train", "--infra", "k8s/lab", "--cpus", "2", "--memory", "1"),
        *("--num-nodes", "2", "--ports", "8080", 'echo "rank $STIX_NODE_RANK"'),
    )
    assert "Job 1 SUCCEEDED." in done.stderr
    for rank in range(2):
        assert f"rank {rank}\n" in done.stdout
    assert len(cluster.machines) == 2
    assert all(host.on for host in cluster.machines.values())
    [service] = cluster.objects["services"].values()
    assert service["spec"]["ports"][0]["port"] == 8080
    [there] = json.loads(home.stix("status", "-o", "json").stdout)["clusters"]
    assert (there["cloud"], there["region"], there["status"]) == ("kubernetes", "lab", "UP")
    refused = home.stix("stop", "-y", "train", code=None)
    assert refused.returncode != 0
    assert "kubernetes" in refused.stderr

    home.stix("down", "-y", "train")
    assert not any(host.on for host in cluster.machines.values())
    assert [kind for kind in ("pods", "secrets", "services") if cluster.objects[kind]] == []


def test_launch_fails_with_the_schedulers_words_when_the_cluster_is_full(
    home: EmbeddedHome, cluster: KubernetesServer
) -> None:
    cluster.add_node("small", cpu="4", memory="8Gi")
    cluster.room = 0
    failed = home.stix("launch", "-y", "-c", "big", "--infra", "kubernetes", "--cpus", "2", "true", code=None)
    assert failed.returncode != 0
    assert "Insufficient cpu" in failed.stderr
    assert [kind for kind in ("pods", "secrets", "services") if cluster.objects[kind]] == []
