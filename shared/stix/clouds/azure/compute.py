"""``AzureCompute``: the cloud ``azure``."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from stix.clouds.azure.connection import Clients
from stix.clouds.azure.errors import refusal, translated
from stix.clouds.azure.facts import SPOT_FAMILY, family_key
from stix.clouds.azure.machines import (
    Gang,
    gang_of,
    group_tags,
    is_over,
    is_whole,
    machines_of,
    why,
)
from stix.clouds.azure.settings import AzureCloud, from_config
from stix.clouds.azure.template import gang_template, vm_name
from stix.model.errors import (
    InvalidRequestError,
    NotYetTerminatedError,
    ProviderError,
    StixError,
    ThrottledError,
)
from stix.ports.compute import GangRequest, Machine, MachineState, Place, Quota
from stix.ports.surroundings import Clock

__all__ = ["AzureCompute", "connect"]

_DEPLOYMENT = "gang"
_MISMATCH = "TokenMismatch"
_ID = re.compile(r"(stix-[0-9a-f]{32})/(node-[0-9]+)")
_FEW = 8
"""So many machines are looked at one by one; the power of more comes from one listing of the subscription."""


def connect(config: Mapping[str, Any], *, deployment: str, clock: Clock) -> AzureCompute:
    """No request is sent. Raises ``InvalidInputError`` for a wrong setting, ``CredentialsError`` without a
    subscription."""
    return AzureCompute(from_config(config))


class AzureCompute:
    """Implements ``Compute``, ``StopsMachines``, ``HoldsMore`` and ``ReportsQuotas``.

    A gang is a resource group named by its token, filled by one deployment: nothing of it is outside, and
    deleting the group leaves nothing.
    """

    cloud = "azure"

    def __init__(self, settings: AzureCloud) -> None:
        self._settings = settings
        self._to = Clients(settings, os.environ)

    # --- Compute ---

    def create(self, request: GangRequest) -> list[str]:
        if request.offer.cloud != self.cloud or request.count < 1:
            raise InvalidRequestError(
                f"{request.count} machines of {request.offer.place!r} cannot be made by azure."
            )
        group = _group_name(request.token)
        template = gang_template(request, self._settings)
        try:
            self._deploy(group, request, template)
        except ThrottledError:
            raise  # The same call again goes on from here.
        except ProviderError as error:
            if error.provider_code != _MISMATCH:
                # Refused: the attempt is over.
                with suppress(StixError):
                    self._delete(group)
            raise
        return [f"{group}/{vm_name(index)}" for index in range(request.count)]

    def _deploy(self, group: str, request: GangRequest, template: dict[str, Any]) -> None:
        gang = self._gang(group)
        if gang is None:
            tags = group_tags(request, _asked(request))
            with translated():
                self._to.groups.create_or_update(group, {"location": request.offer.region, "tags": tags})
        elif gang.asked != _asked(request):
            raise InvalidRequestError(
                f"The token {request.token} was used for another gang.",
                hint="Every attempt needs a token of its own.",
                provider_code=_MISMATCH,
            )
        elif gang.deleting:
            raise refusal("ResourceGroupBeingDeleted", f"The group {group} is being deleted")
        deployment = self._deployment(group)
        if deployment is None:
            body = {"properties": {"mode": "Incremental", "template": template}}
            with translated("DeploymentActive"):
                # The answer says that it was accepted; nobody waits for its end.
                self._to.deployments.begin_create_or_update(group, _DEPLOYMENT, body, polling=False)
        elif failed := why(deployment):
            raise refusal(*failed)

    def describe(self, place: Place, machine_ids: Sequence[str]) -> list[Machine]:
        known: dict[str, Machine] = {}
        for group in sorted(_by_group(machine_ids)):
            gang = self._gang(group)
            if gang is not None:
                known |= {machine.id: machine for machine in self._machines(gang)}
        return [
            known.get(one) or Machine(one, MachineState.TERMINATED, {}, reason="Azure does not know it")
            for one in machine_ids
        ]

    def terminate(self, place: Place, machine_ids: Sequence[str]) -> None:
        for group, names in _by_group(machine_ids).items():
            gang = self._gang(group)
            if gang is None or gang.deleting:
                continue
            if gang.count and set(gang.names) <= names:
                # With the group goes all that it holds.
                self._delete(group)
                continue
            self._check_over(group)
            with translated("NotFound"):
                present = {str(vm.name) for vm in self._to.machines.list(group)}
                if present <= names:
                    self._delete(group)
                    continue
                for name in sorted(names & present):
                    with translated("NotFound"):
                        self._to.machines.begin_delete(group, name, polling=False)

    def list_tagged(self, place: Place, deployment: str) -> Iterator[Machine]:
        chosen = f"tagName eq 'stix-deployment' and tagValue eq '{deployment}'"
        with translated():
            groups = [one for one in self._to.groups.list(filter=chosen) if one.location == place.region]
        if not groups:
            return
        gangs = [gang_of(group) for group in groups]
        views = self._power({gang.group for gang in gangs})
        for gang in gangs:
            for machine in self._machines(gang, views.get(gang.group, {})):
                if machine.state is not MachineState.TERMINATED:
                    yield machine

    def identity(self) -> str:
        with translated():
            next(iter(self._to.groups.list(top=1)), None)
        return f"subscription {self._to.subscription_id}"

    # --- StopsMachines ---

    def stop(self, place: Place, machine_ids: Sequence[str]) -> None:
        for machine in self.describe(place, machine_ids):
            group, _, name = machine.id.partition("/")
            if machine.state is MachineState.PENDING:
                self._check_over(group)
            elif machine.state is not MachineState.RUNNING:
                continue
            with translated("NotFound"):
                # Only a deallocated machine costs no machine time.
                self._to.machines.begin_deallocate(group, name, polling=False)

    def start(self, place: Place, machine_ids: Sequence[str]) -> None:
        """A running machine is success. Raises ``NotYetTerminatedError`` while one is still stopping."""
        stopped = []
        for machine in self.describe(place, machine_ids):
            if machine.state in (MachineState.TERMINATING, MachineState.TERMINATED):
                raise InvalidRequestError(f"{machine.id} cannot be started: it was deleted.")
            if machine.state is MachineState.STOPPING:
                raise NotYetTerminatedError(f"{machine.id} cannot be started yet: it is still stopping.")
            if machine.state is MachineState.STOPPED:
                stopped.append(machine.id)
        for one in stopped:
            group, _, name = one.partition("/")
            with translated():
                self._to.machines.begin_start(group, name, polling=False)

    # --- HoldsMore, ReportsQuotas ---

    def release(self, place: Place, token: str) -> None:
        gang = self._gang(_group_name(token))
        if gang is None:
            return
        if not gang.deleting:
            self._delete(gang.group)
        raise NotYetTerminatedError(f"The resource group {gang.group} is still being deleted.")

    def quotas(self, place: Place) -> list[Quota]:
        with translated():
            usages = list(self._to.usage.list(place.region))
        families = [(family_key(str(one.name.value)), one) for one in usages]
        return [
            Quota(family, family == SPOT_FAMILY, float(one.limit), float(one.current_value), "vcpus")
            for family, one in families
            if family.endswith("family") or family == SPOT_FAMILY
        ]

    # --- what is there ---

    def _gang(self, group: str) -> Gang | None:
        with translated("NotFound"):
            return gang_of(self._to.groups.get(group))
        return None

    def _deployment(self, group: str) -> dict[str, Any] | None:
        """The properties of the gang's deployment."""
        with translated("NotFound"):
            found = self._to.deployments.get(group, _DEPLOYMENT).as_dict()
            return dict(found["properties"])
        return None

    def _check_over(self, group: str) -> None:
        """A machine that is still to be made cannot be ended or stopped by itself."""
        if not is_over(self._deployment(group)):
            raise NotYetTerminatedError(f"The machines of {group} are still being made.")

    def _delete(self, group: str) -> None:
        kinds = "Microsoft.Compute/virtualMachines"
        with translated("NotFound"):
            self._to.groups.begin_delete(group, force_deletion_types=kinds, polling=False)

    def _machines(self, gang: Gang, views: Mapping[str, Any] | None = None) -> Iterator[Machine]:
        """``views``: what is known of them already, without addresses."""
        if views is None:
            views = self._look(gang.group)
        deployment = None
        if not gang.deleting and not is_whole(gang, views):
            # What was made meanwhile must not seem to be gone: the machines are read after the deployment.
            deployment = self._deployment(gang.group)
            views = self._look(gang.group)
        return machines_of(gang, views, deployment)

    def _look(self, group: str) -> dict[str, dict[str, Any]]:
        """The group's machines with power states and addresses, by name."""
        found: dict[str, dict[str, Any]] = {}
        with translated("NotFound"):
            there = {str(vm.name): vm.as_dict() for vm in self._to.machines.list(group)}
            many = self._power({group}).get(group, {}) if len(there) > _FEW else {}
            for name, vm in there.items():
                if name in many:
                    view = many[name]["properties"].get("instanceView")
                    found[name] = {**vm, "properties": {**vm["properties"], "instanceView": view}}
                    continue
                with translated("NotFound"):
                    found[name] = self._to.machines.get(group, name, expand="instanceView").as_dict()
            if found:
                self._add_addresses(group, found)
        return found

    def _add_addresses(self, group: str, found: dict[str, dict[str, Any]]) -> None:
        """Interfaces and public addresses are named as their machines."""
        public = {str(one.name): one.as_dict() for one in self._to.addresses.list(group)}
        for interface in self._to.interfaces.list(group):
            name = str(interface.name)
            if name in found:
                main = interface.as_dict()["properties"]["ipConfigurations"][0]["properties"]
                outside = public.get(name, {}).get("properties", {}).get("ipAddress", "")
                found[name]["addresses"] = (main.get("privateIPAddress", ""), outside)

    def _power(self, groups: set[str]) -> dict[str, dict[str, dict[str, Any]]]:
        """Machines with their power states, by name, by group: one listing for them all. Azure writes groups
        in capitals there."""
        found: dict[str, dict[str, dict[str, Any]]] = {}
        with translated():
            for vm in self._to.machines.list_all(status_only="true"):
                group = str(vm.id).split("/")[4].lower()
                if group in groups:
                    found.setdefault(group, {})[str(vm.name)] = vm.as_dict()
        return found


def _by_group(machine_ids: Sequence[str]) -> dict[str, set[str]]:
    """Names of machines by group; what was never an id of ours is left out."""
    found: dict[str, set[str]] = {}
    for one in machine_ids:
        if parts := _ID.fullmatch(one):
            found.setdefault(parts[1], set()).add(parts[2])
    return found


def _group_name(token: str) -> str:
    return f"stix-{token}"


def _asked(request: GangRequest) -> str:
    """The same for the same gang; the join token may be another at the second call."""
    offer = request.offer.model_dump(mode="json", exclude={"price", "price_as_of"})
    disk = (request.disk_size_gib, request.disk_tier)
    parts = (request.count, offer, dict(request.tags), request.ports, request.image, disk)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
