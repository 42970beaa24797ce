"""Why a cluster is what it is: what was tried, what was passed over, what comes next, what it costs."""

from __future__ import annotations

from typing import Any

from stix.application.ledger import cluster_cost
from stix.application.lifetimes import cluster_ending
from stix.application.next_offer import intent_token
from stix.application.offering_health import judge_offers
from stix.application.operations import find_operation
from stix.application.planning import read_plan
from stix.application.world import World
from stix.lifecycle.offering_health import Judgement, Verdict
from stix.model.cluster import Cluster
from stix.model.offer import Offer
from stix.model.status import ClusterStatus

__all__ = ["explain_cluster"]

_NEXT = 5


def explain_cluster(world: World, cluster: Cluster) -> dict[str, Any]:
    """The body of ``Explanation``."""
    operation = find_operation(world, cluster.workspace, cluster.operation_id)
    ending = cluster_ending(world, cluster)
    return {
        "name": cluster.name,
        "id": cluster.id,
        "status": str(cluster.status),
        "reason": cluster.reason,
        "since": cluster.since,
        "created_at": cluster.created_at,
        "requested": dict(cluster.requested),
        "num_nodes": cluster.num_nodes,
        "offers": cluster.offers,
        "chosen": None if cluster.offer is None else _offer(cluster.offer, _rank(world, cluster)),
        "attempts": [attempt.model_dump(mode="json") for attempt in cluster.attempts],
        "next": _next(world, cluster),
        "decisions": [] if operation is None else [line.model_dump() for line in operation.progress],
        "cost": cluster_cost(world, cluster),
        "ends_at": None if ending is None else ending.at,
        "ends_because": "" if ending is None else ending.reason,
    }


def _rank(world: World, cluster: Cluster) -> str:
    """Why the chosen offer had its place in the ranking."""
    if not cluster.plan_key:
        return ""
    ranked = read_plan(world, cluster.plan_key)
    for number, entry in enumerate(ranked, 1):
        if entry.offer == cluster.offer:
            return f"{entry.reason} (number {number} of {len(ranked)})"
    return ""


def _next(world: World, cluster: Cluster) -> list[dict[str, Any]]:
    """What a launch under way would try, as far as it is known now."""
    if not cluster.plan_key or cluster.status is not ClusterStatus.INIT:
        return []
    ranked = read_plan(world, cluster.plan_key)
    offers = [entry.offer for entry in ranked[cluster.cursor : cluster.cursor + _NEXT]]
    tokens = [intent_token(world, cluster, offer) for offer in offers]
    judged = judge_offers(world, offers, tokens)
    return [_offer(offer, _words(judgement)) for offer, judgement in zip(offers, judged, strict=True)]


def _words(judgement: Judgement) -> str:
    match judgement.verdict:
        case Verdict.TRY:
            return "nothing is known against it"
        case Verdict.PROBE:
            return f"is asked again after: {judgement.reason}"
        case Verdict.BUSY | Verdict.BLOCKED:
            return f"is passed over for now: {judgement.reason}"


def _offer(offer: Offer, reason: str) -> dict[str, Any]:
    return {
        "place": offer.place,
        "instance_type": offer.instance_type,
        "spot": offer.spot,
        "price": offer.price,
        "price_as_of": offer.price_as_of,
        "reason": reason,
    }
