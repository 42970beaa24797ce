"""The permissions that Compute Engine's reference lists under each method that is called here."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["needed"]

# Of machines with a boot disk from an image, labels, metadata, network tags, a public address and a service
# account.
_MAKE = (
    "disks.create",
    "disks.setLabels",
    "images.useReadOnly",
    "instances.create",
    "instances.setLabels",
    "instances.setMetadata",
    "instances.setServiceAccount",
    "instances.setTags",
    "subnetworks.use",
    "subnetworks.useExternalIp",
)
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "firewalls.delete": ("firewalls.delete", "networks.updatePolicy"),
    "firewalls.get": ("firewalls.get",),
    "firewalls.insert": ("firewalls.create", "networks.updatePolicy"),
    "globalOperations.aggregatedList": (
        "globalOperations.list",
        "regionOperations.list",
        "zoneOperations.list",
    ),
    "instances.aggregatedList": ("instances.list",),
    "instances.bulkInsert": _MAKE,
    "instances.delete": ("instances.delete",),
    "instances.start": ("instances.start",),
    "instances.stop": ("instances.stop",),
    "networks.get": ("networks.get",),
    "networks.insert": ("networks.create",),
    "projects.get": ("projects.get",),
    "regionInstances.bulkInsert": _MAKE,
    "regions.get": ("regions.get",),
}


def needed(call: str) -> list[str]:
    """Raises KeyError for a method whose permissions nobody has looked up."""
    return [f"compute.{one}" for one in _NEEDED[call]]
