"""A Kubernetes cluster's nodes, asked live: ``GET /api/v1/nodes`` in pages of 500.

What a cluster can run is its owner's business and changes by the minute: these rows are never published, and
cost nothing per hour. A row is a size that pods can have up to, in a zone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stix.catalog.fetchers.collect import Rows, items, number
from stix.catalog.fetchers.gcp import ACCELERATORS
from stix.catalog.fetchers.names import accelerator_name
from stix.catalog.fetchers.web import PriceApi
from stix.catalog.row import CatalogRow
from stix.catalog.source import Fetched, FetchError

__all__ = [
    "CLOUD",
    "SPOT_LABELS",
    "NodeAccelerator",
    "accelerator_of",
    "discover",
    "is_spot",
    "quantity",
    "rows_of",
    "usable",
]

CLOUD = "kubernetes"
_PAGE = "500"
_MOST_PAGES = 200
_GPU_RESOURCES = ("nvidia.com/gpu", "amd.com/gpu")
_GPU_LABELS = ("nvidia.com/gpu.product", "amd.com/gpu.product-name", "cloud.google.com/gke-accelerator")
SPOT_LABELS = {
    "cloud.google.com/gke-spot": "true",
    "eks.amazonaws.com/capacityType": "SPOT",
    "karpenter.sh/capacity-type": "spot",
    "kubernetes.azure.com/scalesetpriority": "spot",
}
"""How the hosted Kubernetes services and Karpenter mark nodes that are spot machines."""
_OWN = {name: known for name, (known, _) in ACCELERATORS.items()}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)([KMGTPE]i|[numkMGTPE])?", re.ASCII)
_SCALE = {
    "": 1.0,
    "n": 1e-9,
    "u": 1e-6,
    "m": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "P": 1e15,
    "E": 1e18,
}
_SCALE |= {f"{letter}i": 1024.0**power for power, letter in enumerate("KMGTPE", start=1)}
_ARCHITECTURES = {"amd64": "x86_64", "arm64": "arm64"}


def discover(api: PriceApi, server: str, context: str) -> Fetched:
    """Rows of the cluster at ``server``, its region called ``context``; the client is authorised already."""
    nodes: list[Mapping[str, Any]] = []
    following = ""
    for _ in range(_MOST_PAGES):
        params = {"limit": _PAGE} | ({"continue": following} if following else {})
        page = api.get(f"{server.rstrip('/')}/api/v1/nodes", params=params)
        nodes += items(page, "items")
        following = (page.get("metadata") or {}).get("continue") or ""
        if not following:
            return rows_of(nodes, context, api.now())
    raise FetchError(f"kubernetes: more than {_MOST_PAGES} pages of nodes.")


def rows_of(nodes: Iterable[Mapping[str, Any]], context: str, now: float) -> Fetched:
    """Rows of nodes as the API server describes them."""
    rows = Rows(CLOUD, now=now, free=True)
    for node in nodes:
        try:
            _add(rows, node, context, now)
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            rows.malformed(type(exc).__name__)
    return rows.finish()


@dataclass(frozen=True, slots=True)
class NodeAccelerator:
    """``name``: the catalog's, empty for one that it does not know; ``resource``: what pods ask for;
    ``label`` and ``told``: where the node says which it is, and how."""

    name: str
    count: float
    resource: str
    label: str
    told: str


def accelerator_of(node: Mapping[str, Any]) -> NodeAccelerator | None:
    """None for a node without any."""
    free = node["status"]["allocatable"]
    counts = {name: quantity(free[name]) for name in _GPU_RESOURCES if name in free}
    resource = max(counts, key=lambda name: counts[name], default="")
    if not resource or not counts[resource]:
        return None
    labels = node["metadata"].get("labels") or {}
    label = next((name for name in _GPU_LABELS if name in labels), "")
    told = labels.get(label, "")
    name = accelerator_name(told.removesuffix("-SHARED"), own=_OWN)
    return NodeAccelerator(name, counts[resource], resource, label, told)


def _add(rows: Rows, node: Mapping[str, Any], context: str, now: float) -> None:
    labels = node["metadata"].get("labels") or {}
    if not usable(node):
        rows.skip("not ready or not schedulable")
        return
    free = node["status"]["allocatable"]
    found = accelerator_of(node)
    if found is not None and not found.name:
        rows.skip(f"unknown accelerator: {found.told or 'no label'}")
        return
    accelerator, count = (found.name, found.count) if found is not None else ("", 0.0)
    vcpus = round(quantity(free["cpu"]), 3)
    # Hosts of one kind differ by a few megabytes: rounded down, so that they are one row.
    memory = quantity(free["memory"]) * 10 // 2**30 / 10
    size = f"{vcpus:g}cpu-{memory:g}gib" + (f"-{accelerator}:{count:g}" if accelerator else "")
    rows.add(
        CatalogRow(
            cloud=CLOUD,
            region=context,
            zone=labels.get("topology.kubernetes.io/zone", ""),
            instance_type=size,
            vcpus=vcpus,
            memory_gib=memory,
            accelerator=accelerator,
            accelerator_count=count,
            arch=_ARCHITECTURES.get(labels.get("kubernetes.io/arch", "amd64"), "unknown"),
            price=0.0,
            as_of=now,
            source="kubernetes nodes",
        )
    )


def is_spot(node: Mapping[str, Any]) -> bool:
    labels = node["metadata"].get("labels") or {}
    return any(labels.get(key) == value for key, value in SPOT_LABELS.items())


def usable(node: Mapping[str, Any]) -> bool:
    """Ready, and open to pods that tolerate no more than a taint for GPUs, and for spot on spot nodes."""
    conditions = {one["type"]: one["status"] for one in node["status"].get("conditions") or ()}
    taints = [taint for taint in node["spec"].get("taints") or () if taint["effect"] != "PreferNoSchedule"]
    tolerated = {*_GPU_RESOURCES, *(SPOT_LABELS if is_spot(node) else ())}
    closed = any(taint["key"] not in tolerated or taint["effect"] != "NoSchedule" for taint in taints)
    return conditions.get("Ready") == "True" and not node["spec"].get("unschedulable") and not closed


def quantity(text: str) -> float:
    """Of Kubernetes: ``3920m``, ``16393228Ki``, ``2``. Raises ``ValueError``."""
    match = _QUANTITY.fullmatch(str(text))
    if match is None:
        raise ValueError(f"{text!r} is not a quantity")
    return number(match[1]) * _SCALE[match[2] or ""]
