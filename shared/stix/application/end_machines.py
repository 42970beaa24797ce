"""Machines end: an attempt is undone, a cluster goes. Nothing is over before the provider says so."""

from __future__ import annotations

from collections.abc import Iterable

from stix.application.records import child_records, put
from stix.application.world import World
from stix.model.cluster import Cluster, Intent
from stix.model.errors import InvalidRequestError, NotYetTerminatedError
from stix.model.status import IntentStatus
from stix.ports.compute import Compute, Machine, MachineState, Place

__all__ = ["end_intent", "machines_of", "open_intents", "provider_of"]

_CREATE_SECONDS = 150.0
"""Above the time-out of a create call."""


def provider_of(world: World, intent: Intent) -> tuple[Compute, Place]:
    """Who made an intent's machines, and where they are listed."""
    provider = world.compute.get(intent.offer.cloud)
    if provider is None:
        raise InvalidRequestError(
            f"{intent.offer.cloud} is no longer configured, but machines of it are recorded.",
            hint="Configure it again, or forget the cluster with `stix down --purge`.",
        )
    return provider, Place(intent.offer.cloud, intent.offer.region)


def open_intents(world: World, cluster: Cluster) -> list[Intent]:
    """Intents of which machines may still exist."""
    intents = child_records(world, Intent, cluster.workspace, cluster.id)
    return [one for one in intents if one.status in (IntentStatus.PENDING, IntentStatus.CREATED)]


def machines_of(world: World, intent: Intent) -> list[Machine]:
    """The machines of an intent as the provider sees them now.

    Where the outcome of the create call was never recorded, the token in their tags finds them.
    """
    provider, place = provider_of(world, intent)
    if intent.status is IntentStatus.CREATED:
        return provider.describe(place, intent.machine_ids)
    tagged = provider.list_tagged(place, world.deployment)
    return [machine for machine in tagged if machine.tags.get("stix-intent") == intent.token]


def end_intent(world: World, intent: Intent, reason: str) -> None:
    """Terminate the machines of an intent and record the end.

    Raises ``NotYetTerminatedError`` until the provider reports every one as gone: call again.
    """
    provider, place = provider_of(world, intent)
    machines = machines_of(world, intent)
    if intent.status is IntentStatus.PENDING and not machines:
        _await_outcome(world, intent)
    left = _remaining(machines)
    if left:
        provider.terminate(place, [machine.id for machine in left])
        left = _remaining(provider.describe(place, [machine.id for machine in left]))
    if left:
        states = ", ".join(f"{machine.id} is {machine.state}" for machine in left[:3])
        raise NotYetTerminatedError(f"Not gone yet: {states}.")
    ids = intent.machine_ids or tuple(machine.id for machine in machines)
    keep_until = world.clock.now() + world.limits.retention_seconds
    ended = intent.changed(
        status=IntentStatus.ENDED, machine_ids=ids, reason=reason, due_at=None, expires_at=keep_until
    )
    world.store.transact([put(ended, unconditional=True)])


def _await_outcome(world: World, intent: Intent) -> None:
    """A create call that was begun before the cluster was wanted otherwise may still be answered."""
    if world.clock.now() - intent.created_at < _CREATE_SECONDS:
        raise NotYetTerminatedError("The machines may still be being created.")


def _remaining(machines: Iterable[Machine]) -> list[Machine]:
    return [machine for machine in machines if machine.state is not MachineState.TERMINATED]
