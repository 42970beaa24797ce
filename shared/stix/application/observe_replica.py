"""How a replica of a service stands, from what the table, its provider and the gateways say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stix.application.observe_run import Finding, gone_machine, launch_refusal
from stix.application.records import cluster_key, job_key, load, node_key
from stix.application.service_draft import ServiceDraft
from stix.application.service_situation import verdict
from stix.lifecycle.service import launch_pause
from stix.model.cluster import Cluster, Node
from stix.model.job import Job
from stix.model.service_state import GatewayFigures, Replica
from stix.model.status import ClusterStatus, JobStatus, ReplicaStatus, Wanted
from stix.ports.state_store import Key

__all__ = ["Machines", "read_machines", "take_in"]

_READ_AT_ONCE = 96
_NOTICE_SECONDS = 120.0
"""Where its cloud does not say when a machine goes: EC2's notice, the longest."""
_SURVIVED_SECONDS = 60.0
"""A machine that still serves so long after the moment of its notice was not taken."""
_STARTING_SECONDS = 600.0
"""How long a replica that starts is left alone where nothing is heard of it."""
_ASK_AGAIN_SECONDS = 15.0
"""How often the provider is asked for the machine of a replica that does not answer."""
_PLACES_KEPT = 50
_SERVES = (ReplicaStatus.READY, ReplicaStatus.NOT_READY)


@dataclass(frozen=True, slots=True)
class Machines:
    """A replica's cluster, its run and its nodes, as far as they are still there."""

    cluster: Cluster | None = None
    run: Job | None = None
    nodes: tuple[Node, ...] = ()


def read_machines(draft: ServiceDraft, replicas: Sequence[Replica]) -> dict[int, Machines]:
    """Of each replica, in few reads."""
    workspace = draft.service.workspace
    kept = {one.number: one.num_nodes for one in draft.service.versions}
    keys: list[tuple[int, Key]] = []
    for one in replicas:
        ranks = range(kept.get(one.service_version, 1))
        keys.append((one.id, cluster_key(workspace, one.cluster_id)))
        keys.append((one.id, job_key(workspace, one.cluster_id, one.cluster_job)))
        keys += [(one.id, node_key(workspace, one.cluster_id, rank)) for rank in ranks]
    found: dict[int, dict[str, Any]] = {one.id: {"nodes": []} for one in replicas}
    for start in range(0, len(keys), _READ_AT_ONCE):
        part = keys[start : start + _READ_AT_ONCE]
        items = draft.world.store.get_many([key for _, key in part])
        for (number, key), item in zip(part, items, strict=True):
            if item is None:
                continue
            if key.kind == Cluster.kind:
                found[number]["cluster"] = load(Cluster, item)
            elif key.kind == Job.kind:
                found[number]["run"] = load(Job, item)
            else:
                found[number]["nodes"].append(load(Node, item))
    return {
        number: Machines(parts.get("cluster"), parts.get("run"), tuple(parts["nodes"]))
        for number, parts in found.items()
    }


def take_in(draft: ServiceDraft, replica: Replica, machines: Machines, figures: list[GatewayFigures]) -> None:
    """What all that means for the replica. Raises the provider's errors where it has to be asked."""
    cluster, run = machines.cluster, machines.run
    if cluster is None or run is None:
        _lost(draft, replica, "its cluster is gone", gone=True)
        return
    refusal = launch_refusal(draft.world, cluster, run)
    if refusal is not None:
        _refused(draft, replica, cluster, *refusal)
        return
    if cluster.ended or cluster.wanted is not Wanted.UP:
        _lost(draft, replica, cluster.reason or "its cluster was taken down", gone=True)
        return
    draft.change_replica(replica.id, offer=cluster.offer or replica.offer)
    _take_notice(draft, replica, machines.nodes)
    if run.status.terminal:
        _run_ended(draft, replica, cluster, run)
        return
    if cluster.status in (ClusterStatus.STOPPED, ClusterStatus.AUTOSTOPPING):
        _lost(draft, replica, cluster.reason or "its machines were stopped")
        return
    if cluster.status is not ClusterStatus.UP:
        if replica.status in (ReplicaStatus.PENDING, ReplicaStatus.PROVISIONING):
            begun = cluster.offer is not None or bool(cluster.attempts)
            status = ReplicaStatus.PROVISIONING if begun else ReplicaStatus.PENDING
            draft.change_replica(replica.id, status=status, reason=cluster.reason)
            draft.look_at(draft.now + _STARTING_SECONDS)
        return
    _up(draft, replica, cluster, machines, figures)


def _up(
    draft: ServiceDraft,
    replica: Replica,
    cluster: Cluster,
    machines: Machines,
    figures: list[GatewayFigures],
) -> None:
    head = next((node for node in machines.nodes if node.rank == 0), None)
    if head is not None:
        port = draft.service.version_of(replica.service_version).port
        address = head.address or head.public_address
        draft.change_replica(replica.id, address=address, port=port)
    if replica.status in (ReplicaStatus.PENDING, ReplicaStatus.PROVISIONING):
        draft.change(refusals=0, launch_after=0.0)
    said = verdict(figures, replica.id)
    state = "" if said is None else said.state
    if replica.draining_since is not None:
        # Only what no longer gets new requests can have answered its last one.
        left = 0 if state == "drained" else None
        if said is not None and state == "draining" and said.in_flight:
            left = said.in_flight
        draft.change_replica(replica.id, in_flight=left)
        return
    if replica.status is ReplicaStatus.SHUTTING_DOWN:
        return
    if said is not None:
        draft.change_replica(replica.id, in_flight=said.in_flight)
    reason = "" if said is None else said.reason
    if state == "ready":
        _ready(draft, replica)
    elif state == "failed":
        served = replica.ready_at is not None
        status = ReplicaStatus.FAILED_PROBING if served else ReplicaStatus.FAILED_INITIAL_DELAY
        _failed(draft, replica, status, reason)
    elif state == "not_ready" and replica.ready_at is not None:
        why = gone_machine(draft.world, cluster)
        if why:
            _lost(draft, replica, why)
            return
        draft.change_replica(replica.id, status=ReplicaStatus.NOT_READY, reason=reason)
        draft.look_at(draft.now + _ASK_AGAIN_SECONDS)
    elif replica.status not in _SERVES:
        words = reason or _words(machines.run)
        draft.change_replica(replica.id, status=ReplicaStatus.STARTING, reason=words)
        draft.look_at(draft.now + _STARTING_SECONDS)


def _words(run: Job | None) -> str:
    if run is not None and run.status is JobStatus.SETTING_UP:
        return "setup"
    return "" if run is None or run.status is JobStatus.RUNNING else "its run begins"


def _ready(draft: ServiceDraft, replica: Replica) -> None:
    if replica.status is ReplicaStatus.READY:
        return
    first = replica.ready_at is None
    at = draft.now if first else replica.ready_at
    draft.change_replica(replica.id, status=ReplicaStatus.READY, reason="", ready_at=at)
    took = f"ready {draft.now - replica.launched_at:.0f} s after its launch" if first else "ready again"
    draft.say("ReplicaReady", took, replica=replica.id, place=replica.offer.place)


def _take_notice(draft: ServiceDraft, replica: Replica, nodes: Sequence[Node]) -> None:
    """The moment by which the machine is taken; one that outlives it was spared."""
    replica = draft.replicas[replica.id]
    noticed = [node for node in nodes if node.notice == "preemption"]
    if not noticed or replica.draining_since is not None:
        return
    if replica.gone_at is None:
        told = [node.notice_at for node in noticed if node.notice_at is not None]
        gone_at = min(told, default=draft.now + _NOTICE_SECONDS)
        if draft.now > gone_at + _SURVIVED_SECONDS:
            return
        reason = f"the cloud takes {noticed[0].machine_id}"
        draft.change_replica(replica.id, gone_at=gone_at, reason=reason)
        _note_loss(draft, replica.offer.place, spot=replica.offer.spot)
        draft.say("ReplicaNoticed", reason, replica=replica.id, place=replica.offer.place)
    elif draft.now > replica.gone_at + _SURVIVED_SECONDS and replica.status is ReplicaStatus.READY:
        draft.change_replica(replica.id, gone_at=None, reason="")
    else:
        draft.look_at(max(replica.gone_at + _SURVIVED_SECONDS + 1.0, draft.now + 1.0))


def _run_ended(draft: ServiceDraft, replica: Replica, cluster: Cluster, run: Job) -> None:
    """A server does not end by itself: its machine is gone, or it failed."""
    if replica.status.failed or replica.status is ReplicaStatus.PREEMPTED:
        return
    gone = gone_machine(draft.world, cluster)
    if gone:
        _lost(draft, replica, gone)
        return
    code = "" if run.exit_code is None else f" with exit code {run.exit_code}"
    words = f"{run.status}: {run.reason}" if run.reason else f"its run ended{code} ({run.status})"
    _failed(draft, replica, ReplicaStatus.FAILED, words)


def _failed(draft: ServiceDraft, replica: Replica, status: ReplicaStatus, reason: str) -> None:
    draft.change_replica(replica.id, status=status, reason=reason)
    draft.say("ReplicaFailed", f"{status}: {reason}", replica=replica.id, place=replica.offer.place)


def _lost(draft: ServiceDraft, replica: Replica, reason: str, *, gone: bool = False) -> None:
    """Its machines are gone; with ``gone`` its cluster is too, or going."""
    ended = {"ended_at": draft.now} if gone else {}
    if replica.status.failed or replica.status is ReplicaStatus.PREEMPTED:
        draft.change_replica(replica.id, **ended)
        return
    if replica.status is not ReplicaStatus.SHUTTING_DOWN:
        place = draft.replicas[replica.id].offer.place
        draft.change_replica(replica.id, status=ReplicaStatus.PREEMPTED, reason=reason, **ended)
        _note_loss(draft, place, spot=replica.offer.spot)
        draft.say("ReplicaLost", reason, replica=replica.id, place=place)
    elif gone or replica.draining_since is not None:
        draft.change_replica(replica.id, reason=reason, in_flight=0, **ended)


def _refused(draft: ServiceDraft, replica: Replica, cluster: Cluster, finding: Finding, reason: str) -> None:
    """No place took it, its machines were lost before they were up, or the request itself is wrong."""
    if replica.status.failed or replica.status is ReplicaStatus.PREEMPTED:
        return
    for attempt in cluster.attempts:
        if attempt.outcome != "skipped":
            _note_loss(draft, attempt.place, spot=attempt.spot, at=attempt.at)
    if finding is Finding.LOST:
        _lost(draft, replica, reason)
        return
    hopeless = finding is Finding.HOPELESS
    status = ReplicaStatus.FAILED if hopeless else ReplicaStatus.FAILED_PROVISION
    refusals = draft.service.refusals + 1
    draft.change(refusals=refusals, launch_after=draft.now + launch_pause(refusals))
    _failed(draft, replica, status, reason)


def _note_loss(draft: ServiceDraft, place: str, *, spot: bool, at: float | None = None) -> None:
    if not spot or not place:
        return
    memory = draft.service.memory
    lost_at = {**memory.lost_at, place: max(at or draft.now, memory.lost_at.get(place, 0.0))}
    newest = dict(sorted(lost_at.items(), key=lambda entry: -entry[1])[:_PLACES_KEPT])
    draft.change(memory=memory.model_copy(update={"lost_at": newest}))
