"""Creations that were accepted and refused afterwards: what the provider says then counts as its answer."""

from __future__ import annotations

from stix.application.end_machines import machines_of
from stix.application.offering_health import record_refusal
from stix.application.records import intent_key, update
from stix.application.world import World
from stix.model.cluster import Intent
from stix.model.errors import ProviderError
from stix.model.status import IntentStatus

__all__ = ["note_refusal"]


def note_refusal(world: World, intent: Intent) -> Intent:
    """The intent with the refusal that its machines tell of, remembered once; as it is where there is none.

    Where no machine of the gang ever had an address, none ran: then the attempt costs nothing.
    """
    if intent.refusal or intent.status not in (IntentStatus.CREATED, IntentStatus.RACING):
        return intent
    machines = machines_of(world, intent)
    told = next((machine for machine in machines if machine.refusal is not None), None)
    if told is None or told.refusal is None:
        return intent
    refusal = ProviderError(told.reason, code=told.refusal.code, blocks=told.refusal.blocks)
    record_refusal(world, intent.offer, intent.token, refusal)
    never_ran = not any(machine.address for machine in machines)
    noted = {"refusal": refusal.code, "reason": refusal.message, "never_ran": never_ran}
    key = intent_key(intent.workspace, intent.cluster_id, intent.attempt)
    stored = update(world, Intent, key, lambda one: one.changed(**noted))
    return intent.changed(**noted) if stored is None else stored
