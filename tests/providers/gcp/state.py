"""What Compute Engine holds: networks, rules, machines with their disks, and the operations on them."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from tests.providers.gcp.filters import FilterError, matcher

__all__ = ["State", "Wrong"]

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL = re.compile(r"[a-z0-9_-]{0,63}")
_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_MOST_METADATA = 262144
_TIME = "2026-01-01T00:00:00.000-08:00"
_PACIFIC = timezone(timedelta(hours=-8))
_WITH_LOCAL_SSD = ("a2-ultragpu-", "a3-")


class Wrong(Exception):
    """A refusal of a request."""

    def __init__(self, reason: str, words: str) -> None:
        super().__init__(words)
        self.reason = reason
        self.words = words


class State:
    def __init__(
        self,
        project: str,
        zones: dict[str, list[str]],
        url: str,
        power: Callable[[dict[str, Any], bool], None],
    ) -> None:
        self.room: int | None = None
        self.networks: dict[str, dict[str, Any]] = {}
        self.firewalls: dict[str, dict[str, Any]] = {}
        self.machines: dict[str, dict[str, Any]] = {}
        self.quotas: list[dict[str, Any]] = [
            {"metric": "CPUS", "limit": 72.0, "usage": 8.0},
            {"metric": "N2_CPUS", "limit": 24.0, "usage": 0.0},
            {"metric": "PREEMPTIBLE_CPUS", "limit": 0.0, "usage": 0.0},
            {"metric": "NVIDIA_L4_GPUS", "limit": 4.0, "usage": 1.0},
            {"metric": "PREEMPTIBLE_NVIDIA_L4_GPUS", "limit": 0.0, "usage": 0.0},
            {"metric": "COMMITTED_CPUS", "limit": 9.0, "usage": 0.0},
            {"metric": "STATIC_ADDRESSES", "limit": 8.0, "usage": 0.0},
        ]
        self._project = project
        self._zones = zones
        self.now: Callable[[], float] = time.time
        self._root = f"{url}/compute/v1/projects/{project}"
        self._power = power
        self._operations: list[tuple[str, dict[str, Any]]] = []
        self._under_way: list[tuple[dict[str, Any], Callable[[], None]]] = []
        self._hidden: set[str] = set()
        self._not_ready: set[str] = set()
        self._addresses = 0

    # --- operations ---

    def settle(self) -> None:
        under_way, self._under_way = self._under_way, []
        for operation, finish in under_way:
            operation["status"], operation["progress"] = "DONE", 100
            operation["endTime"] = _TIME
            finish()

    def add_operation(
        self,
        scope: str,
        kind: str,
        target: str,
        finish: Callable[[], None] | None = None,
        *,
        client_id: str = "",
    ) -> dict[str, Any]:
        name = f"operation-{len(self._operations) + 1}"
        where = scope.partition("/")[0].removesuffix("s")
        operation = {
            "kind": "compute#operation",
            "id": str(len(self._operations) + 1),
            "name": name,
            "operationType": kind,
            "targetLink": f"{self._root}/{scope}/{target}".rstrip("/"),
            "status": "RUNNING",
            "progress": 0,
            "insertTime": _TIME,
            "startTime": _TIME,
            "user": "stix@stix-test.iam.gserviceaccount.com",
            "selfLink": f"{self._root}/{scope}/operations/{name}",
        }
        if where in ("zone", "region"):
            operation[where] = f"{self._root}/{scope}"
        if client_id:
            operation["clientOperationId"] = client_id
        self._operations.append((scope, operation))
        if finish is None:
            operation |= {"status": "DONE", "progress": 100, "endTime": _TIME}
        else:
            self._under_way.append((operation, finish))
        return operation

    def operations(self, wanted: str) -> list[tuple[str, dict[str, Any]]]:
        matches = _matcher(wanted)
        return [(scope, one) for scope, one in self._operations if matches(one)]

    # --- networks ---

    def get_network(self, name: str) -> dict[str, Any]:
        if name not in self.networks or name in self._not_ready:
            raise _absent(f"global/networks/{name}")
        return self.networks[name]

    def insert_network(self, body: dict[str, Any], *, slow: bool) -> dict[str, Any]:
        name = self._new(body, self.networks, "networks")
        self.networks[name] = {"kind": "compute#network", **body}
        if not slow:
            return self.add_operation("global", "insert", f"networks/{name}")
        self._not_ready.add(name)
        return self.add_operation(
            "global", "insert", f"networks/{name}", lambda: self._not_ready.discard(name)
        )

    def get_firewall(self, name: str) -> dict[str, Any]:
        if name not in self.firewalls:
            raise _absent(f"global/firewalls/{name}")
        return self.firewalls[name]

    def insert_firewall(self, body: dict[str, Any]) -> dict[str, Any]:
        name = self._new(body, self.firewalls, "firewalls")
        self._check_network(body["network"])
        self.firewalls[name] = {"kind": "compute#firewall", **body}
        return self.add_operation("global", "insert", f"firewalls/{name}")

    def delete_firewall(self, name: str) -> dict[str, Any]:
        self.get_firewall(name)
        del self.firewalls[name]
        return self.add_operation("global", "delete", f"firewalls/{name}")

    def _new(self, body: dict[str, Any], there: dict[str, Any], kind: str) -> str:
        name = str(body["name"])
        if not _NAME.fullmatch(name):
            raise Wrong("invalid", f"Invalid value for field 'resource.name': '{name}'.")
        if name in there:
            raise Wrong(
                "alreadyExists",
                f"The resource 'projects/{self._project}/global/{kind}/{name}' already exists",
            )
        return name

    def _check_network(self, link: str) -> None:
        name = link.rpartition("/")[2]
        if name in self._not_ready:
            raise Wrong("resourceNotReady", f"The resource '{link}' is not ready")
        if name not in self.networks:
            raise Wrong("invalid", f"Invalid value for field 'network': '{link}'. It was not found.")

    def get_region(self, name: str) -> dict[str, Any]:
        if name not in self._zones:
            raise _absent(f"regions/{name}")
        return {"kind": "compute#region", "name": name, "status": "UP", "quotas": self.quotas}

    # --- machines ---

    def instances(self, wanted: str) -> list[tuple[str, dict[str, Any]]]:
        matches = _matcher(wanted)
        return [
            (f"zones/{one['zone'].rpartition('/')[2]}", one)
            for name, one in sorted(self.machines.items())
            if name not in self._hidden and matches(one)
        ]

    def bulk_insert(
        self,
        zone: str,
        region: str,
        body: dict[str, Any],
        client_id: str,
        *,
        refusal: tuple[str, str] | None,
        slow: bool,
        instant: bool,
    ) -> dict[str, Any]:
        if not client_id or uuid.UUID(client_id).int == 0:
            raise Wrong("invalid", "Invalid value for field 'requestId'.")
        for _, earlier in self._operations:
            if earlier.get("clientOperationId") == client_id:
                return earlier
        region = region or zone.rpartition("-")[0]
        if region not in self._zones or (zone and zone not in self._zones[region]):
            raise Wrong("notFound", f"The resource 'projects/{self._project}/zones/{zone}' was not found")
        if not zone and body.get("locationPolicy", {}).get("targetShape") != "ANY_SINGLE_ZONE":
            raise Wrong("invalid", "Invalid value for field 'locationPolicy'.")
        properties = body["instanceProperties"]
        _check_properties(properties)
        for interface in properties["networkInterfaces"]:
            self._check_network(interface["network"])
        names, least = list(body["perInstanceProperties"]), int(body["minCount"])
        if len(names) != int(body["count"]) or not all(_NAME.fullmatch(name) for name in names):
            raise Wrong("invalid", "Invalid value for field 'resource.perInstanceProperties'.")
        if self.room is not None and self.room < least:
            code = "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"
            refusal = refusal or (
                code,
                f"The zone '{zone or region}' does not have enough resources available to fulfill the"
                " request. '(resource type:compute)'.",
            )
        if any(name in self.machines for name in names):
            refusal = ("RESOURCE_ALREADY_EXISTS", f"The resource '{names[0]}' already exists")
        scope = f"zones/{zone}" if zone else f"regions/{region}"
        chosen = zone or self._zones[region][0]
        placed = names[: self.room] if refusal is not None and self.room is not None else names
        if refusal is not None and (self.room is None or self.room >= least or instant):
            placed = []
        for name in placed:
            self.machines[name] = self._machine(name, chosen, properties)
        if slow:
            self._hidden |= set(placed)
        if refusal is None:
            if self.room is not None:
                self.room -= len(names)
            finish = self._running(placed)
        else:
            finish = self._vanished(placed)
        operation = self.add_operation(scope, "bulkInsert", "", finish, client_id=client_id)
        if refusal is not None:
            self._under_way.remove((operation, finish))
            failure = {"errors": [{"code": refusal[0], "message": refusal[1]}]}

            def fail() -> None:
                operation.update(error=failure, httpErrorStatusCode=503, httpErrorMessage="UNAVAILABLE")
                finish()

            self._under_way.append((operation, fail))
            if instant:
                self.settle()
        return operation

    def _machine(self, name: str, zone: str, properties: dict[str, Any]) -> dict[str, Any]:
        self._addresses += 1
        kind = properties["machineType"]
        interfaces = []
        for interface in properties["networkInterfaces"]:
            address = f"10.128.{self._addresses // 250}.{self._addresses % 250 + 2}"
            accesses = [
                {**access, "natIP": f"203.0.113.{self._addresses % 250 + 1}"}
                for access in interface.get("accessConfigs", ())
            ]
            interfaces.append({**interface, "networkIP": address, "accessConfigs": accesses})
        disks: list[dict[str, Any]] = [
            {
                "type": "PERSISTENT",
                "mode": "READ_WRITE",
                "boot": True,
                "autoDelete": True,
                "deviceName": "persistent-disk-0",
                "source": f"{self._root}/zones/{zone}/disks/{name}",
                "diskSizeGb": properties["disks"][0]["initializeParams"]["diskSizeGb"],
            }
        ]
        if kind.startswith(_WITH_LOCAL_SSD):
            disks.append({"type": "SCRATCH", "mode": "READ_WRITE", "deviceName": "local-ssd-0"})
        return {
            "kind": "compute#instance",
            "id": str(self._addresses),
            "name": name,
            "zone": f"{self._root}/zones/{zone}",
            "machineType": f"{self._root}/zones/{zone}/machineTypes/{kind}",
            "status": "PROVISIONING",
            "labels": properties["labels"],
            "metadata": properties["metadata"],
            "tags": properties["tags"],
            "scheduling": properties["scheduling"],
            "networkInterfaces": interfaces,
            "disks": disks,
            "guestAccelerators": properties.get("guestAccelerators", []),
            "serviceAccounts": properties.get("serviceAccounts", []),
        }

    def add_machines(self, count: int, *, zone: str, properties: dict[str, Any]) -> None:
        """Running ones, at once."""
        for _ in range(count):
            name = f"machine-{len(self.machines)}"
            self.machines[name] = {**self._machine(name, zone, properties), "status": "RUNNING"}

    def _running(self, names: list[str]) -> Callable[[], None]:
        def finish() -> None:
            for name in names:
                self._hidden.discard(name)
                machine = self.machines.get(name)
                if machine is not None and machine["status"] in ("PROVISIONING", "STAGING"):
                    machine["status"] = "RUNNING"
                    self._power(machine, True)

        return finish

    def _vanished(self, names: list[str]) -> Callable[[], None]:
        def finish() -> None:
            for name in names:
                self._hidden.discard(name)
                machine = self.machines.pop(name, None)
                if machine is not None:
                    self._power(machine, False)

        return finish

    def _find(self, zone: str, name: str) -> dict[str, Any]:
        machine = self.machines.get(name)
        if machine is None or not machine["zone"].endswith(f"/{zone}"):
            raise _absent(f"zones/{zone}/instances/{name}")
        return machine

    def _deleting(self, name: str) -> bool:
        return any(
            operation["operationType"] == "delete" and operation["targetLink"].endswith(f"/{name}")
            for operation, _ in self._under_way
        )

    def delete(self, zone: str, name: str) -> dict[str, Any]:
        machine = self._find(zone, name)
        if self._deleting(name):
            raise Wrong("resourceNotReady", f"The resource '{name}' is not ready")
        machine["status"] = "STOPPING"
        self._power(machine, False)
        return self.add_operation(f"zones/{zone}", "delete", f"instances/{name}", self._vanished([name]))

    def stop(self, zone: str, name: str, *, discard: bool) -> dict[str, Any]:
        machine = self._find(zone, name)
        if any(disk["type"] == "SCRATCH" for disk in machine["disks"]) and not discard:
            raise Wrong("badRequest", f"{name} has a local SSD: set discardLocalSsd.")
        if self._deleting(name):
            raise Wrong("resourceNotReady", f"The resource '{name}' is not ready")
        machine["status"] = "STOPPING"
        self._power(machine, False)

        def finish() -> None:
            if machine["status"] == "STOPPING" and not self._deleting(name):
                machine["status"] = "TERMINATED"
                ended = datetime.fromtimestamp(self.now(), _PACIFIC)
                machine["lastStopTimestamp"] = ended.isoformat(timespec="milliseconds")

        return self.add_operation(f"zones/{zone}", "stop", f"instances/{name}", finish)

    def start(self, zone: str, name: str) -> dict[str, Any]:
        machine = self._find(zone, name)
        if machine["status"] != "TERMINATED":
            raise Wrong("resourceNotReady", f"The resource '{name}' is not ready")
        machine["status"] = "STAGING"
        return self.add_operation(f"zones/{zone}", "start", f"instances/{name}", self._running([name]))

    def preempt(self, name: str) -> None:
        machine = self.machines[name]
        if machine["scheduling"].get("provisioningModel") != "SPOT":
            raise ValueError(f"{name} is no spot machine")
        machine["status"] = "STOPPING"
        self._power(machine, False)
        scope = f"zones/{machine['zone'].rpartition('/')[2]}"
        operation = self.add_operation(
            scope, "compute.instances.preempted", f"instances/{name}", self._vanished([name])
        )
        operation["statusMessage"] = "Instance was preempted."


def _check_properties(properties: dict[str, Any]) -> None:
    labels = properties.get("labels", {})
    for key, value in labels.items():
        if not _KEY.fullmatch(key) or not _LABEL.fullmatch(value):
            raise Wrong("invalid", f"Invalid value for field 'labels': '{key}={value}'.")
    if len(labels) > 64:
        raise Wrong("invalid", "Too many labels.")
    for tag in properties["tags"]["items"]:
        if not _NAME.fullmatch(tag):
            raise Wrong("invalid", f"Invalid value for field 'tags.items': '{tag}'.")
    if any(len(item["value"].encode()) > _MOST_METADATA for item in properties["metadata"]["items"]):
        raise Wrong("invalid", "Value for metadata item is too large: maximum size is 262144 bytes.")
    kind = properties["machineType"]
    if "/" in kind or not _NAME.fullmatch(kind):
        raise Wrong("invalid", f"Invalid value for field 'resource.machineType': '{kind}'.")
    scheduling = properties.get("scheduling", {})
    taken = scheduling.get("provisioningModel") == "SPOT" or properties.get("guestAccelerators")
    if taken and scheduling.get("onHostMaintenance") != "TERMINATE":
        raise Wrong("invalid", "Scheduling must have onHostMaintenance set to TERMINATE.")
    if scheduling.get("provisioningModel") == "SPOT" and scheduling.get("automaticRestart", True):
        raise Wrong("invalid", "Scheduling must have preemptible be false when AutomaticRestart is true.")


def _absent(what: str) -> Wrong:
    return Wrong("notFound", f"The resource '{what}' was not found")


def _matcher(text: str) -> Callable[[Any], bool]:
    try:
        return matcher(text)
    except FilterError as exc:
        raise Wrong("invalid", str(exc)) from exc
