from __future__ import annotations

from typing import Any

import httpx
import pytest

from stix.catalog.fetchers import kubernetes
from stix.catalog.source import FetchError
from tests.unit.price_answers import answering, price_api

NODES = "10.0.0.1/api/v1/nodes"


def node(
    cpu: str = "15890m", memory: str = "64307112Ki", *, ready: str = "True", **changes: Any
) -> dict[str, Any]:
    gpus = {"nvidia.com/gpu": str(changes["gpus"])} if "gpus" in changes else {}
    product = {"nvidia.com/gpu.product": changes["product"]} if "product" in changes else {}
    return {
        "metadata": {
            "name": "n",
            "labels": {"kubernetes.io/arch": changes.get("arch", "amd64")}
            | {"topology.kubernetes.io/zone": "z1"}
            | product,
        },
        "spec": changes.get("spec", {}),
        "status": {
            "allocatable": {"cpu": cpu, "memory": memory, "pods": "110"} | gpus,
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }


def discover(*nodes: dict[str, Any]) -> Any:
    answer = {"kind": "NodeList", "metadata": {}, "items": list(nodes)}
    return kubernetes.discover(price_api(answering({NODES: answer})), "https://10.0.0.1/", "lab")


def test_like_nodes_are_one_free_row_of_what_pods_can_have() -> None:
    (row,) = discover(node(), node(memory="64307000Ki")).rows
    assert (row.region, row.zone, row.instance_type) == ("lab", "z1", "15.89cpu-61.3gib")
    assert (row.vcpus, row.memory_gib, row.price, row.arch) == (15.89, 61.3, 0.0, "x86_64")


@pytest.mark.parametrize(
    ("product", "accelerator"),
    [
        ("NVIDIA-A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA-H100-80GB-HBM3", "H100"),
        ("Tesla-T4-SHARED", "T4"),
        ("nvidia-tesla-v100", "V100"),
        ("NVIDIA-GeForce-RTX-4090", "RTX4090"),
    ],
)
def test_gpu_node_is_named_by_its_label(product: str, accelerator: str) -> None:
    taint = {"taints": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]}
    (row,) = discover(node(gpus=8, product=product, spec=taint)).rows
    assert (row.accelerator, row.accelerator_count) == (accelerator, 8)


@pytest.mark.parametrize(
    "closed",
    [
        node(ready="Unknown"),
        node(spec={"unschedulable": True}),
        node(spec={"taints": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]}),
    ],
)
def test_closed_node_is_left_out(closed: dict[str, Any]) -> None:
    fetched = discover(node(cpu="4"), closed)
    assert [row.vcpus for row in fetched.rows] == [4]
    assert fetched.left_out == {"not ready or not schedulable": 1}


@pytest.mark.parametrize(("effect", "usable"), [("NoSchedule", True), ("NoExecute", False)])
def test_spot_node_is_usable_when_pods_tolerate_its_taint(effect: str, usable: bool) -> None:
    key = "cloud.google.com/gke-spot"
    spot = node(spec={"taints": [{"key": key, "value": "true", "effect": effect}]})
    assert not kubernetes.usable(spot)  # tainted as spot, but not labelled so
    spot["metadata"]["labels"][key] = "true"
    assert kubernetes.usable(spot) is usable


def test_every_page_of_nodes_is_read() -> None:
    def pages(request: httpx.Request) -> Any:
        after = request.url.params.get("continue", "")
        cpu, following = {"": ("2", "T"), "T": ("4", "")}[after]
        return {"metadata": {"continue": following}, "items": [node(cpu=cpu)]}

    fetched = kubernetes.discover(price_api(answering({NODES: pages})), "https://10.0.0.1", "lab")
    assert {row.vcpus for row in fetched.rows} == {2, 4}


def test_nodes_without_figures_are_not_believed() -> None:
    with pytest.raises(FetchError, match="malformed: ValueError"):
        discover(node(), node(memory="lots"))


@pytest.mark.parametrize(
    ("text", "value"),
    [("2", 2), ("250m", 0.25), ("1Ki", 1024), ("1.5Gi", 1.5 * 2**30), ("12e6", 12e6), ("5G", 5e9)],
)
def test_quantity_is_read_with_its_suffix(text: str, value: float) -> None:
    assert kubernetes.quantity(text) == pytest.approx(value)
