"""What to do about a cluster that is due. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from stix.lifecycle.lifetimes import Ending
from stix.model.autostop import Autostop
from stix.model.cluster import Cluster, Heartbeat
from stix.model.status import ClusterStatus, Wanted

__all__ = ["BOOT_CHECK_SECONDS", "ClusterAction", "ClusterDecision", "autostop_at", "decide_cluster"]

BOOT_CHECK_SECONDS = 20.0
"""How soon the provider is asked after machines that boot: some are refused after they were accepted."""

_SILENT_SECONDS = 3600.0


class ClusterAction(StrEnum):
    LAUNCH = "launch"
    SETTLE = "settle"
    AUTOSTOP = "autostop"
    STOP_SILENT = "stop_silent"
    END_RIVALS = "end_rivals"
    END_REPLACED = "end_replaced"
    END = "end"
    LOOK = "look"
    LEAVE = "leave"


@dataclass(frozen=True, slots=True)
class ClusterDecision:
    """``look_again_at`` is the ``due_at`` that goes with the action. LOOK: ask the provider whether machines
    that boot will ever run. STOP_SILENT: its autostop is enforced though its agent is not heard of."""

    action: ClusterAction
    reason: str
    look_again_at: float


def autostop_at(autostop: Autostop | None, idle_since: float | None) -> float | None:
    """When the cluster stops by itself, None while it is busy or never does."""
    if autostop is None or idle_since is None:
        return None
    return idle_since + autostop.idle_minutes * 60


def decide_cluster(
    cluster: Cluster,
    heartbeats: Sequence[Heartbeat],
    now: float,
    *,
    lease: float,
    lost_seconds: float,
    ending: Ending | None = None,
) -> ClusterDecision:
    """The next step for a cluster.

    Args:
        heartbeats: of its nodes, as far as there are any; rank 0 knows whether the cluster is idle.
        lease: seconds that a run started now may take before another one is started.
        lost_seconds: a node that was not heard of for so long is asked after at its provider.
        ending: by the limits of its life.
    """
    decision = _decide(cluster, heartbeats, now, lease, lost_seconds)
    if ending is None or cluster.wanted is Wanted.ABSENT:
        return decision
    if ending.at <= now:
        return ClusterDecision(ClusterAction.END, ending.reason, now + lease)
    return replace(decision, look_again_at=min(decision.look_again_at, ending.at))


def _decide(
    cluster: Cluster, heartbeats: Sequence[Heartbeat], now: float, lease: float, lost_seconds: float
) -> ClusterDecision:
    leased = now + lease
    if cluster.wanted is Wanted.ABSENT:
        return ClusterDecision(ClusterAction.SETTLE, "it is to go", leased)
    if cluster.racing and cluster.status is not ClusterStatus.INIT:
        return ClusterDecision(ClusterAction.END_RIVALS, "it was launched in several places", leased)
    if cluster.dropping and cluster.status is ClusterStatus.UP:
        return ClusterDecision(ClusterAction.END_REPLACED, "some of its machines were replaced", leased)
    if cluster.wanted is Wanted.STOPPED and cluster.status is not ClusterStatus.STOPPED:
        return ClusterDecision(ClusterAction.SETTLE, "it is to stop", leased)
    if cluster.wanted is Wanted.STOPPED:
        return ClusterDecision(ClusterAction.LEAVE, "stopped, as asked", now + 3600)
    if cluster.status is ClusterStatus.INIT and cluster.offer is None:
        return ClusterDecision(ClusterAction.LAUNCH, "its launch did not finish", leased)
    if cluster.status is ClusterStatus.INIT and now < cluster.boot_until:
        again = now + BOOT_CHECK_SECONDS
        # After the deadline the run that launches has as long as any run to undo the attempt.
        again = again if again < cluster.boot_until else cluster.boot_until + lease
        return ClusterDecision(ClusterAction.LOOK, "its machines boot", again)
    if cluster.status in (ClusterStatus.INIT, ClusterStatus.STOPPED, ClusterStatus.AUTOSTOPPING):
        return ClusterDecision(ClusterAction.SETTLE, "it is to run", leased)
    silent = [beat.rank for beat in heartbeats if now - beat.last_seen > lost_seconds]
    overdue = _silent_too_long(cluster, heartbeats, now, lost_seconds)
    if overdue:
        return ClusterDecision(ClusterAction.STOP_SILENT, overdue, leased)
    if silent or len(heartbeats) < cluster.num_nodes:
        ranks = ", ".join(map(str, silent)) or "some"
        return ClusterDecision(ClusterAction.SETTLE, f"not heard of node {ranks}", leased)
    head = min(heartbeats, key=lambda beat: beat.rank)
    stops_at = autostop_at(cluster.autostop, head.idle_since)
    if stops_at is not None and stops_at <= now:
        return ClusterDecision(ClusterAction.AUTOSTOP, "idle for as long as its autostop allows", leased)
    checks = [min(beat.last_seen for beat in heartbeats) + lost_seconds + 1]
    if stops_at is not None:
        checks.append(stops_at)
    return ClusterDecision(ClusterAction.LEAVE, "healthy", max(now + 1, min(checks)))


def _silent_too_long(
    cluster: Cluster, heartbeats: Sequence[Heartbeat], now: float, lost_seconds: float
) -> str:
    """Why a cluster whose head is not heard of any more has come to its autostop; empty where it has not.

    The head was idle when it was last heard of; or nobody knows, and it is silent for an hour more than its
    autostop waits. Its own switch stops a machine whose agent lives; this is for agents that died.
    """
    head = next((beat for beat in heartbeats if beat.rank == 0), None)
    if cluster.autostop is None or head is None or now - head.last_seen <= lost_seconds:
        return ""
    stops_at = autostop_at(cluster.autostop, head.idle_since)
    if stops_at is not None and stops_at + lost_seconds <= now:
        return "it was idle when its head was last heard of"
    if head.last_seen + cluster.autostop.idle_minutes * 60 + _SILENT_SECONDS <= now:
        minutes = int((now - head.last_seen) // 60)
        return f"its head was not heard of for {minutes} minutes"
    return ""
