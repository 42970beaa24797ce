"""One attempt to get a cluster's machines: rank offers once, then intent, provider, outcome."""

from __future__ import annotations

import hashlib
from typing import Any

from stix.application.end_machines import end_intent
from stix.application.operations import note
from stix.application.planning import accelerators_text, plan, read_plan, store_plan
from stix.application.records import (
    child_records,
    cluster_key,
    get_cluster,
    intent_key,
    load,
    put,
    save,
    update,
)
from stix.application.tokens import hash_token, join_token
from stix.application.world import World
from stix.model.cluster import Attempt, Cluster, Intent, Node
from stix.model.errors import InvalidRequestError, NoOfferError, ProviderError, ThrottledError
from stix.model.offer import Offer
from stix.model.resources import Resources
from stix.model.status import ClusterStatus, IntentStatus, NodeStatus, Wanted
from stix.model.task import Task
from stix.ports.compute import GangRequest, Place
from stix.ports.state_store import Item, Key, VersionConflictError
from stix.ports.surroundings import Event

__all__ = ["MAX_KEPT_ATTEMPTS", "PLACE_WORKSPACE", "create", "machine_tags", "rank", "refuse_attempt"]

MAX_KEPT_ATTEMPTS = 50
PLACE_WORKSPACE = "-system-"

_PLACE_REFRESH_SECONDS = 86400.0


def rank(world: World, workspace: str, cluster_id: str) -> dict[str, Any]:
    """Rank the offers of a cluster once; ``outcome`` is RANKED, NO_OFFER or MOVED (nothing left to do)."""
    cluster = get_cluster(world, workspace, cluster_id)
    if not _launching(cluster):
        return {"outcome": "MOVED", "max_attempts": 0}
    lease = world.clock.now() + world.limits.launch_lease_seconds
    if not cluster.plan_key:
        task = Task(num_nodes=cluster.num_nodes, resources=Resources.model_validate(cluster.requested))
        try:
            ranked = plan(world, task)
        except NoOfferError as error:
            reason = error.message
            update(world, Cluster, cluster_key(workspace, cluster_id), lambda c: c.changed(reason=reason))
            return {"outcome": "NO_OFFER", "max_attempts": 0}
        key = store_plan(world, workspace, cluster_id, ranked)
        save(world, cluster.changed(plan_key=key, offers=len(ranked), due_at=lease))
        first = ranked[0].offer
        price = f"{first.price:.4g} USD/h" if first.price else "free"
        chosen = f"{first.place if first.cloud != first.region else first.cloud} {first.instance_type}"
        note(world, workspace, cluster.operation_id, f"Chose {chosen} ({price}): {ranked[0].reason}.")
    return {"outcome": "RANKED", "max_attempts": world.limits.max_attempts}


def create(world: World, workspace: str, cluster_id: str) -> dict[str, Any]:
    """Make the machines of the current attempt: the intent first, then the provider's call, then its outcome.

    ``outcome``: CREATED, REFUSED (the cursor moved on), EXHAUSTED (no offer left) or MOVED. Idempotent: the
    intent's token makes a repeated call find the same gang. Raises ``ThrottledError`` to be tried again.
    """
    cluster = get_cluster(world, workspace, cluster_id)
    if not _launching(cluster):
        return _outcome(world, cluster, "MOVED")
    offers = read_plan(world, cluster.plan_key)
    if cluster.attempt >= len(offers):
        return _outcome(world, cluster, "EXHAUSTED")
    offer = offers[cluster.attempt].offer
    intent = _intent(world, cluster, offer)
    if intent.status is IntentStatus.CREATED:
        return _outcome(world, cluster, _expect_nodes(world, cluster, intent))
    if intent.status is not IntentStatus.PENDING:
        refuse_attempt(world, cluster, intent.status, intent.reason)
        return _outcome(world, cluster, "REFUSED")
    nodes = f"{cluster.num_nodes} node{'s' * (cluster.num_nodes != 1)}"
    shape = _shape(offer)
    note(world, workspace, cluster.operation_id, f"Starting {nodes} on {offer.cloud} ({shape}).")
    try:
        machine_ids = _call_provider(world, cluster, intent)
    except ThrottledError:
        raise
    except ProviderError as error:
        _record_outcome(world, intent.changed(status=IntentStatus.REFUSED, reason=error.message))
        world.secrets.delete(_join_reference(intent))
        refuse_attempt(world, cluster, error.code, error.message)
        note(world, workspace, cluster.operation_id, f"{offer.place} refused: {error.message}")
        if isinstance(error, InvalidRequestError):
            return _outcome(world, cluster, "EXHAUSTED")
        return _outcome(world, cluster, "REFUSED")
    intent = intent.changed(status=IntentStatus.CREATED, machine_ids=tuple(machine_ids))
    _record_outcome(world, intent)
    return _outcome(world, cluster, _expect_nodes(world, cluster, intent))


def _outcome(world: World, cluster: Cluster, outcome: str) -> dict[str, Any]:
    return {"outcome": outcome, "attempt": cluster.attempt, "boot_seconds": world.limits.boot_seconds}


def machine_tags(world: World, cluster: Cluster, attempt: int, token: str) -> dict[str, str]:
    """What every machine carries, so that a sweep knows whose it is."""
    return {
        **cluster.labels,
        "stix-deployment": world.deployment,
        "stix-workspace": cluster.workspace,
        "stix-cluster": cluster.id,
        "stix-name": cluster.name,
        "stix-attempt": str(attempt),
        "stix-intent": token,
    }


def refuse_attempt(world: World, cluster: Cluster, outcome: str, reason: str) -> None:
    """Remember the attempt and move the cursor to the next offer, once per attempt."""
    now = world.clock.now()

    def change(current: Cluster) -> Cluster | None:
        if current.attempt != cluster.attempt:
            return None
        offer = current.offer
        intent_item = world.store.get(intent_key(cluster.workspace, cluster.id, cluster.attempt))
        if intent_item is not None:
            offer = load(Intent, intent_item).offer
        attempt = Attempt(
            at=now,
            place=offer.place if offer else "",
            instance_type=offer.instance_type if offer else "",
            outcome=str(outcome),
            reason=reason,
        )
        return current.changed(
            attempt=current.attempt + 1,
            attempts=(*current.attempts, attempt)[-MAX_KEPT_ATTEMPTS:],
            offer=None,
            reason=f"{attempt.place}: {reason}",
            join_task_token="",
        )

    update(world, Cluster, cluster_key(cluster.workspace, cluster.id), change)


def _launching(cluster: Cluster) -> bool:
    return cluster.wanted is Wanted.UP and cluster.status is ClusterStatus.INIT


def _intent(world: World, cluster: Cluster, offer: Offer) -> Intent:
    """The intent of the attempt, written before anything is created."""
    key = intent_key(cluster.workspace, cluster.id, cluster.attempt)
    item = world.store.get(key)
    if item is not None:
        return load(Intent, item)
    now = world.clock.now()
    parts = (world.deployment, cluster.id, str(cluster.attempt), offer.place, offer.instance_type)
    token = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    joining = join_token(cluster.workspace, cluster.id, cluster.attempt, world.ids.secret())
    intent = Intent(
        workspace=cluster.workspace,
        cluster_id=cluster.id,
        attempt=cluster.attempt,
        created_at=now,
        due_at=now + world.limits.launch_lease_seconds,
        token=token,
        offer=offer,
        count=cluster.num_nodes,
        join_hash=hash_token(joining),
    )
    # The token must be at hand before the intent says that a call may have been made with it.
    world.secrets.put(_join_reference(intent), {"token": joining})
    _remember_place(world, Place(offer.cloud, offer.region), now)
    try:
        return save(world, intent)
    except VersionConflictError:
        world.secrets.delete(_join_reference(intent))
        raise


def _join_reference(intent: Intent) -> str:
    """Where the gang's join token is until its machines are made; one per intent that was tried."""
    return f"join/{intent.workspace}/{intent.cluster_id}/{intent.attempt}-{intent.join_hash[:16]}"


def _call_provider(world: World, cluster: Cluster, intent: Intent) -> list[str]:
    provider = world.compute.get(intent.offer.cloud)
    if provider is None:
        raise InvalidRequestError(f"{intent.offer.cloud} is no longer configured.", hint="See `stix check`.")
    joining = world.secrets.get(_join_reference(intent))["token"]
    return provider.create(
        GangRequest(
            token=intent.token,
            count=intent.count,
            offer=intent.offer,
            tags=machine_tags(world, cluster, intent.attempt, intent.token),
            join_token=joining,
            api_url=world.api_url(),
            boot_seconds=world.limits.boot_seconds,
            ports=cluster.ports,
            labels=cluster.labels,
        )
    )


def _record_outcome(world: World, intent: Intent) -> None:
    """The outcome of an effect is written whatever happened to the item meanwhile."""
    refused = intent.status is IntentStatus.REFUSED
    keep_until = world.clock.now() + world.limits.retention_seconds if refused else None
    world.store.transact([put(intent.changed(due_at=None, expires_at=keep_until), unconditional=True)])


def _expect_nodes(world: World, cluster: Cluster, intent: Intent) -> str:
    """A node for each machine that was accepted. Idempotent.

    CREATED, or MOVED where the cluster ended meanwhile: then the machines end too. The teardown looks the
    other way round, at intents after its last write.
    """
    now = world.clock.now()
    if get_cluster(world, cluster.workspace, cluster.id).ended:
        end_intent(world, intent, "its cluster ended")
        return "MOVED"
    boot_deadline = now + world.limits.boot_seconds
    known = {node.rank: node for node in child_records(world, Node, cluster.workspace, cluster.id)}
    for index, machine_id in enumerate(intent.machine_ids):
        old = known.get(index)
        if old is not None and old.machine_id == machine_id:
            continue
        node = Node(
            workspace=cluster.workspace,
            cluster_id=cluster.id,
            rank=index,
            status=NodeStatus.PENDING,
            reason="booting",
            since=now,
            machine_id=machine_id,
            attempt=intent.attempt,
            version=0 if old is None else old.version,
            due_at=boot_deadline + world.limits.launch_lease_seconds,
        )
        save(world, node)

    def change(current: Cluster) -> Cluster | None:
        if not _launching(current) or current.attempt != intent.attempt:
            return None
        return current.changed(
            offer=intent.offer,
            reason="waiting for the nodes to join",
            due_at=boot_deadline + world.limits.launch_lease_seconds,
        )

    update(world, Cluster, cluster_key(cluster.workspace, cluster.id), change)
    world.secrets.delete(_join_reference(intent))
    machines = list(intent.machine_ids)
    detail = {"machines": machines, "place": intent.offer.place, "price": intent.offer.price}
    world.events.publish(Event("MachinesCreated", cluster.workspace, cluster.id, now, detail))
    return "CREATED"


def _remember_place(world: World, place: Place, now: float) -> None:
    """Note that machines may exist there: the orphan sweep visits places of the last 30 days."""
    key = Key.top(PLACE_WORKSPACE, "place", f"{place.cloud}.{place.region}")
    stored = world.store.get(key)
    if stored is not None and now - float(stored.body["used_at"]) < _PLACE_REFRESH_SECONDS:
        return
    body = {"cloud": place.cloud, "region": place.region, "used_at": now}
    version = 0 if stored is None else stored.version
    try:
        world.store.put(Item(key, body, version=version, listed=True, created_at=now))
    except VersionConflictError:
        return  # another launch noted it just now


def _shape(offer: Offer) -> str:
    accelerators = accelerators_text(offer)
    return f"{offer.vcpus:g} CPU, {offer.memory_gib:.0f} GiB" + (f", {accelerators}" if accelerators else "")
