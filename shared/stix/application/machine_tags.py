"""What a machine's tags say: written with its creation, read where the table does not know it (any more)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stix.application.world import World
from stix.model.autostop import Autostop
from stix.model.cluster import Cluster, Intent
from stix.model.offer import Offer
from stix.ports.compute import Machine, Place

__all__ = ["DELETE_AT", "TaggedGang", "delete_at", "machine_tags", "read_tags"]

DELETE_AT = "stix-delete-at"
"""Epoch seconds at which a machine must be gone, whoever is still there to end it."""

_NOTHING = "-"


@dataclass(frozen=True, slots=True)
class TaggedGang:
    """The creation that a machine tells of. ``join_hash`` lets its agent join again. ``count``: how many
    machines it made, for ``ranks`` of a cluster of ``num_nodes``, for all where there are none."""

    workspace: str
    cluster_id: str
    name: str
    user: str
    attempt: int
    token: str
    count: int
    num_nodes: int
    ranks: tuple[int, ...]
    join_hash: str
    offer: Offer
    autostop: Autostop | None
    delete_at: float | None


def machine_tags(world: World, cluster: Cluster, intent: Intent) -> dict[str, str]:
    """What every machine carries, so that a sweep knows whose it is, and a rebuild what it was."""
    tags = {
        **cluster.labels,
        "stix-deployment": world.deployment,
        "stix-workspace": cluster.workspace,
        "stix-cluster": cluster.id,
        "stix-name": cluster.name,
        "stix-user": cluster.user,
        "stix-attempt": str(intent.attempt),
        "stix-intent": intent.token,
        "stix-nodes": str(cluster.num_nodes),
        "stix-join": intent.join_hash,
        "stix-offer": _offer_text(intent.offer),
    }
    if intent.ranks:
        tags["stix-ranks"] = " ".join(map(str, intent.ranks))
    if cluster.autostop is not None:
        autostop = cluster.autostop
        after = "down" if autostop.down else "stop"
        tags["stix-autostop"] = f"{autostop.idle_minutes} {after} {autostop.wait_for}"
    if cluster.lifetime is not None and cluster.lifetime.max_lifetime is not None:
        # A cost's moment moves with stops, so the table alone has it.
        tags[DELETE_AT] = str(int(cluster.created_at + cluster.lifetime.max_lifetime))
    return tags


def read_tags(machine: Machine, place: Place) -> TaggedGang | None:
    """None where they do not tell of a creation of ours."""
    tags = machine.tags
    try:
        nodes = int(tags["stix-nodes"])
        ranks = tuple(map(int, tags.get("stix-ranks", "").split()))
        return TaggedGang(
            workspace=_given(tags, "stix-workspace"),
            cluster_id=_given(tags, "stix-cluster"),
            name=_given(tags, "stix-name"),
            user=tags.get("stix-user", ""),
            attempt=int(tags["stix-attempt"]),
            token=_given(tags, "stix-intent"),
            count=len(ranks) or nodes,
            num_nodes=nodes,
            ranks=ranks,
            join_hash=tags.get("stix-join", ""),
            offer=_offer(tags["stix-offer"], place),
            autostop=_autostop(tags.get("stix-autostop", "")),
            delete_at=delete_at(machine),
        )
    except (KeyError, ValueError):
        return None


def delete_at(machine: Machine) -> float | None:
    """When it must be gone by its tag, epoch seconds; None where it has none that can be read."""
    written = machine.tags.get(DELETE_AT, "")
    return float(written) if written.isascii() and written.isdigit() else None


def _given(tags: Mapping[str, str], name: str) -> str:
    if not tags[name]:
        raise ValueError(name)
    return tags[name]


def _offer_text(offer: Offer) -> str:
    """Words that every cloud takes in a tag: type, zone, market, price, size, accelerators."""
    accelerators = f"{offer.accelerator}:{offer.accelerator_count:g}" if offer.accelerator else _NOTHING
    words = (
        offer.instance_type,
        offer.zone or _NOTHING,
        "spot" if offer.spot else "demand",
        f"{offer.price:.10g}",
        f"{offer.vcpus:g}",
        f"{offer.memory_gib:g}",
        accelerators,
    )
    return " ".join(words)


def _offer(text: str, place: Place) -> Offer:
    kind, zone, market, price, vcpus, memory, accelerators = text.split(" ")
    name, _, count = accelerators.rpartition(":")
    return Offer(
        cloud=place.cloud,
        region=place.region,
        zone="" if zone == _NOTHING else zone,
        instance_type=kind,
        spot=market == "spot",
        vcpus=float(vcpus),
        memory_gib=float(memory),
        accelerator=name,
        accelerator_count=float(count) if name else 0,
        price=float(price),
    )


def _autostop(text: str) -> Autostop | None:
    if not text:
        return None
    minutes, after, wait_for = text.split(" ")
    return Autostop.model_validate(
        {"idle_minutes": int(minutes), "down": after == "down", "wait_for": wait_for}
    )
