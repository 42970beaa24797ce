"""Lambda Cloud: ``GET /api/v1/instance-types`` (its OpenAPI document, version 1.10).

Prices are whole cents; a row per region that has capacity now, since a type can be had nowhere else.
"""

from __future__ import annotations

import re
from typing import Any

from stix.catalog.fetchers.collect import Rows, number
from stix.catalog.fetchers.names import accelerator_name
from stix.catalog.fetchers.web import PriceApi
from stix.catalog.row import CatalogRow
from stix.catalog.source import Fetched, FetchError

__all__ = ["CLOUD", "fetch"]

CLOUD = "lambda"
URL = "https://cloud.lambda.ai/api/v1/instance-types"
_OWN = {"a6000": "A6000", "a6000 (48 gb)": "A6000"}
_MEMORY = re.compile(r"\((\d+) GB")


def fetch(api: PriceApi) -> Fetched:
    """The client sends ``Authorization: Bearer`` with a key."""
    now = api.now()
    rows = Rows(CLOUD, now=now)
    answer = api.get(URL)
    types = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(types, dict):
        raise FetchError("lambda: the answer has no object 'data': its format may have changed.")
    for entry in types.values():
        try:
            _add(rows, entry, now)
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            rows.malformed(type(exc).__name__)
    return rows.finish()


def _add(rows: Rows, entry: dict[str, Any], now: float) -> None:
    machine = entry["instance_type"]
    specs = machine["specs"]
    count = number(specs["gpus"])
    memory = 0.0
    accelerator = ""
    if count:
        described = str(machine["gpu_description"])
        found = _MEMORY.search(described)
        memory = float(found[1]) if found else 0.0
        accelerator = accelerator_name(described, memory_gib=memory, own=_OWN)
        if not accelerator:
            rows.skip(f"unknown accelerator: {described}")
            return
    if not entry["regions_with_capacity_available"]:
        rows.skip("no capacity anywhere")
    for region in entry["regions_with_capacity_available"]:
        rows.add(
            CatalogRow(
                cloud=CLOUD,
                region=region["name"],
                zone="",
                instance_type=machine["name"],
                vcpus=number(specs["vcpus"]),
                memory_gib=number(specs["memory_gib"]),
                accelerator=accelerator,
                accelerator_count=count,
                accelerator_memory_gib=memory,
                # Grace is the only processor of theirs that is not x86.
                arch="arm64" if accelerator in ("GH200", "GB200", "GB300") else "x86_64",
                price=number(machine["price_cents_per_hour"]) / 100,
                as_of=now,
                local_disk_gib=number(specs["storage_gib"]),
                source=URL,
            )
        )
