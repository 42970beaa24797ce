"""What EC2 tells an account about one region: sizes, zones and spot prices. The SDK is met here only."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from stix.catalog.fetchers.collect import number
from stix.catalog.source import FetchError
from stix.model.errors import CredentialsError, ThrottledError

__all__ = ["Described", "describe", "enabled_regions", "spot_prices", "zones"]

_THROTTLED = frozenset(
    {"RequestLimitExceeded", "Throttling", "ThrottlingException", "TooManyRequestsException"}
)
_REFUSED = frozenset(
    {"AuthFailure", "UnauthorizedOperation", "OptInRequired", "InvalidClientTokenId", "ExpiredToken"}
    | {"RequestExpired", "SignatureDoesNotMatch", "AccessDenied", "AccessDeniedException"}
)
_GB_IN_GIB = 1e9 / 2**30


@dataclass(frozen=True, slots=True)
class Described:
    """``accelerator`` as EC2 writes it; below 1 ``count`` is a share; memory in GiB of a whole one."""

    vcpus: float
    memory_gib: float
    arch: str
    local_disk_gib: float
    accelerator: str = ""
    count: float = 0.0
    accelerator_memory_gib: float = 0.0


def enabled_regions(client: Any) -> list[str]:
    """Regions that the account may use."""
    with _translated():
        return sorted(region["RegionName"] for region in client.describe_regions(AllRegions=False)["Regions"])


def describe(client: Any) -> tuple[dict[str, Described], Counter[str]]:
    """Sizes by instance type, and what was left out and why."""
    found: dict[str, Described] = {}
    left_out: Counter[str] = Counter()
    with _translated():
        for page in client.get_paginator("describe_instance_types").paginate():
            for kind in page["InstanceTypes"]:
                try:
                    found[kind["InstanceType"]] = _described(kind)
                except (IndexError, KeyError, TypeError, ValueError) as exc:
                    left_out[f"malformed: instance type {type(exc).__name__}"] += 1
    return found, left_out


def zones(client: Any) -> dict[str, list[str]]:
    """Zones that offer each instance type."""
    found: dict[str, set[str]] = defaultdict(set)
    with _translated():
        pages = client.get_paginator("describe_instance_type_offerings").paginate(
            LocationType="availability-zone"
        )
        for page in pages:
            for offering in page["InstanceTypeOfferings"]:
                found[offering["InstanceType"]].add(offering["Location"])
    return {name: sorted(places) for name, places in found.items()}


def spot_prices(client: Any, *, now: float) -> dict[tuple[str, str], float]:
    """USD per hour by (instance type, zone). A history that starts now holds the last change of each."""
    newest: dict[tuple[str, str], tuple[datetime, float]] = {}
    with _translated():
        pages = client.get_paginator("describe_spot_price_history").paginate(
            StartTime=datetime.fromtimestamp(now, UTC), ProductDescriptions=["Linux/UNIX"]
        )
        for page in pages:
            for entry in page["SpotPriceHistory"]:
                key = (entry["InstanceType"], entry["AvailabilityZone"])
                if key not in newest or entry["Timestamp"] > newest[key][0]:
                    newest[key] = (entry["Timestamp"], number(entry["SpotPrice"]))
    return {key: price for key, (_, price) in newest.items()}


def _described(kind: Mapping[str, Any]) -> Described:
    architectures = kind["ProcessorInfo"]["SupportedArchitectures"]
    name, count, memory_mib = _accelerator(kind)
    return Described(
        vcpus=number(kind["VCpuInfo"]["DefaultVCpus"]),
        memory_gib=number(kind["MemoryInfo"]["SizeInMiB"]) / 1024,
        arch="arm64" if "arm64" in architectures else "x86_64" if "x86_64" in architectures else "other",
        local_disk_gib=round(
            number((kind.get("InstanceStorageInfo") or {}).get("TotalSizeInGB", 0)) * _GB_IN_GIB, 1
        ),
        accelerator=name,
        count=count,
        accelerator_memory_gib=round(memory_mib / 1024, 1),
    )


def _accelerator(kind: Mapping[str, Any]) -> tuple[str, float, float]:
    """Name, count and MiB of one. A share of a GPU has the count 0 and says how large a part it is."""
    for info, devices in (("GpuInfo", "Gpus"), ("NeuronInfo", "NeuronDevices")):
        for device in (kind.get(info) or {}).get(devices, ()):
            part = number(device.get("GpuPartitionSize") or 1.0)
            count = number(device["Count"]) or part * number(device.get("LogicalGpuCount") or 1)
            return str(device["Name"]), count, number(device["MemoryInfo"]["SizeInMiB"]) / part
    for device in (kind.get("InferenceAcceleratorInfo") or {}).get("Accelerators", ()):
        memory = number((device.get("MemoryInfo") or {}).get("SizeInMiB", 0))
        return str(device["Name"]), number(device["Count"]), memory
    return "", 0.0, 0.0


@contextmanager
def _translated() -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

    try:
        yield
    except ClientError as exc:
        code = exc.response.get("Error", {}).get("Code", "")
        if code in _THROTTLED:
            raise ThrottledError(f"aws: {exc}", retry_after=60.0) from exc
        if code in _REFUSED:
            raise CredentialsError(f"aws: {exc}") from exc
        raise FetchError(f"aws: {exc}") from exc
    except (NoCredentialsError, PartialCredentialsError) as exc:
        raise CredentialsError(f"aws: {exc}") from exc
    except BotoCoreError as exc:
        raise FetchError(f"aws: {exc}") from exc
