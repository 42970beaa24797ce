"""A gang as Compute Engine is asked for it, and a machine as it describes one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from stix.clouds.bootstrap import boot_script
from stix.clouds.gcp.facts import is_arm, sold_on_demand
from stix.clouds.gcp.names import (
    TAGS_ITEM,
    labels_of,
    machine_names,
    network_tag,
    tags_of,
    token_name,
)
from stix.clouds.gcp.settings import IMAGE_FORM, GcpCloud
from stix.clouds.timestamps import rfc3339_seconds
from stix.model.errors import InvalidRequestError, NoCapacityError
from stix.ports.compute import GangRequest, Machine, MachineState

__all__ = ["bulk", "disk_of", "machine_of"]

_STATES = {
    "PENDING": MachineState.PENDING,
    "PROVISIONING": MachineState.PENDING,
    "STAGING": MachineState.PENDING,
    "REPAIRING": MachineState.PENDING,
    "RUNNING": MachineState.RUNNING,
    "PENDING_STOP": MachineState.STOPPING,
    "STOPPING": MachineState.STOPPING,
    "SUSPENDING": MachineState.STOPPING,
    # A stopped machine is TERMINATED in Google's words; one that ended is absent.
    "TERMINATED": MachineState.STOPPED,
    "STOPPED": MachineState.STOPPED,
    "SUSPENDED": MachineState.STOPPED,
    "DEPROVISIONING": MachineState.TERMINATING,
}
_IMAGE = "projects/debian-cloud/global/images/family/debian-12{arch}"
_ACCELERATED_IMAGE = (
    "projects/ubuntu-os-accelerator-images/global/images/family/"
    "ubuntu-accelerator-2404-{arch}-with-nvidia-580"
)
# N1 machines are given these; all other types have theirs built in.
_ON_N1 = {
    "P4": "nvidia-tesla-p4",
    "P100": "nvidia-tesla-p100",
    "T4": "nvidia-tesla-t4",
    "V100": "nvidia-tesla-v100",
}
# "Hyperdisk" in the disks guide: series that take no Persistent Disk, and series that take pd-standard.
_HYPERDISK_ONLY = ("a3-ultragpu", "a4-", "a4x-", "c4-", "c4a-", "c4d-", "g4-", "h4d-", "m4-", "n4", "x4-")
_TAKES_STANDARD = ("a2-", "c2-", "c2d-", "e2-", "m1-", "n1-", "n2-", "n2d-", "t2d-")
_PERSISTENT = {"low": "pd-standard", "high": "pd-ssd", "ultra": "pd-ssd", "best": "pd-ssd"}
# IOPS and MiB/s of a hyperdisk-balanced. It has the least of both in any case; for each GiB it takes 500
# IOPS, for every four of those 1 MiB/s ("Hyperdisk limits").
_HYPER = {"medium": (6000, 250), "high": (12000, 500), "ultra": (24000, 1000), "best": (24000, 1000)}
_LEAST_IOPS, _LEAST_THROUGHPUT = 3000, 140
_IOPS_A_GIB, _IOPS_A_MIB = 500, 4
_DISK_GIB = 256
"""As SkyPilot's default: CUDA images and a model fit."""


def bulk(request: GangRequest, settings: GcpCloud, *, network: str, deployment: str) -> dict[str, Any]:
    """The body of a bulk insertion: all machines or none; in one zone, where the region chooses it. Raises
    ``NoCapacityError`` for what the market does not have."""
    kind = request.offer.instance_type
    if not request.offer.spot and not sold_on_demand(kind):
        raise NoCapacityError(f"Google does not sell {kind} on demand.", provider_code="NotOnDemand")
    body: dict[str, Any] = {
        "count": request.count,
        "min_count": request.count,
        "per_instance_properties": {name: {} for name in machine_names(request.token, request.count)},
        "instance_properties": _properties(request, settings, network, deployment),
    }
    if not request.offer.zone:
        body["location_policy"] = {"target_shape": "ANY_SINGLE_ZONE"}
    return body


def _properties(request: GangRequest, settings: GcpCloud, network: str, deployment: str) -> dict[str, Any]:
    offer = request.offer
    kind = offer.instance_type.partition("+")[0]
    labels = labels_of(request.tags, token=request.token, count=request.count)
    disk_gib = request.disk_size_gib or _DISK_GIB
    interface: dict[str, Any] = {"network": network}
    if offer.region in settings.subnetworks:
        interface["subnetwork"] = f"regions/{offer.region}/subnetworks/{settings.subnetworks[offer.region]}"
    if settings.public_addresses:
        interface["access_configs"] = [{"name": "External NAT", "type_": "ONE_TO_ONE_NAT"}]
    scheduling: dict[str, Any] = {}
    if offer.spot:
        # Deleted, with its disk, when it is taken: a stopped one would go on to cost.
        scheduling = {"provisioning_model": "SPOT", "instance_termination_action": "DELETE"}
    if offer.spot or offer.accelerator:
        scheduling["on_host_maintenance"] = "TERMINATE"
        scheduling["automatic_restart"] = not offer.spot
    properties: dict[str, Any] = {
        "machine_type": kind,
        "labels": labels,
        "tags": {"items": [network_tag(deployment), token_name(request.token)]},
        "metadata": {
            "items": [
                {"key": "startup-script", "value": boot_script(request, "gcp")},
                {"key": TAGS_ITEM, "value": json.dumps(dict(request.tags), separators=(",", ":"))},
            ]
        },
        "network_interfaces": [interface],
        "disks": [
            {
                "boot": True,
                "auto_delete": True,
                "initialize_params": {
                    "source_image": _image(request, settings, kind),
                    "disk_size_gb": disk_gib,
                    "labels": labels,
                    **disk_of(kind, request.disk_tier, disk_gib),
                },
            }
        ],
        "scheduling": scheduling,
    }
    if settings.service_account:
        scopes = ["https://www.googleapis.com/auth/cloud-platform"]
        properties["service_accounts"] = [{"email": settings.service_account, "scopes": scopes}]
    if offer.accelerator and kind.startswith("n1-"):
        if offer.accelerator not in _ON_N1:
            raise InvalidRequestError(
                f"{offer.accelerator} cannot be put into a machine of the type {kind}.",
                hint=f"Of N1 machines these can: {', '.join(_ON_N1)}.",
            )
        properties["guest_accelerators"] = [
            {
                "accelerator_type": _ON_N1[offer.accelerator],
                "accelerator_count": int(offer.accelerator_count),
            }
        ]
    return properties


def _image(request: GangRequest, settings: GcpCloud, kind: str) -> str:
    if request.image and not request.image.startswith("docker:"):
        if "/images/" not in request.image:
            raise InvalidRequestError(
                f"resources.image_id: {request.image!r} is no image of Google Cloud.",
                hint=f"Write {IMAGE_FORM}.",
            )
        return request.image
    arm = is_arm(kind)
    if request.offer.accelerator:
        return settings.accelerated_image or _ACCELERATED_IMAGE.format(arch="arm64" if arm else "amd64")
    return settings.image or _IMAGE.format(arch="-arm64" if arm else "")


def disk_of(kind: str, tier: str, gib: int) -> dict[str, Any]:
    """The boot disk's type, and its speed where that is given apart from its size."""
    if kind.startswith(_HYPERDISK_ONLY):
        disk: dict[str, Any] = {"disk_type": "hyperdisk-balanced"}
        if tier in _HYPER:
            iops, throughput = _HYPER[tier]
            iops = max(_LEAST_IOPS, min(iops, gib * _IOPS_A_GIB))
            disk["provisioned_iops"] = iops
            disk["provisioned_throughput"] = max(_LEAST_THROUGHPUT, min(throughput, iops // _IOPS_A_MIB))
        return disk
    if tier == "low" and not kind.startswith(_TAKES_STANDARD):
        tier = ""
    return {"disk_type": _PERSISTENT.get(tier, "pd-balanced")}


def machine_of(instance: Any, *, deleting: bool, preempted: bool, reason: str) -> Machine:
    """``deleting``: an operation that deletes it is under way; its status alone does not say so."""
    state = _STATES.get(str(instance.status), MachineState.PENDING)
    alive = state in (MachineState.PENDING, MachineState.RUNNING)
    if deleting or (preempted and not alive):
        state = MachineState.TERMINATING
    stopped = str(instance.status) == "TERMINATED"
    interfaces = list(instance.network_interfaces)
    accesses = [access for interface in interfaces for access in interface.access_configs]
    items = [(item.key, item.value) for item in instance.metadata.items]
    labels: Mapping[str, str] = instance.labels
    return Machine(
        id=str(instance.name),
        state=state,
        tags=tags_of(labels, items),
        address=str(interfaces[0].network_i_p) if interfaces else "",
        reason=reason if state not in (MachineState.PENDING, MachineState.RUNNING) else "",
        public_address=next((str(access.nat_i_p) for access in accesses if access.nat_i_p), ""),
        zone=str(instance.zone).rpartition("/")[2],
        preempted=preempted and not alive,
        # While it still stops, this is the moment of an earlier stop.
        ended_at=rfc3339_seconds(instance.last_stop_timestamp) if stopped else 0.0,
    )
