"""Several offers at once: beside the attempt that a launch makes, rivals are started, and the gang that is
whole first is the cluster. The others end.

A rival is an intent with a number of its own after the current attempt's, in the status RACING once its
machines were accepted. Its agents knock instead of joining; with the last of them it takes the cluster over,
unless that is whole by then. Where the current attempt fails, the next number is a rival's already, and the
launch goes on with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stix.application.attempts import booting_node, is_launching, outcome_put, refused_line
from stix.application.end_machines import end_intent, join_reference, machines_of, unended_intents
from stix.application.late_refusals import note_refusal
from stix.application.ledger import open_entry
from stix.application.offering_health import record_accepted, record_failure, record_refusal
from stix.application.operations import note
from stix.application.records import child_records, cluster_key, get_cluster, intent_key, put, update
from stix.application.sweep_guard import witness
from stix.application.world import World
from stix.lifecycle.cluster import BOOT_CHECK_SECONDS
from stix.model.cluster import Cluster, Intent, Node
from stix.model.errors import NotYetTerminatedError, ProviderError, StixError
from stix.model.status import IntentStatus, NodeStatus
from stix.ports.compute import MachineState
from stix.ports.state_store import VersionConflictError
from stix.ports.surroundings import Event

__all__ = ["ask_rival", "drop_lost_rivals", "end_rivals", "knock", "rivals_of", "take_part"]

_GONE = (MachineState.TERMINATING, MachineState.TERMINATED)


def rivals_of(world: World, cluster: Cluster) -> list[Intent]:
    """Creations of which machines may exist beside the cluster's own."""
    return [one for one in unended_intents(world, cluster) if one.attempt != cluster.attempt]


def ask_rival(world: World, cluster: Cluster, intent: Intent, ask: Callable[[Intent], Sequence[str]]) -> bool:
    """Make a rival's machines; False where its provider refused. A call whose outcome nobody knows leaves the
    intent PENDING: it ends with the race."""
    try:
        machine_ids = tuple(ask(intent))
    except ProviderError as error:
        refused = intent.changed(status=IntentStatus.REFUSED, reason=error.message)
        world.store.transact([outcome_put(world, refused)])
        world.secrets.delete(join_reference(intent))
        record_refusal(world, intent.offer, intent.token, error)
        note(world, cluster.workspace, cluster.operation_id, refused_line(intent.offer, error.message))
        return False
    except StixError as error:
        witness(world, intent)
        note(world, cluster.workspace, cluster.operation_id, f"{intent.offer.place}: {error.message}")
        return False
    now = world.clock.now()
    racing = intent.changed(status=IntentStatus.RACING, machine_ids=machine_ids, accepted_at=now)
    witness(world, racing)
    world.store.transact([outcome_put(world, racing)])
    world.secrets.delete(join_reference(intent))
    record_accepted(world, intent.offer, intent.token)
    open_entry(world, cluster, racing)
    return True


def take_part(world: World, intent: Intent) -> Intent:
    """A rival becomes the attempt that the launch waits for, after the one before it failed."""
    key = intent_key(intent.workspace, intent.cluster_id, intent.attempt)
    own = update(world, Intent, key, lambda one: one.changed(status=IntentStatus.CREATED))
    return intent.changed(status=IntentStatus.CREATED) if own is None else own


def knock(world: World, intent: Intent, machine_id: str) -> None:
    """A rival's machine is up. With the last of its gang it takes the cluster over, and then its agents join.

    Harmless for a race that is over: the caller sees that its cluster's attempt is another.
    """
    key = intent_key(intent.workspace, intent.cluster_id, intent.attempt)

    def change(one: Intent) -> Intent | None:
        if one.status is not IntentStatus.RACING or machine_id not in one.machine_ids:
            return None
        return one.changed(ready=tuple(sorted({*one.ready, machine_id})))

    known = update(world, Intent, key, change)
    if known is None or known.status is not IntentStatus.RACING:
        return
    if set(known.ready) == set(known.machine_ids):
        _take_over(world, known)


def _take_over(world: World, winner: Intent) -> None:
    """In one transaction, so that one gang wins: another that is whole now finds the cluster moved, and so
    does this one where a node of the attempt before joined meanwhile."""
    cluster = get_cluster(world, winner.workspace, winner.cluster_id)
    if not is_launching(cluster) or not cluster.racing:
        return
    own = [one for one in unended_intents(world, cluster) if one.attempt == cluster.attempt]
    known = {node.rank: node for node in child_records(world, Node, cluster.workspace, cluster.id)}
    if len(known) == cluster.num_nodes and all(node.status is NodeStatus.UP for node in known.values()):
        return
    now = world.clock.now()
    until = cluster.boot_until + world.limits.launch_lease_seconds
    nodes = [
        booting_node(winner, rank, version=known[rank].version if rank in known else 0, now=now, due_at=until)
        for rank in range(len(winner.machine_ids))
    ]
    won = cluster.changed(attempt=winner.attempt, offer=winner.offer, raced=True)
    writes = [
        put(won),
        put(winner.changed(status=IntentStatus.CREATED)),
        *(put(one.changed(status=IntentStatus.RACING)) for one in own if one.status is IntentStatus.CREATED),
        *(put(node) for node in nodes),
    ]
    try:
        world.store.transact(writes)
    except VersionConflictError:
        return  # it knocks again
    line = f"{winner.offer.place} came first; the others end."
    note(world, cluster.workspace, cluster.operation_id, line)
    detail = {"place": winner.offer.place, "attempt": winner.attempt}
    world.events.publish(Event("RaceWon", cluster.workspace, cluster.id, now, detail))


def drop_lost_rivals(world: World, cluster: Cluster) -> None:
    """Rivals of which a machine will never boot leave the race. What is not gone yet is looked at again."""
    for intent in rivals_of(world, cluster):
        if intent.status is not IntentStatus.RACING:
            continue
        gone = [machine for machine in machines_of(world, intent) if machine.state in _GONE]
        if gone:
            why = f"{gone[0].id} is {gone[0].state}. {gone[0].reason}".rstrip()
            noted = note_refusal(world, intent)
            if not noted.refusal:
                record_failure(world, intent.offer, intent.token, "no_capacity", why)
            _try_to_end(world, noted, why)


def end_rivals(world: World, cluster: Cluster) -> None:
    """The race is over: end what is not the cluster's own; what is not gone yet is looked at again soon."""
    why = "another gang came first"
    left = [one for one in rivals_of(world, cluster) if not _try_to_end(world, one, why)]
    soon = world.clock.now() + BOOT_CHECK_SECONDS

    def change(current: Cluster) -> Cluster | None:
        if current.ended:
            return None
        return current.changed(due_at=soon, racing=bool(left))

    update(world, Cluster, cluster_key(cluster.workspace, cluster.id), change)


def _try_to_end(world: World, intent: Intent, reason: str) -> bool:
    try:
        end_intent(world, intent, reason)
    except NotYetTerminatedError:
        return False
    return True
