"""A gang as one deployment of Azure Resource Manager: network, addresses, interfaces, machines.

Azure itself puts them in order, so that nobody has to wait for one to make the next.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import cache
from typing import Any

from stix.clouds.azure.facts import has_premium_disks, is_arm, is_confidential, is_first_generation
from stix.clouds.azure.settings import IMAGE_HINT, AzureCloud, is_image
from stix.clouds.bootstrap import boot_script
from stix.model.errors import InvalidRequestError, NoCapacityError
from stix.ports.compute import GangRequest

__all__ = ["MOST_MACHINES", "gang_template", "vm_name"]

MOST_MACHINES = 250
"""In one deployment of at most 800 resources, and in one /24 of addresses."""
_COMPUTE = "2024-07-01"
_NETWORK = "2024-05-01"
_DISKS = {
    "": "Premium_LRS",
    "low": "Standard_LRS",
    "medium": "StandardSSD_LRS",
    "high": "Premium_LRS",
    "ultra": "Premium_LRS",
    "best": "Premium_LRS",
}
_DISK_GIB = 256
"""As SkyPilot's default: CUDA images and a model fit."""
_UBUNTU = "canonical:ubuntu-24_04-lts:{sku}:latest"
# "Tag resources": limits of names and values. Three tags more are on the group.
_MOST_TAGS, _LONGEST_VALUE, _NOT_IN_NAMES = 47, 256, frozenset("<>%&\\?/")


def vm_name(index: int) -> str:
    return f"node-{index}"


def _address_of(index: int) -> str:
    """The private address, in a network of ours. Azure keeps the first four and the last of a subnet."""
    return f"10.44.0.{4 + index}"


def gang_template(request: GangRequest, settings: AzureCloud) -> dict[str, Any]:
    """Raises ``InvalidRequestError`` for what Azure would refuse anywhere: too many machines, wrong images or
    labels; ``NoCapacityError`` for a size that needs more than an ordinary machine."""
    subnet = settings.subnet_ids.get(request.offer.region, "")
    _check(request, reached=bool(subnet) or settings.public_addresses)
    resources: list[dict[str, Any]] = [_firewall(request)]
    if not subnet:
        resources.append(_network(request))
    for index in range(request.count):
        if settings.public_addresses:
            resources.append(_public_address(request, index))
        resources.append(_interface(request, index, subnet, public=settings.public_addresses))
        resources.append(_machine(request, index, settings))
    return {
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        "resources": resources,
    }


def _check(request: GangRequest, *, reached: bool) -> None:
    offer = request.offer
    if request.count > MOST_MACHINES:
        raise InvalidRequestError(f"{request.count} machines are asked; Azure makes {MOST_MACHINES} at once.")
    if is_confidential(offer.instance_type):
        raise NoCapacityError(
            f"{offer.instance_type} runs confidential machines only, which are not supported.",
            provider_code="ConfidentialSize",
        )
    if not reached:
        raise InvalidRequestError(
            f"clouds.azure.subnet_ids: none is named for {offer.region}, and public addresses are off.",
            hint="Name a subnet that has a way out, or set clouds.azure.public_addresses to true.",
        )
    for name, value in request.tags.items():
        if _NOT_IN_NAMES & set(name) or len(value) > _LONGEST_VALUE:
            raise InvalidRequestError(
                f"resources.labels: {name!r}: {value!r} cannot be a tag of Azure.",
                hint=f"Leave out {''.join(sorted(_NOT_IN_NAMES))}; a value has {_LONGEST_VALUE} characters.",
            )
    names = [name.lower() for name in request.tags]
    if len(names) > _MOST_TAGS or len(set(names)) < len(names):
        raise InvalidRequestError(
            f"resources.labels: {len(names)} tags, or two that differ in capitals alone, do not fit Azure.",
            hint=f"Use at most {_MOST_TAGS} of different names, Stix's own among them.",
        )


def _resource(
    request: GangRequest,
    kind: str,
    name: str,
    properties: dict[str, Any],
    *,
    needs: Sequence[str] = (),
    **more: Any,
) -> dict[str, Any]:
    return {
        "type": kind,
        "apiVersion": _COMPUTE if kind.startswith("Microsoft.Compute") else _NETWORK,
        "name": name,
        "location": request.offer.region,
        "tags": dict(request.tags),
        "properties": properties,
        **({"dependsOn": list(needs)} if needs else {}),
        **more,
    }


def _id(kind: str, *names: str) -> str:
    quoted = ", ".join(f"'{name}'" for name in names)
    return f"[resourceId('{kind}', {quoted})]"


_NSG = "Microsoft.Network/networkSecurityGroups"
_VNET = "Microsoft.Network/virtualNetworks"
_NIC = "Microsoft.Network/networkInterfaces"
_IP = "Microsoft.Network/publicIPAddresses"


def _firewall(request: GangRequest) -> dict[str, Any]:
    """Azure's default rules let machines of one network reach each other, and nobody else in."""
    rules = [
        {
            "name": f"port-{port}",
            "properties": {
                "priority": 200 + number,
                "direction": "Inbound",
                "access": "Allow",
                "protocol": "Tcp",
                "sourceAddressPrefix": "*",
                "sourcePortRange": "*",
                "destinationAddressPrefix": "*",
                "destinationPortRange": port,
            },
        }
        for number, port in enumerate(request.ports)
    ]
    return _resource(request, _NSG, "firewall", {"securityRules": rules})


def _network(request: GangRequest) -> dict[str, Any]:
    subnet = {
        "name": "nodes",
        "properties": {
            "addressPrefix": "10.44.0.0/23",
            "networkSecurityGroup": {"id": _id(_NSG, "firewall")},
        },
    }
    properties = {"addressSpace": {"addressPrefixes": ["10.44.0.0/16"]}, "subnets": [subnet]}
    return _resource(request, _VNET, "network", properties, needs=[_id(_NSG, "firewall")])


def _public_address(request: GangRequest, index: int) -> dict[str, Any]:
    properties = {"publicIPAllocationMethod": "Static", "publicIPAddressVersion": "IPv4"}
    zones = {"zones": [_zone(request)]} if request.offer.zone else {}
    return _resource(request, _IP, vm_name(index), properties, sku={"name": "Standard"}, **zones)


def _interface(request: GangRequest, index: int, subnet: str, *, public: bool) -> dict[str, Any]:
    needs = [_id(_NSG, "firewall")]
    where: dict[str, Any] = {"subnet": {"id": subnet}, "privateIPAllocationMethod": "Dynamic"}
    if not subnet:
        needs.append(_id(_VNET, "network"))
        where = {
            "subnet": {"id": _id(f"{_VNET}/subnets", "network", "nodes")},
            "privateIPAllocationMethod": "Static",
            "privateIPAddress": _address_of(index),
        }
    if public:
        needs.append(_id(_IP, vm_name(index)))
        # The address goes with the interface, and that with the machine.
        where["publicIPAddress"] = {"id": _id(_IP, vm_name(index)), "properties": {"deleteOption": "Delete"}}
    properties = {
        "networkSecurityGroup": {"id": _id(_NSG, "firewall")},
        "ipConfigurations": [{"name": "main", "properties": where}],
    }
    return _resource(request, _NIC, vm_name(index), properties, needs=needs)


def _machine(request: GangRequest, index: int, settings: AzureCloud) -> dict[str, Any]:
    offer = request.offer
    tier = _DISKS[request.disk_tier]
    if tier == "Premium_LRS" and not has_premium_disks(offer.instance_type):
        tier = "StandardSSD_LRS"
    key = settings.ssh_public_key or _nobodys_key()
    properties: dict[str, Any] = {
        "hardwareProfile": {"vmSize": offer.instance_type},
        "storageProfile": {
            "imageReference": _image(request, settings),
            "osDisk": {
                "createOption": "FromImage",
                "deleteOption": "Delete",
                "diskSizeGB": request.disk_size_gib or _DISK_GIB,
                "managedDisk": {"storageAccountType": tier},
            },
        },
        "osProfile": {
            "computerName": vm_name(index),
            "adminUsername": "stix",
            "customData": base64.b64encode(boot_script(request, "azure").encode()).decode(),
            "linuxConfiguration": {
                "disablePasswordAuthentication": True,
                "ssh": {"publicKeys": [{"path": "/home/stix/.ssh/authorized_keys", "keyData": key}]},
            },
        },
        "networkProfile": {
            "networkInterfaces": [
                {"id": _id(_NIC, vm_name(index)), "properties": {"primary": True, "deleteOption": "Delete"}}
            ]
        },
    }
    if offer.spot:
        # Price is capped at the on-demand one by -1; an evicted machine is deleted, so that it bills nothing.
        properties |= {"priority": "Spot", "evictionPolicy": "Delete", "billingProfile": {"maxPrice": -1}}
    more = {"zones": [_zone(request)]} if offer.zone else {}
    kind = "Microsoft.Compute/virtualMachines"
    return _resource(request, kind, vm_name(index), properties, needs=[_id(_NIC, vm_name(index))], **more)


def _zone(request: GangRequest) -> str:
    """``eastus-1`` or ``1``: Azure numbers the zones of a region."""
    return request.offer.zone.rpartition("-")[2]


def _image(request: GangRequest, settings: AzureCloud) -> dict[str, Any]:
    own = "" if request.image.startswith("docker:") else request.image
    size = request.offer.instance_type
    sku = "server-arm64" if is_arm(size) else "server-gen1" if is_first_generation(size) else "server"
    plain = settings.image or _UBUNTU.format(sku=sku)
    image = own or (settings.accelerated_image if request.offer.accelerator else plain)
    if not is_image(image):
        raise InvalidRequestError(f"resources.image_id: {image!r} is no image of Azure.", hint=IMAGE_HINT)
    if image.startswith("/"):
        return {"id": image}
    return dict(zip(("publisher", "offer", "sku", "version"), image.split(":"), strict=True))


@cache
def _nobodys_key() -> str:
    """Azure wants a key for every Linux machine. The private half of this one is kept nowhere."""
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
