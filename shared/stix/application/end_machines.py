"""Machines end: an attempt is undone, a cluster goes. Nothing is over before the provider says so."""

from __future__ import annotations

from collections.abc import Iterable

from stix.application.ledger import settle_entry, settle_seen
from stix.application.records import child_records, cluster_key, intent_key, put, update
from stix.application.world import World
from stix.lifecycle.cluster import BOOT_CHECK_SECONDS
from stix.model.cluster import Cluster, Intent
from stix.model.errors import InvalidRequestError, NotYetTerminatedError
from stix.model.offer import Offer
from stix.model.status import ClusterStatus, IntentStatus
from stix.ports.compute import Compute, HoldsMore, Machine, MachineState, Place

__all__ = [
    "can_stop",
    "end_intent",
    "end_replaced",
    "join_reference",
    "machines_of",
    "open_intents",
    "own_machines",
    "provider_of",
    "unended_intents",
]

_REPLACED = "another machine has its rank"
_CREATE_SECONDS = 150.0
"""Above the time-out of a create call."""


def can_stop(world: World, offer: Offer) -> bool:
    """Whether its cloud can stop such machines and start them again."""
    facts = world.clouds.get(offer.cloud)
    return facts is not None and (facts.stops_spot if offer.spot else facts.stops)


def provider_of(world: World, intent: Intent) -> tuple[Compute, Place]:
    """Who made an intent's machines, and where they are listed."""
    provider = world.compute.get(intent.offer.cloud)
    if provider is None:
        raise InvalidRequestError(
            f"{intent.offer.cloud} is no longer configured, but machines of it are recorded.",
            hint="Configure it again, or forget the cluster with `stix down --purge`.",
        )
    return provider, Place(intent.offer.cloud, intent.offer.region)


def join_reference(intent: Intent) -> str:
    """Where the gang's join token is until its machines are made; one per intent that was tried."""
    return f"join/{intent.workspace}/{intent.cluster_id}/{intent.attempt}-{intent.join_hash[:16]}"


def unended_intents(world: World, cluster: Cluster) -> list[Intent]:
    """Intents of which machines may still exist, those of rivals too."""
    intents = child_records(world, Intent, cluster.workspace, cluster.id)
    return [one for one in intents if one.status not in (IntentStatus.REFUSED, IntentStatus.ENDED)]


def open_intents(world: World, cluster: Cluster) -> list[Intent]:
    """Intents of which the cluster's own machines may still exist."""
    intents = unended_intents(world, cluster)
    return [one for one in intents if not cluster.racing or one.attempt == cluster.attempt]


def own_machines(world: World, cluster: Cluster) -> list[Machine]:
    """The cluster's machines as their provider sees them now, without those that others replace."""
    return [
        machine
        for intent in open_intents(world, cluster)
        for machine in machines_of(world, intent)
        if machine.id not in intent.dropped
    ]


def machines_of(world: World, intent: Intent) -> list[Machine]:
    """The machines of an intent as the provider sees them now, those that others replace too.

    Where the outcome of the create call was never recorded, the token in their tags finds them; those that it
    found before, and that may have ended since, are known by their ids.
    """
    provider, place = provider_of(world, intent)
    if intent.status in (IntentStatus.CREATED, IntentStatus.RACING):
        return provider.describe(place, [*intent.machine_ids, *intent.dropped])
    tagged = provider.list_tagged(place, world.deployment)
    found = [machine for machine in tagged if machine.tags.get("stix-intent") == intent.token]
    before = [one for one in intent.machine_ids if one not in {machine.id for machine in found}]
    return [*found, *provider.describe(place, before)] if before else found


def end_intent(world: World, intent: Intent, reason: str) -> None:
    """Terminate the machines of an intent, let go of what it held besides, settle its cost, record the end.

    Raises ``NotYetTerminatedError`` until the provider reports all of it as gone: call again.
    """
    provider, place = provider_of(world, intent)
    machines = machines_of(world, intent)
    if intent.status is IntentStatus.PENDING:
        intent = _with_found(world, intent, machines)
        if not intent.machine_ids:
            _await_outcome(world, intent)
    if not intent.never_ran:
        # Those that were stopped before: once they are gone, their provider names another moment.
        settle_seen(world, intent, machines, reason)
    left = _remaining(machines)
    if left:
        provider.terminate(place, [machine.id for machine in left])
        before = [machine for machine in machines if machine not in left]
        machines = [*before, *provider.describe(place, [machine.id for machine in left])]
        left = _remaining(machines)
    if left:
        states = ", ".join(f"{machine.id} is {machine.state}" for machine in left[:3])
        raise NotYetTerminatedError(f"Not gone yet: {states}.")
    if isinstance(provider, HoldsMore):
        provider.release(place, intent.token)
    if intent.machine_ids or intent.dropped:
        settle_entry(world, intent, reason, machines=machines, never_ran=intent.never_ran)
    world.secrets.delete(join_reference(intent))
    keep_until = world.clock.now() + world.limits.retention_seconds
    ended = intent.changed(status=IntentStatus.ENDED, reason=reason, due_at=None, expires_at=keep_until)
    world.store.transact([put(ended, unconditional=True)])


def end_replaced(world: World, cluster: Cluster) -> None:
    """Terminate the machines that others replace and settle their cost; what is not gone yet is looked at
    again soon. Idempotent."""
    left = [one for one in unended_intents(world, cluster) if one.dropped and not _end_dropped(world, one)]
    soon = world.clock.now() + BOOT_CHECK_SECONDS

    def change(current: Cluster) -> Cluster | None:
        if current.ended:
            return None
        # Before it is up its moment is that of its launch.
        moment = {"due_at": soon} if current.status is ClusterStatus.UP else {}
        return current.changed(dropping=bool(left), **moment)

    update(world, Cluster, cluster_key(cluster.workspace, cluster.id), change)


def _end_dropped(world: World, intent: Intent) -> bool:
    """Whether the dropped machines of an intent are gone, and settled."""
    if not intent.machine_ids:
        try:
            end_intent(world, intent, _REPLACED)
        except NotYetTerminatedError:
            return False
        return True
    provider, place = provider_of(world, intent)
    left = _remaining(one for one in machines_of(world, intent) if one.id in intent.dropped)
    if left:
        provider.terminate(place, [machine.id for machine in left])
    machines = machines_of(world, intent)
    if _remaining(one for one in machines if one.id in intent.dropped):
        return False
    settle_seen(world, intent, machines, _REPLACED)
    gone = set(intent.dropped)

    def change(current: Intent) -> Intent:
        return current.changed(dropped=tuple(one for one in current.dropped if one not in gone))

    key = intent_key(intent.workspace, intent.cluster_id, intent.attempt)
    update(world, Intent, key, change)
    return True


def _with_found(world: World, intent: Intent, machines: list[Machine]) -> Intent:
    """The intent with the machines that its token found: once they are gone, nothing finds them any more."""
    found = tuple(sorted({*intent.machine_ids, *(machine.id for machine in machines)}))
    if found == intent.machine_ids:
        return intent
    key = intent_key(intent.workspace, intent.cluster_id, intent.attempt)
    stored = update(world, Intent, key, lambda one: one.changed(machine_ids=found))
    return intent.changed(machine_ids=found) if stored is None else stored


def _await_outcome(world: World, intent: Intent) -> None:
    """A create call that was begun before the cluster was wanted otherwise may still be answered."""
    if world.clock.now() - intent.created_at < _CREATE_SECONDS:
        raise NotYetTerminatedError("The machines may still be being created.")


def _remaining(machines: Iterable[Machine]) -> list[Machine]:
    return [machine for machine in machines if machine.state is not MachineState.TERMINATED]
