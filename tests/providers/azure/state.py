"""What Azure holds: resource groups, deployments, machines and what they need; and how it all goes on."""

from __future__ import annotations

import base64
import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.providers.azure.template import MACHINE, resolved
from tests.providers.hosts import Host

SUBSCRIPTION = "00000000-0000-0000-0000-00000000000a"
ALLOCATION = frozenset(
    {
        *("AllocationFailed", "OverconstrainedAllocationRequest", "OverconstrainedZonalAllocationRequest"),
        "ZonalAllocationFailed",
    }
)
LATER = ALLOCATION | {"SubnetIsFull"}
"""What Azure finds out after it accepted a deployment."""


@dataclass
class Group:
    name: str
    location: str
    tags: dict[str, str]
    deleting: bool = False
    deployment: dict[str, Any] | None = None
    template: dict[str, Any] = field(default_factory=dict)
    fails: str = ""
    vms: dict[str, dict[str, Any]] = field(default_factory=dict)
    others: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    disks: set[str] = field(default_factory=set)

    @property
    def id(self) -> str:
        return f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{self.name}"

    def shown(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "type": "Microsoft.Resources/resourceGroups",
            "location": self.location,
            "tags": self.tags,
            "properties": {"provisioningState": "Deleting" if self.deleting else "Succeeded"},
        }


class Cloud:
    """``room``: how many machines more it has, None for any number. With ``hosts`` its machines are real.

    ``fails_to_start``: the code with which the next start ends. ``deployments``: how many were accepted.
    """

    def __init__(self, hosts: Path | None) -> None:
        self.groups: dict[str, Group] = {}
        self.machines: dict[str, Host] = {}
        self.room: int | None = None
        self.fails_to_start = ""
        self.deployments = 0
        self._hosts = hosts
        self._addresses = itertools.count(1)

    def settle(self, metadata: str) -> None:
        """All that is under way ends. ``metadata``: URL below which machines find their metadata service."""
        for group in list(self.groups.values()):
            if group.deleting:
                for name in list(group.vms):
                    self.remove(group, name)
                del self.groups[group.name]
                continue
            if group.deployment and group.deployment["properties"]["provisioningState"] == "Running":
                self._carry_out(group)
            for name, vm in list(group.vms.items()):
                self._advance(group, name, vm, metadata)

    def remove(self, group: Group, name: str) -> None:
        """A machine and what its ``deleteOption`` names."""
        self._power_off(group, name)
        group.vms.pop(name, None)
        group.disks.discard(f"{name}-osdisk")
        for kind in ("networkInterfaces", "publicIPAddresses"):
            group.others.pop((kind, name), None)

    def _advance(self, group: Group, name: str, vm: dict[str, Any], metadata: str) -> None:
        if vm["properties"]["provisioningState"] == "Deleting":
            self.remove(group, name)
        elif vm["power"] == "deallocating":
            self._power_off(group, name)
            vm["power"] = "deallocated"
        elif vm["power"] == "starting" and self.fails_to_start:
            vm["power"], vm["failed"] = "deallocated", self.fails_to_start
            vm["properties"]["provisioningState"], self.fails_to_start = "Failed", ""
        elif vm["power"] == "starting":
            vm["power"], vm["failed"] = "running", ""
            vm["properties"]["provisioningState"] = "Succeeded"
            self._power_on(group, name, vm, metadata)

    def _carry_out(self, group: Group) -> None:
        assert group.deployment is not None
        resources = group.template["resources"]
        machines = [one for one in resources if one["type"] == MACHINE]
        failure = group.fails
        if not failure and self.room is not None:
            failure = "ZonalAllocationFailed" if self.room < len(machines) else ""
            self.room -= 0 if failure else len(machines)
        for resource in resources:
            last = resource is machines[-1]
            if last and failure and failure not in ALLOCATION:
                continue
            # A machine that found no room stays behind, and so do the others, which bill.
            self._make(group, resource, failure if last else "")
        properties = group.deployment["properties"]
        properties["provisioningState"] = "Failed" if failure else "Succeeded"
        if failure:
            inner = json.dumps({"error": {"code": failure, "message": f"The provider says {failure}."}})
            properties["error"] = {
                "code": "DeploymentFailed",
                "message": "At least one resource deployment operation failed.",
                "details": [{"code": "Conflict", "message": inner, "target": f"{group.id}/{MACHINE}"}],
            }

    def _make(self, group: Group, resource: dict[str, Any], failure: str) -> None:
        kind, name = resource["type"].rpartition("/")[2], resource["name"]
        body = {one: value for one, value in resource.items() if one not in ("apiVersion", "dependsOn")}
        made = resolved(json.loads(json.dumps(body)), group.id)
        # Azure writes the group's name in capitals here.
        made["id"] = f"{group.id.replace(group.name, group.name.upper())}/providers/{resource['type']}/{name}"
        made["properties"]["provisioningState"] = "Failed" if failure else "Succeeded"
        if kind == "virtualMachines":
            made |= {"power": "deallocated" if failure else "starting", "failed": failure}
            group.vms[name] = made
            group.disks.add(f"{name}-osdisk")
            return
        if kind == "publicIPAddresses":
            made["properties"]["ipAddress"] = f"203.0.113.{next(self._addresses) % 250}"
        if kind == "networkInterfaces":
            main = made["properties"]["ipConfigurations"][0]["properties"]
            main.setdefault("privateIPAddress", f"172.16.0.{next(self._addresses) % 250}")
        group.others[(kind, name)] = made

    # --- machines that are processes ---

    def _power_on(self, group: Group, name: str, vm: dict[str, Any], metadata: str) -> None:
        if self._hosts is None:
            return
        machine_id = f"{group.name}/{name}"
        if machine_id not in self.machines:
            script = base64.b64decode(vm["properties"]["osProfile"]["customData"]).decode()
            folder = self._hosts / group.name / name
            self.machines[machine_id] = Host(folder, script, metadata_url=f"{metadata}/{machine_id}")
        self.machines[machine_id].power_on()

    def _power_off(self, group: Group, name: str) -> None:
        host = self.machines.get(f"{group.name}/{name}")
        if host is not None:
            host.power_off()


def machine_shown(vm: dict[str, Any], *, power: bool) -> dict[str, Any]:
    """As Azure shows it, without what it was sent in secret."""
    properties = json.loads(json.dumps(vm["properties"]))
    properties.get("osProfile", {}).pop("customData", None)
    if power:
        state = {"code": "ProvisioningState/succeeded", "level": "Info"}
        if vm["failed"]:
            words = f"The provider says {vm['failed']}."
            state = {"code": f"ProvisioningState/failed/{vm['failed']}", "level": "Error", "message": words}
        statuses = [state, {"code": f"PowerState/{vm['power']}", "level": "Info"}]
        properties["instanceView"] = {"statuses": statuses}
    shown = {name: value for name, value in vm.items() if name not in ("power", "failed")}
    return {**shown, "properties": properties}
