"""A Kubernetes cluster's nodes, asked live: ``GET /api/v1/nodes`` in pages of 500.

What a cluster can run is its owner's business and changes by the minute: these rows are never published, and
cost nothing per hour. A row is a size that pods can have up to, in a zone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from stix.catalog.fetchers.collect import Rows, items, number
from stix.catalog.fetchers.gcp import ACCELERATORS
from stix.catalog.fetchers.names import accelerator_name
from stix.catalog.fetchers.web import PriceApi
from stix.catalog.row import CatalogRow
from stix.catalog.source import Fetched, FetchError

__all__ = ["CLOUD", "discover", "quantity"]

CLOUD = "kubernetes"
_PAGE = "500"
_MOST_PAGES = 200
_GPU_RESOURCES = ("nvidia.com/gpu", "amd.com/gpu")
_GPU_LABELS = ("nvidia.com/gpu.product", "amd.com/gpu.product-name", "cloud.google.com/gke-accelerator")
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
    now = api.now()
    rows = Rows(CLOUD, now=now, free=True)
    following = ""
    for _ in range(_MOST_PAGES):
        params = {"limit": _PAGE} | ({"continue": following} if following else {})
        page = api.get(f"{server.rstrip('/')}/api/v1/nodes", params=params)
        for node in items(page, "items"):
            try:
                _add(rows, node, context, now)
            except (AttributeError, KeyError, TypeError, ValueError) as exc:
                rows.malformed(type(exc).__name__)
        following = (page.get("metadata") or {}).get("continue") or ""
        if not following:
            return rows.finish()
    raise FetchError(f"kubernetes: more than {_MOST_PAGES} pages of nodes.")


def _add(rows: Rows, node: Mapping[str, Any], context: str, now: float) -> None:
    labels = node["metadata"].get("labels") or {}
    if not _usable(node):
        rows.skip("not ready or not schedulable")
        return
    free = node["status"]["allocatable"]
    count = sum(quantity(free[name]) for name in _GPU_RESOURCES if name in free)
    accelerator = ""
    if count:
        told = next((labels[name] for name in _GPU_LABELS if name in labels), "")
        accelerator = accelerator_name(told.removesuffix("-SHARED"), own=_OWN)
        if not accelerator:
            rows.skip(f"unknown accelerator: {told or 'no label'}")
            return
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


def _usable(node: Mapping[str, Any]) -> bool:
    """Ready, and open to pods that tolerate no more than a taint for GPUs."""
    conditions = {one["type"]: one["status"] for one in node["status"].get("conditions") or ()}
    taints = [taint for taint in node["spec"].get("taints") or () if taint["effect"] != "PreferNoSchedule"]
    closed = any(taint["key"] not in _GPU_RESOURCES for taint in taints)
    return conditions.get("Ready") == "True" and not node["spec"].get("unschedulable") and not closed


def quantity(text: str) -> float:
    """Of Kubernetes: ``3920m``, ``16393228Ki``, ``2``. Raises ``ValueError``."""
    match = _QUANTITY.fullmatch(str(text))
    if match is None:
        raise ValueError(f"{text!r} is not a quantity")
    return number(match[1]) * _SCALE[match[2] or ""]
