"""What a resource group and its deployment say about a gang: machines as the control plane knows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stix.clouds.azure.errors import leaf_of, refusal
from stix.clouds.azure.template import vm_name
from stix.ports.compute import GangRequest, Machine, MachineState, Refusal

__all__ = ["Gang", "gang_of", "group_tags", "is_over", "is_whole", "machines_of", "why"]

_ASKED, _COUNT, _SPOT = "stix-azure-asked", "stix-azure-count", "stix-azure-spot"
"""Tags of a group besides the gang's own."""
_SHUT_DOWN = "it shut itself down; Azure bills it until it is deallocated"
_POWER = {
    "starting": MachineState.PENDING,
    "running": MachineState.RUNNING,
    "stopping": MachineState.STOPPING,
    "deallocating": MachineState.STOPPING,
    # A machine that shut itself down keeps its place and its bill.
    "stopped": MachineState.RUNNING,
    "deallocated": MachineState.STOPPED,
}
_ENDED = ("Failed", "Canceled")


@dataclass(frozen=True, slots=True)
class Gang:
    """A resource group of ours. ``asked``: digest of the request that it was made for."""

    group: str
    region: str
    tags: Mapping[str, str]
    asked: str
    count: int
    spot: bool
    deleting: bool

    @property
    def names(self) -> list[str]:
        return [vm_name(index) for index in range(self.count)]


def group_tags(request: GangRequest, asked: str) -> dict[str, str]:
    """What ``gang_of`` reads."""
    spot = "1" if request.offer.spot else "0"
    return {**request.tags, _ASKED: asked, _COUNT: str(request.count), _SPOT: spot}


def gang_of(group: Any) -> Gang:
    """``group``: the SDK's model. Where somebody took the tags away, only what is there is known of it."""
    tags = dict(group.tags or {})
    count = tags.get(_COUNT, "")
    return Gang(
        group=str(group.name),
        region=str(group.location),
        tags={name: value for name, value in tags.items() if not name.startswith("stix-azure-")},
        asked=tags.get(_ASKED, ""),
        count=int(count) if count.isdigit() else 0,
        spot=tags.get(_SPOT) == "1",
        deleting=bool(group.properties and group.properties.provisioning_state == "Deleting"),
    )


def is_whole(gang: Gang, views: Mapping[str, Mapping[str, Any]]) -> bool:
    """Every machine is there, none failed: nothing more would be learned from the deployment."""
    return set(gang.names) <= views.keys() and not any(_failure(view) for view in views.values())


def is_over(deployment: Mapping[str, Any] | None) -> bool:
    """Nothing more is being made."""
    return deployment is None or deployment["provisioningState"] in (*_ENDED, "Succeeded")


def why(deployment: Mapping[str, Any] | None) -> tuple[str, str] | None:
    """Code and words of a deployment that failed."""
    if deployment is None or deployment["provisioningState"] not in _ENDED:
        return None
    return leaf_of(deployment.get("error") or {"code": "DeploymentFailed", "message": "no reason was given"})


def machines_of(
    gang: Gang, views: Mapping[str, Mapping[str, Any]], deployment: Mapping[str, Any] | None
) -> Iterator[Machine]:
    """Every machine that the gang was to have, and whatever is there besides.

    ``views``: those that are there, by name, as Azure's JSON with the instance view. ``deployment``: its
    properties; None where the gang ``is_whole``, or was never deployed.
    """
    failed = why(deployment)
    made = is_whole(gang, views) or (
        deployment is not None and deployment["provisioningState"] == "Succeeded"
    )
    for name in [*gang.names, *sorted(views.keys() - set(gang.names))]:
        view = views.get(name)
        reason, preempted, refused = "", False, None
        if gang.deleting:
            state = MachineState.TERMINATING
        elif failed is not None:
            # What was made stays behind, failed machines too, until the group is deleted.
            state, reason = MachineState.TERMINATING, f"{failed[0]}: {failed[1]}"
            refused = Refusal.of(refusal(*failed))
        elif view is not None:
            state, reason = _state(view, made=made)
        elif made:
            # It was there: deleted by us, or evicted.
            state, preempted = MachineState.TERMINATED, gang.spot
            reason = "Evicted: Azure took the spot machine" if preempted else "deleted"
        else:
            state = MachineState.PENDING
        private, public = (view or {}).get("addresses") or ("", "")
        zone = next(iter((view or {}).get("zones") or ()), "")
        yield Machine(
            id=f"{gang.group}/{name}",
            state=state,
            tags=gang.tags,
            address=private,
            reason=reason,
            public_address=public,
            zone=f"{gang.region}-{zone}" if zone else "",
            preempted=preempted,
            refusal=refused,
        )


def _state(view: Mapping[str, Any], *, made: bool) -> tuple[MachineState, str]:
    if view["properties"].get("provisioningState") == "Deleting":
        return MachineState.TERMINATING, ""
    failure = _failure(view)
    if failure and not made:
        return MachineState.TERMINATING, failure
    power = next((how for what, how, _ in _statuses(view) if what == "PowerState"), "")
    if power == "stopped":
        failure = failure or _SHUT_DOWN
    # After the machine was made it is a start or a stop that failed: disk and power are as they were.
    return _POWER.get(power, MachineState.PENDING), failure


def _failure(view: Mapping[str, Any]) -> str:
    for what, how, words in _statuses(view):
        if what == "ProvisioningState" and how.startswith("failed"):
            return f"{how.partition('/')[2] or 'ProvisioningFailed'}: {words}"
    return ""


def _statuses(view: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for status in (view["properties"].get("instanceView") or {}).get("statuses") or ():
        what, _, how = str(status.get("code", "")).partition("/")
        yield what, how, str(status.get("message", ""))
