"""The attempts of a launch, as its cluster keeps them for people and for the next attempt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stix.application.operations import note_writes, topic
from stix.application.records import cluster_key, intent_key, load, put, update
from stix.application.world import World
from stix.model.cluster import Attempt, Cluster, Intent, Node
from stix.model.errors import InvalidRequestError
from stix.model.offer import Offer
from stix.model.status import ClusterStatus, IntentStatus, NodeStatus, Wanted
from stix.ports.state_store import Write

__all__ = [
    "MAX_KEPT_ATTEMPTS",
    "attempt_at",
    "booting_node",
    "called_invalid",
    "is_launching",
    "outcome_put",
    "refuse_attempt",
    "refused_line",
]

MAX_KEPT_ATTEMPTS = 100


def refuse_attempt(
    world: World,
    cluster: Cluster,
    outcome: str,
    reason: str,
    line: str,
    *,
    intent: Intent | None = None,
    also: Callable[[], list[Write]] = list,
) -> bool:
    """Remember the attempt, move the cursor to the next offer and say ``line`` to whoever waits; once per
    attempt. ``intent``: the attempt's, where it is at hand. ``also`` is written in the same transaction.
    False where there was nothing to do, nor written."""
    now = world.clock.now()
    moved: list[bool] = []

    def change(current: Cluster) -> Cluster | None:
        moved[:] = [current.attempt == cluster.attempt]
        if not moved[0]:
            return None
        begun = intent or _intent_of(world, cluster)
        offer, since = (current.offer, now) if begun is None else (begun.offer, begun.created_at)
        attempt = attempt_at(offer, at=now, outcome=str(outcome), reason=reason, seconds=now - since)
        return current.changed(
            attempt=current.attempt + 1,
            cursor=current.cursor + 1,
            attempts=(*current.attempts, attempt)[-MAX_KEPT_ATTEMPTS:],
            offer=None,
            reason=f"{attempt.place}: {reason}",
            join_task_token="",
        )

    key = cluster_key(cluster.workspace, cluster.id)
    operation = cluster.operation_id

    def together() -> list[Write]:
        return [*also(), *note_writes(world, cluster.workspace, operation, line)]

    update(world, Cluster, key, change, also=together)
    world.wake.wake(topic(operation))
    return moved == [True]


def _intent_of(world: World, cluster: Cluster) -> Intent | None:
    item = world.store.get(intent_key(cluster.workspace, cluster.id, cluster.attempt))
    return None if item is None else load(Intent, item)


def attempt_at(offer: Offer | None, **what: Any) -> Attempt:
    """An attempt at an offer, with the attempt's own fields."""
    if offer is None:
        return Attempt(place="", instance_type="", **what)
    return Attempt(
        place=offer.place, instance_type=offer.instance_type, spot=offer.spot, price=offer.price, **what
    )


def called_invalid(cluster: Cluster) -> bool:
    """The provider called the request itself wrong: asking again changes nothing."""
    return bool(cluster.attempts) and cluster.attempts[-1].outcome == InvalidRequestError.default_code


def is_launching(cluster: Cluster) -> bool:
    """Whether machines are still to be made for it."""
    return cluster.wanted is Wanted.UP and cluster.status is ClusterStatus.INIT


def outcome_put(world: World, intent: Intent) -> Write:
    """The outcome of an effect is written whatever happened to the item meanwhile."""
    refused = intent.status is IntentStatus.REFUSED
    keep_until = world.clock.now() + world.limits.retention_seconds if refused else None
    return put(intent.changed(due_at=None, expires_at=keep_until), unconditional=True)


def refused_line(offer: Offer, reason: str) -> str:
    return f"{offer.place} refused: {reason}"


def booting_node(intent: Intent, rank: int, *, version: int, now: float, due_at: float) -> Node:
    """The node of a machine whose agent has not called yet; ``version`` of the item that it replaces."""
    return Node(
        workspace=intent.workspace,
        cluster_id=intent.cluster_id,
        rank=rank,
        status=NodeStatus.PENDING,
        reason="booting",
        since=now,
        machine_id=intent.machine_ids[intent.own_ranks.index(rank)],
        attempt=intent.attempt,
        version=version,
        due_at=due_at,
    )
