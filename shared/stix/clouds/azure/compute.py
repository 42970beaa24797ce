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
from stix.clouds.azure.errors import leaf_of, refusal, translated
from stix.clouds.azure.facts import SPOT_FAMILY
from stix.clouds.azure.settings import AzureCloud, from_config
from stix.clouds.azure.template import address_of, gang_template, vm_name
from stix.model.errors import (
    InvalidRequestError,
    NotYetTerminatedError,
    ProviderError,
    StixError,
    ThrottledError,
    UnavailableError,
)
from stix.ports.compute import GangRequest, Machine, MachineState, Place, Quota
from stix.ports.surroundings import Clock

__all__ = ["AzureCompute", "connect"]

_DEPLOYMENT = "gang"
_ASKED, _COUNT, _SPOT = "stix-azure-asked", "stix-azure-count", "stix-azure-spot"
"""Tags of a group besides the gang's own."""
_MISMATCH = "TokenMismatch"
_ID = re.compile(r"(stix-[0-9a-f]{32})/node-([0-9]+)")
_POWER = {
    "starting": MachineState.PENDING,
    "running": MachineState.RUNNING,
    "stopping": MachineState.STOPPING,
    "deallocating": MachineState.STOPPING,
    "stopped": MachineState.STOPPED,
    "deallocated": MachineState.STOPPED,
}
_ENDED = ("Failed", "Canceled")


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
        except (ThrottledError, UnavailableError):
            raise  # Nobody knows what was made, or it goes on: the same call again finds it.
        except ProviderError as error:
            if error.provider_code != _MISMATCH:
                # Refused: the attempt is over.
                with suppress(StixError):
                    self._delete(group)
            raise
        return [f"{group}/{vm_name(index)}" for index in range(request.count)]

    def _deploy(self, group: str, request: GangRequest, template: dict[str, Any]) -> None:
        found = self._group(group)
        if found is None:
            body = {
                "location": request.offer.region,
                "tags": {
                    **request.tags,
                    _ASKED: _asked(request),
                    _COUNT: str(request.count),
                    _SPOT: "1" if request.offer.spot else "0",
                },
            }
            with translated():
                self._to.groups.create_or_update(group, body)
        elif (found.tags or {}).get(_ASKED) != _asked(request):
            raise InvalidRequestError(
                f"The token {request.token} was used for another gang.",
                hint="Every attempt needs a token of its own.",
                provider_code=_MISMATCH,
            )
        elif _is_deleting(found):
            raise refusal("ResourceGroupBeingDeleted", f"The group {group} is being deleted")
        deployment = self._deployment(group)
        if deployment is None:
            body = {"properties": {"mode": "Incremental", "template": template}}
            with translated("DeploymentActive"):
                # The answer says that it was accepted; nobody waits for its end.
                self._to.deployments.begin_create_or_update(group, _DEPLOYMENT, body, polling=False)
        elif deployment["provisioningState"] in _ENDED:
            raise refusal(*_why(deployment))

    def describe(self, place: Place, machine_ids: Sequence[str]) -> list[Machine]:
        groups = {found[1] for one in machine_ids if (found := _ID.fullmatch(one))}
        known: dict[str, Machine] = {}
        for name in sorted(groups):
            group = self._group(name)
            if group is not None:
                known |= {machine.id: machine for machine in self._machines(group)}
        return [
            known.get(one) or Machine(one, MachineState.TERMINATED, {}, reason="Azure does not know it")
            for one in machine_ids
        ]

    def terminate(self, place: Place, machine_ids: Sequence[str]) -> None:
        by_group: dict[str, set[str]] = {}
        for one in machine_ids:
            if found := _ID.fullmatch(one):
                by_group.setdefault(found[1], set()).add(f"node-{found[2]}")
        for group, names in by_group.items():
            there = self._group(group)
            if there is None or _is_deleting(there):
                continue
            with translated("NotFound"):
                present = {str(vm.name) for vm in self._to.machines.list(group)}
                whole = len(names) >= int((there.tags or {}).get(_COUNT) or 0)
                if not whole and not present:
                    self._check_ended(group)
                if present <= names:
                    # The last of them: with the group goes all that it holds.
                    self._delete(group)
                else:
                    for name in sorted(names & present):
                        self._to.machines.begin_delete(group, name, polling=False)

    def list_tagged(self, place: Place, deployment: str) -> Iterator[Machine]:
        chosen = f"tagName eq 'stix-deployment' and tagValue eq '{deployment}'"
        with translated():
            groups = [one for one in self._to.groups.list(filter=chosen) if one.location == place.region]
        if not groups:
            return
        views = self._views({str(group.name).lower() for group in groups})
        for group in groups:
            for machine in self._machines(group, views.get(str(group.name).lower(), {})):
                if machine.state is not MachineState.TERMINATED:
                    yield machine

    def identity(self) -> str:
        with translated():
            next(iter(self._to.groups.list(top=1)), None)
        return f"subscription {self._to.subscription_id}"

    # --- StopsMachines ---

    def stop(self, place: Place, machine_ids: Sequence[str]) -> None:
        for machine in self.describe(place, machine_ids):
            if machine.state in (MachineState.PENDING, MachineState.RUNNING):
                group, _, name = machine.id.partition("/")
                if machine.state is MachineState.PENDING:
                    self._check_ended(group)
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
        group = self._group(_group_name(token))
        if group is None:
            return
        if not _is_deleting(group):
            self._delete(_group_name(token))
        raise NotYetTerminatedError(f"The resource group {_group_name(token)} is still being deleted.")

    def quotas(self, place: Place) -> list[Quota]:
        with translated():
            usages = list(self._to.usage.list(place.region))
        return [
            Quota(name, name == SPOT_FAMILY, float(one.limit), float(one.current_value), "vcpus")
            for one in usages
            if (name := str(one.name.value)).endswith("Family") or name == SPOT_FAMILY
        ]

    def _check_ended(self, group: str) -> None:
        """A machine that is still to be made cannot be ended by itself."""
        deployment = self._deployment(group)
        if deployment is not None and deployment["provisioningState"] not in (*_ENDED, "Succeeded"):
            raise NotYetTerminatedError(f"The machines of {group} are still being made.")

    # --- reading ---

    def _group(self, name: str) -> Any:
        with translated("NotFound"):
            return self._to.groups.get(name)
        return None

    def _deployment(self, group: str) -> dict[str, Any] | None:
        """The properties of the gang's deployment."""
        with translated("NotFound"):
            found = self._to.deployments.get(group, _DEPLOYMENT).as_dict()
            return dict(found["properties"])
        return None

    def _delete(self, group: str) -> None:
        kinds = "Microsoft.Compute/virtualMachines"
        with translated("NotFound"):
            self._to.groups.begin_delete(group, force_deletion_types=kinds, polling=False)

    def _views(self, groups: set[str]) -> dict[str, dict[str, Any]]:
        """Machines with their power state, by name, by group in small letters: one listing for them all."""
        found: dict[str, dict[str, Any]] = {}
        with translated():
            for vm in self._to.machines.list_all(status_only="true"):
                group = str(vm.id).split("/")[4].lower()
                if group in groups:
                    found.setdefault(group, {})[str(vm.name)] = vm.as_dict()
        return found

    def _machines(self, group: Any, views: Mapping[str, Any] | None = None) -> Iterator[Machine]:
        """Every machine that the gang was to have. ``views``: what is known of them already."""
        name, given = str(group.name), dict(group.tags or {})
        tags = {key: value for key, value in given.items() if not key.startswith("stix-azure-")}
        count = int(given.get(_COUNT) or 0)
        if views is None:
            views = self._look(name)
        deleting = _is_deleting(group)
        deployment = None
        if len(views) < count and not deleting:
            # Only a gang that is not whole needs a look at how its deployment went. What was made meanwhile
            # must not seem to be gone: the machines are read after it.
            deployment = self._deployment(name)
            views = self._look(name)
        failure = _why(deployment) if deployment and deployment["provisioningState"] in _ENDED else None
        for index in range(count):
            view = views.get(vm_name(index))
            reason, preempted, zone = "", False, ""
            if deleting:
                state = MachineState.TERMINATING
            elif failure is not None:
                state, reason = MachineState.TERMINATING, f"{failure[0]}: {failure[1]}"
            elif view is not None:
                state, reason = _state(view["properties"])
                zone = next(iter(view.get("zones") or ()), "")
            elif deployment is None or deployment["provisioningState"] != "Succeeded":
                state = MachineState.PENDING
            else:
                # It was there: deleted by us, or evicted.
                state, preempted = MachineState.TERMINATED, given.get(_SPOT) == "1"
                reason = "Evicted: Azure took the spot machine" if preempted else "deleted"
            address, public = (view or {}).get("addresses") or (address_of(index), "")
            yield Machine(
                id=f"{name}/{vm_name(index)}",
                state=state,
                tags=tags,
                address=address,
                reason=reason,
                public_address=public,
                zone=f"{group.location}-{zone}" if zone else "",
                preempted=preempted,
            )

    def _look(self, group: str) -> dict[str, dict[str, Any]]:
        """The group's machines with power states and addresses, by name."""
        found: dict[str, dict[str, Any]] = {}
        with translated("NotFound"):
            for vm in self._to.machines.list(group):
                seen = self._to.machines.get(group, str(vm.name), expand="instanceView").as_dict()
                found[str(vm.name)] = seen
            if not found:
                return found
            public = {str(one.name): one.as_dict() for one in self._to.addresses.list(group)}
            for interface in self._to.interfaces.list(group):
                view = found.get(str(interface.name))
                if view is not None:
                    main = interface.as_dict()["properties"]["ipConfigurations"][0]["properties"]
                    outside = public.get(str(interface.name), {}).get("properties", {}).get("ipAddress", "")
                    view["addresses"] = (main.get("privateIPAddress", ""), outside)
        return found


def _state(properties: Mapping[str, Any]) -> tuple[MachineState, str]:
    provisioning = properties.get("provisioningState", "")
    if provisioning == "Deleting":
        return MachineState.TERMINATING, ""
    codes = list((properties.get("instanceView") or {}).get("statuses") or ())
    for status in codes:
        what, _, how = str(status.get("code", "")).partition("/")
        if what == "ProvisioningState" and how.startswith("failed"):
            # A failed machine stays behind as a resource.
            code = how.partition("/")[2] or "ProvisioningFailed"
            return MachineState.TERMINATING, f"{code}: {status.get('message', '')}"
    for status in codes:
        what, _, how = str(status.get("code", "")).partition("/")
        if what == "PowerState":
            return _POWER.get(how, MachineState.PENDING), ""
    return MachineState.PENDING, ""


def _why(deployment: Mapping[str, Any]) -> tuple[str, str]:
    return leaf_of(deployment.get("error") or {"code": "DeploymentFailed", "message": "no reason was given"})


def _group_name(token: str) -> str:
    return f"stix-{token}"


def _is_deleting(group: Any) -> bool:
    return bool(group.properties and group.properties.provisioning_state == "Deleting")


def _asked(request: GangRequest) -> str:
    """The same for the same gang; the join token may be another at the second call."""
    offer = request.offer.model_dump(mode="json", exclude={"price", "price_as_of"})
    parts = (request.count, offer, dict(request.tags), request.ports, request.image, request.disk_size_gib)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
