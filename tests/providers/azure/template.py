"""What Resource Manager makes of a deployment's template: it checks it, resolves what refers to what, and
asks for the rights to all of it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

import azure.mgmt.compute.models as compute_models
import azure.mgmt.network.models as network_models

from tests.providers.azure.shapes import violations

MODELS: dict[str, Any] = {
    "Microsoft.Compute/virtualMachines": compute_models.VirtualMachine,
    "Microsoft.Network/networkInterfaces": network_models.NetworkInterface,
    "Microsoft.Network/publicIPAddresses": network_models.PublicIPAddress,
    "Microsoft.Network/networkSecurityGroups": network_models.NetworkSecurityGroup,
    "Microsoft.Network/virtualNetworks": network_models.VirtualNetwork,
}
MACHINE = "Microsoft.Compute/virtualMachines"
_SIZES = re.compile(r"Standard_[A-Z]+\d+(-\d+)?[a-z]*(_[A-Za-z0-9]+)*")
_REFERENCE = re.compile(r"\[resourceId\((.*)\)\]")
_ENVELOPE = ("type", "name", "apiVersion", "dependsOn")
"""Of a template's resource, not of the model."""
# Field by field what a reference to another resource takes.
_LINKS = {
    "networkSecurityGroup": "Microsoft.Network/networkSecurityGroups/join/action",
    "networkInterfaces": "Microsoft.Network/networkInterfaces/join/action",
    "publicIPAddress": "Microsoft.Network/publicIPAddresses/join/action",
    "subnet": "Microsoft.Network/virtualNetworks/subnets/join/action",
}


def schema_violations(template: dict[str, Any]) -> list[str]:
    """What is no template, or no resource as its provider describes it."""
    found = [f"template.{name}: unknown" for name in template if name not in _TEMPLATE]
    found += [f"template.{name}: required" for name in _TEMPLATE if name not in template]
    for resource in template["resources"]:
        kind = resource["type"]
        body = {name: value for name, value in resource.items() if name not in _ENVELOPE}
        found += violations(MODELS[kind], body, sent=True, path=kind)
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", resource.get("apiVersion", "")):
            found.append(f"{kind}.apiVersion: {resource.get('apiVersion')!r}")
    return found


_TEMPLATE = ("$schema", "contentVersion", "resources")


def refused(template: dict[str, Any]) -> tuple[str, str] | None:
    """Code and words of what Azure finds wrong before it accepts the template."""
    resources = template["resources"]
    if len(resources) > 800 or len(json.dumps(template)) > 4 * 2**20:
        return "InvalidTemplate", "The template has more than 800 resources or 4 MB."
    made = {f"[resourceId('{one['type']}', '{one['name']}')]" for one in resources}
    for resource in resources:
        needs = set(resource.get("dependsOn", ()))
        used = {one for one in _references(resource["properties"]) if "/subnets'" not in one}
        if not needs | used <= made or not used <= needs:
            return "InvalidTemplate", f"{resource['name']} refers to what is not defined or not awaited."
        if len(resource.get("tags", {})) > 50 or any(len(one) > 256 for one in resource["tags"].values()):
            return "InvalidTagNameCharacters", "Too many or too long tags."
        if any(set("<>%&\\?/") & set(name) for name in resource["tags"]):
            return "InvalidTagNameCharacters", "A tag's name has one of <>%&\\?/."
        if resource["type"] == MACHINE:
            size = resource["properties"]["hardwareProfile"]["vmSize"]
            if not _SIZES.fullmatch(size):
                return "InvalidParameter", f"The value {size} provided for the VM size is not valid."
            if len(base64.b64decode(resource["properties"]["osProfile"]["customData"])) > 65535:
                return "InvalidParameter", "Custom data in OSProfile is too long."
    return None


def rights(template: dict[str, Any]) -> Iterator[str]:
    """The actions that carrying it out takes."""
    for resource in template["resources"]:
        yield f"{resource['type']}/write"
        yield from _linked(resource["properties"])
        if resource["type"] == MACHINE:
            yield "Microsoft.Compute/disks/write"
            image = resource["properties"]["storageProfile"]["imageReference"].get("id", "")
            if "/galleries/" in image:
                yield "Microsoft.Compute/galleries/images/versions/read"
            elif image:
                yield "Microsoft.Compute/images/read"


def resolved(value: Any, group_id: str) -> Any:
    """With ids in the place of references."""
    if isinstance(value, dict):
        return {name: resolved(one, group_id) for name, one in value.items()}
    if isinstance(value, list):
        return [resolved(one, group_id) for one in value]
    found = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return value
    kind, *names = re.findall(r"'([^']*)'", found[1])
    provider, *kinds = kind.split("/")
    path = "/".join(part for pair in zip(kinds, names, strict=True) for part in pair)
    return f"{group_id}/providers/{provider}/{path}"


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _references(one)
    elif isinstance(value, str) and value.startswith("[resourceId("):
        yield value


def _linked(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for one in value:
            yield from _linked(one)
    elif isinstance(value, dict):
        for name, one in value.items():
            if name in _LINKS and one:
                yield _LINKS[name]
            yield from _linked(one)
