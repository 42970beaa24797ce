"""What a pod's own words mean."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from stix.clouds.kubernetes.errors import POD_REFUSALS, refusal_of
from stix.clouds.kubernetes.manifests import TAGS
from stix.clouds.timestamps import rfc3339_seconds
from stix.ports.compute import Machine, MachineState, Refusal

__all__ = ["TAKINGS", "ScaleUp", "is_unschedulable", "machine_of", "scale_up_of", "taken_of"]

_TAKEN = frozenset({"Evicted", "NodeLost", "NodeShutdown", "Preempting", "Shutdown", "Terminated"})
"""``PodStatus.reason`` of a pod that its node's end, or a more important pod, put an end to."""
TAKINGS = ("Preempted", "TaintManagerEviction")
"""Reasons of the events by which the scheduler, and the controller of lost and tainted nodes, say that they
took a pod. Before Kubernetes 1.26 the pod itself says nothing of it; once it is gone, no version's does."""

ScaleUp = str
"""``TriggeredScaleUp``, ``NotTriggerScaleUp``, or empty where no autoscaler said anything."""


def machine_of(pod: Mapping[str, Any], *, now: float, patience: float, scale_up: ScaleUp = "") -> Machine:
    """The machine that a pod is.

    A pod that will never run is TERMINATING with the reason ``code: words``. ``patience``: seconds for which
    it may find no node; ``scale_up``: what the cluster's autoscaler said of it.
    """
    meta, status = pod["metadata"], pod.get("status") or {}
    why = _refused(status, now=now, patience=patience, scale_up=scale_up)
    refused = Refusal.of(refusal_of(why)) if why else None
    phase = status.get("phase") or "Pending"
    taken = _taken(status)
    if phase in ("Failed", "Succeeded"):
        # Nothing of it runs; the object goes with ``release``.
        state, why = MachineState.TERMINATED, why or _end(status)
    elif meta.get("deletionTimestamp"):
        state, why = MachineState.TERMINATING, why or taken
    elif why:
        state = MachineState.TERMINATING
    else:
        state = MachineState.RUNNING if phase == "Running" else MachineState.PENDING
    return Machine(
        id=str(meta["name"]),
        state=state,
        tags={str(k): str(v) for k, v in json.loads((meta.get("annotations") or {}).get(TAGS, "{}")).items()},
        address=str(status.get("podIP") or ""),
        reason=why,
        zone="",
        preempted=bool(taken),
        refusal=None if taken else refused,
    )


def is_unschedulable(pod: Mapping[str, Any]) -> bool:
    return _condition(pod.get("status") or {}, "PodScheduled").get("reason") == "Unschedulable"


def scale_up_of(events: Iterable[Mapping[str, Any]]) -> ScaleUp:
    """The autoscaler's last word on a pod, from its events."""
    told = [event for event in events if event.get("reason") in ("TriggeredScaleUp", "NotTriggerScaleUp")]
    return str(max(told, key=_told_at)["reason"]) if told else ""


def taken_of(events: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """``reason: words`` of the pods that were taken, by name, from events of ``TAKINGS``."""
    taken: dict[str, str] = {}
    for event in sorted(events, key=_told_at):
        name, words = str(event["involvedObject"].get("name")), str(event.get("message") or "")
        if words.startswith("Cancelling"):  # its node came back in time
            taken.pop(name, None)
        else:
            taken[name] = f"{event['reason']}: {words}"
    return taken


def _told_at(event: Mapping[str, Any]) -> tuple[str, str]:
    """Names end in the nanosecond, which orders those of one second."""
    when = event.get("lastTimestamp") or event.get("eventTime") or ""
    return str(when), str((event.get("metadata") or {}).get("name") or "")


def _refused(status: Mapping[str, Any], *, now: float, patience: float, scale_up: ScaleUp) -> str:
    """``code: words`` of a pod that will not run; empty while it may."""
    code = str(status.get("reason") or "")
    if code in POD_REFUSALS:
        return f"{code}: {status.get('message', '')}"
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in POD_REFUSALS:
            return f"{waiting['reason']}: {waiting.get('message', '')}"
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("reason") != "Unschedulable" or scale_up == "TriggeredScaleUp":
        return ""
    if scale_up == "NotTriggerScaleUp":
        return f"NotTriggerScaleUp: {scheduled.get('message', '')}"
    since = rfc3339_seconds(scheduled.get("lastTransitionTime"))
    return f"Unschedulable: {scheduled.get('message', '')}" if now - since >= patience else ""


def _taken(status: Mapping[str, Any]) -> str:
    """Why somebody else put an end to it; empty where nobody did."""
    target = _condition(status, "DisruptionTarget")
    if target.get("status") == "True":
        return f"{target.get('reason', 'DisruptionTarget')}: {target.get('message', '')}"
    reason = str(status.get("reason") or "")
    return f"{reason}: {status.get('message', '')}" if reason in _TAKEN else ""


def _end(status: Mapping[str, Any]) -> str:
    taken = _taken(status)
    if taken:
        return taken
    for container in status.get("containerStatuses") or ():
        ended = (container.get("state") or {}).get("terminated") or {}
        if ended:
            return f"{ended.get('reason', 'Ended')}: exit code {ended.get('exitCode')}"
    return f"{status.get('reason') or status.get('phase')}: {status.get('message') or 'the pod has ended'}"


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    return next((one for one in status.get("conditions") or () if one.get("type") == kind), {})
