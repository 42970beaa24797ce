"""A launch attempt that failed after its machines were accepted; and a launch that found no place."""

from __future__ import annotations

from typing import Any

from stix.application.attempts import called_invalid, is_launching, refuse_attempt
from stix.application.end_machines import end_intent, unended_intents
from stix.application.late_refusals import note_refusal
from stix.application.nudge_job import nudge
from stix.application.offering_health import record_failure
from stix.application.operations import finish, note
from stix.application.records import (
    child_records,
    cluster_key,
    get_cluster,
    intent_key,
    load,
    node_key,
    update,
)
from stix.application.runs import failure_cause
from stix.application.settle_cluster import close
from stix.application.world import World
from stix.model.cluster import Cluster, Intent, Node
from stix.model.errors import NoCapacityError, StixError
from stix.model.status import IntentStatus, NodeStatus, OperationStatus, Wanted
from stix.recovery.replacement import ranks_text

__all__ = ["abandon", "give_up", "undo"]

_FIRST_ROUND, _LONGEST_ROUND = 30.0, 600.0


def abandon(world: World, workspace: str, cluster_id: str, failure: dict[str, Any]) -> dict[str, Any]:
    """Nobody knows what became of the attempt's creation, however often it was asked: undo it.

    Raises ``NotYetTerminatedError``, also while an answer may still be under way.
    """
    cluster = get_cluster(world, workspace, cluster_id)
    item = world.store.get(intent_key(workspace, cluster_id, cluster.attempt))
    if item is None or load(Intent, item).status in (IntentStatus.CREATED, IntentStatus.RACING):
        return {"outcome": "MOVED"}
    return undo(world, workspace, cluster_id, failure, attempt=cluster.attempt)


def undo(
    world: World, workspace: str, cluster_id: str, failure: dict[str, Any], *, attempt: int
) -> dict[str, Any]:
    """End the machines of the attempt, move on to the next offer; an attempt that is over stays as it is.

    Raises ``NotYetTerminatedError``.
    """
    cluster = get_cluster(world, workspace, cluster_id)
    item = world.store.get(intent_key(workspace, cluster_id, attempt))
    if not is_launching(cluster) or cluster.attempt != attempt or item is None:
        return {"outcome": "MOVED"}
    intent = load(Intent, item)
    intent = note_refusal(world, intent)
    kind, reason = _reason(world, cluster, intent, failure)
    if intent.status is not IntentStatus.ENDED:
        end_intent(world, intent, reason)
    for node in child_records(world, Node, workspace, cluster_id):
        if node.attempt == cluster.attempt:
            world.store.delete(node_key(workspace, cluster_id, node.rank))
    if not intent.refusal:
        record_failure(world, intent.offer, intent.token, kind, reason)
    refuse_attempt(world, cluster, kind, reason, f"Gave this attempt up: {reason}", intent=intent)
    return {"outcome": "UNDONE"}


def _reason(world: World, cluster: Cluster, intent: Intent, failure: dict[str, Any]) -> tuple[str, str]:
    """What kind of failure it was, and its words."""
    if intent.refusal:
        return intent.refusal, intent.reason
    if intent.status is IntentStatus.PENDING:
        return "unavailable", f"its provider did not answer: {failure_cause(failure)}"
    nodes = child_records(world, Node, cluster.workspace, cluster.id)
    absent = [str(node.rank) for node in nodes if node.status is not NodeStatus.UP]
    who = f"node {', '.join(absent)}" if absent else "a node"
    if "Timeout" in str(failure.get("Error", "")):
        return "boot_failed", f"{who} did not join within {world.limits.boot_seconds} s."
    return "no_capacity", f"{who} was lost while booting: {failure_cause(failure)}"


def give_up(world: World, workspace: str, cluster_id: str) -> dict[str, Any]:
    """No offer is left: the operation fails with what was tried, the cluster ends; or, with
    ``retry_until_up``, all is ranked and tried again later. Idempotent. Raises ``NotYetTerminatedError``."""
    cluster = get_cluster(world, workspace, cluster_id)
    if not is_launching(cluster):
        return {"outcome": "MOVED"}
    if cluster.retry_until_up and not called_invalid(cluster):
        _try_later(world, cluster)
        return {"outcome": "LATER"}
    if cluster.replacing:
        # Its owner decides about the machines that it has, and does not wait for them to end.
        refusal = NoCapacityError(_not_replaced(cluster), code="launch_failed")
        finish(world, workspace, cluster.operation_id, OperationStatus.FAILED, refusal)
        nudge(world, workspace, cluster.owner)
        return {"outcome": "GAVE_UP"}
    for intent in unended_intents(world, cluster):
        end_intent(world, intent, "its launch failed")
    error = _verdict(cluster)
    note(world, workspace, cluster.operation_id, "No offer is left.")
    finish(world, workspace, cluster.operation_id, OperationStatus.FAILED, error)
    gone = update(
        world,
        Cluster,
        cluster_key(workspace, cluster_id),
        lambda c: c.changed(wanted=Wanted.ABSENT, reason=error.message),
    )
    if gone is not None:
        close(world, gone, reason=error.message)
    return {"outcome": "GAVE_UP"}


def _try_later(world: World, cluster: Cluster) -> None:
    """Nothing waits meanwhile: the sweep finds the cluster due and starts another run."""
    wait = min(_LONGEST_ROUND, _FIRST_ROUND * 2**cluster.rounds)
    due_at = world.clock.now() + wait

    def change(current: Cluster) -> Cluster | None:
        if current.rounds != cluster.rounds or current.wanted is not Wanted.UP:
            return None
        tried = len(current.attempts)
        reason = f"no offer could be had; all are tried again in {wait:.0f} s" if tried else current.reason
        return current.changed(rounds=current.rounds + 1, plan_key="", cursor=0, due_at=due_at, reason=reason)

    update(world, Cluster, cluster_key(cluster.workspace, cluster.id), change)
    note(world, cluster.workspace, cluster.operation_id, f"No offer is left; trying again in {wait:.0f} s.")


def _not_replaced(cluster: Cluster) -> str:
    ranks = ranks_text(cluster.replacing)
    if not cluster.attempts:
        return f"{ranks} could not be replaced: {cluster.reason}"
    last = cluster.attempts[-1]
    return f"{ranks} could not be replaced in {last.place}: {last.reason.rstrip('.')}"


def _verdict(cluster: Cluster) -> StixError:
    if not cluster.attempts:
        return NoCapacityError(f"Cluster {cluster.name} found no place: {cluster.reason}", code="no_offer")
    made = [one for one in cluster.attempts if one.outcome != "skipped"]
    skipped = len(cluster.attempts) - len(made)
    shown = made or list(cluster.attempts)
    tried = "; ".join(f"{one.place} {one.instance_type}: {one.reason}" for one in shown[-5:])
    count = len(made)
    passed = f", {skipped} passed over where others were refused just now" if skipped else ""
    way_on = "`stix launch --retry-until-up` goes on trying; or ask for less."
    return NoCapacityError(
        f"Cluster {cluster.name} could not be started: {count} attempt{'s' * (count != 1)} failed{passed}."
        f" {tried}",
        hint="Change what the provider names, then launch again." if called_invalid(cluster) else way_on,
        code="launch_failed",
    )
