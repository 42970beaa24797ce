"""An attempt of a launch begins: its intent is written before anything is created."""

from __future__ import annotations

from stix.application.end_machines import join_reference
from stix.application.next_offer import intent_token
from stix.application.offering_health import claim_offers
from stix.application.operations import note_writes, topic
from stix.application.places import remember_place
from stix.application.planning import accelerators_text
from stix.application.records import put
from stix.application.sweep_guard import witness
from stix.application.tokens import hash_token, join_token
from stix.application.world import World
from stix.model.cluster import Cluster, Intent
from stix.model.errors import ThrottledError
from stix.model.offer import Offer
from stix.ports.compute import Place
from stix.ports.state_store import Item, Put, VersionConflictError

__all__ = ["begin_attempt", "others_are_asking"]

_BUSY_SECONDS = 2.0
_SLOT_TRIES = 6


def begin_attempt(world: World, cluster: Cluster, offer: Offer, slot: Put | None) -> Intent:
    """The intent of the attempt, written before anything is created, with the slot that it takes of its
    offer's budget. Raises ``ThrottledError`` where others took that first."""
    now = world.clock.now()
    token = intent_token(world, cluster, offer)
    joining = join_token(cluster.workspace, cluster.id, cluster.attempt, world.ids.secret())
    intent = Intent(
        workspace=cluster.workspace,
        cluster_id=cluster.id,
        attempt=cluster.attempt,
        created_at=now,
        due_at=now + world.limits.launch_lease_seconds,
        token=token,
        offer=offer,
        count=cluster.machines_wanted,
        ranks=cluster.replacing,
        join_hash=hash_token(joining),
    )
    # The token must be at hand before the intent says that a call may have been made with it.
    world.secrets.put(join_reference(intent), {"token": joining})
    remember_place(world, Place(offer.cloud, offer.region))
    nodes = f"{intent.count} node{'s' * (intent.count != 1)}"
    where = offer.cloud if offer.cloud == offer.region else offer.place
    line = f"Starting {nodes} on {where} ({_shape(offer)})."
    try:
        stored = _begin(world, cluster, intent, line, slot)
    except (VersionConflictError, ThrottledError):
        world.secrets.delete(join_reference(intent))
        raise
    world.wake.wake(topic(cluster.operation_id))
    if not cluster.attempt:
        witness(world, intent)
    return intent.changed(version=stored.version)


def _begin(world: World, cluster: Cluster, intent: Intent, line: str, slot: Put | None) -> Item:
    for _ in range(_SLOT_TRIES):
        noted = note_writes(world, cluster.workspace, cluster.operation_id, line)
        try:
            return world.store.transact([put(intent), *noted, *([slot] if slot else [])])[0]
        except VersionConflictError as error:
            if slot is None or list(error.keys) != [slot.item.key]:
                raise
        [(_, slot)] = claim_offers(world, [intent.offer], [intent.token])
        if slot is None:
            break
    raise others_are_asking()


def others_are_asking() -> ThrottledError:
    return ThrottledError("Other launches are asking for the same machines.", retry_after=_BUSY_SECONDS)


def _shape(offer: Offer) -> str:
    accelerators = accelerators_text(offer)
    return f"{offer.vcpus:g} CPU, {offer.memory_gib:.0f} GiB" + (f", {accelerators}" if accelerators else "")
