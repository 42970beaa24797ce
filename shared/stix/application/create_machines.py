"""One attempt to get a cluster's machines: rank offers once, then choose, intent, provider, outcome."""

from __future__ import annotations

import itertools
from typing import Any

from stix.application.attempts import (
    MAX_KEPT_ATTEMPTS,
    attempt_at,
    booting_node,
    called_invalid,
    is_launching,
    outcome_put,
    refuse_attempt,
    refused_line,
)
from stix.application.begin_attempt import begin_attempt, others_are_asking
from stix.application.end_machines import end_intent, join_reference
from stix.application.ledger import open_entry
from stix.application.machine_tags import machine_tags
from stix.application.next_offer import Choice, choose
from stix.application.offering_health import record_accepted, record_refusal, refusal_writes
from stix.application.operations import note
from stix.application.planning import plan, read_plan, store_plan
from stix.application.quotas import forget_quotas
from stix.application.race import ask_rival, take_part
from stix.application.records import (
    child_records,
    cluster_key,
    get_cluster,
    intent_key,
    load,
    save,
    update,
)
from stix.application.sweep_guard import witness
from stix.application.world import World
from stix.lifecycle.cluster import BOOT_CHECK_SECONDS
from stix.model.cluster import Cluster, Intent, Node
from stix.model.container import machine_image
from stix.model.errors import (
    InvalidRequestError,
    NoOfferError,
    ProviderError,
    QuotaExceededError,
    ThrottledError,
    UnavailableError,
)
from stix.model.offer import Offer
from stix.model.resources import Resources
from stix.model.status import IntentStatus
from stix.model.task import Task
from stix.ports.compute import AgentSource, GangRequest, Place
from stix.ports.state_store import Put, Write
from stix.ports.surroundings import Event

__all__ = ["create", "rank"]

_TRIES_WITH_MEMORY = 4


def rank(world: World, workspace: str, cluster_id: str) -> dict[str, Any]:
    """Rank the offers of a cluster once; ``outcome`` is RANKED, NO_OFFER or MOVED (nothing left to do)."""
    cluster = get_cluster(world, workspace, cluster_id)
    if not is_launching(cluster):
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
        save(world, cluster.changed(plan_key=key, offers=len(ranked), cursor=0, insisted=False, due_at=lease))
        first = ranked[0].offer
        price = f"{first.price:.4g} USD/h" if first.price else "free"
        chosen = f"{first.place if first.cloud != first.region else first.cloud} {first.instance_type}"
        note(world, workspace, cluster.operation_id, f"Chose {chosen} ({price}): {ranked[0].reason}.")
    elif cluster.owner and (cluster.attempt == 0 or cluster.replacing):
        # Ranked when it was made: this is the first sign of the run that was to begin.
        update(world, Cluster, cluster_key(workspace, cluster_id), lambda c: c.changed(due_at=lease))
    return {"outcome": "RANKED", "max_attempts": world.limits.max_attempts}


def create(world: World, workspace: str, cluster_id: str) -> dict[str, Any]:
    """Make the machines of the current attempt: the intent first, then the provider's call, then its outcome.

    ``outcome``: CREATED, REFUSED (the cursor moved on), EXHAUSTED (no offer left) or MOVED. Idempotent: the
    intent's token makes a repeated call find the same gang. Raises ``ThrottledError`` to be tried again.
    """
    cluster = get_cluster(world, workspace, cluster_id)
    if not is_launching(cluster):
        return _outcome(world, cluster, "MOVED")
    if called_invalid(cluster):
        return _outcome(world, cluster, "EXHAUSTED")
    item = world.store.get(intent_key(workspace, cluster_id, cluster.attempt))
    if item is None:
        ranked = read_plan(world, cluster.plan_key)
        choice = choose(world, cluster, ranked)
        cluster = _note_choice(world, cluster, choice)
        if choice.index is None:
            return _outcome(world, cluster, "EXHAUSTED")
        intent = begin_attempt(world, cluster, ranked[choice.index].offer, choice.slot)
    else:
        intent = load(Intent, item)
    offer = intent.offer
    if intent.status is IntentStatus.RACING:
        intent = take_part(world, intent)
    if intent.status is IntentStatus.CREATED:
        return _outcome(world, cluster, _accepted(world, cluster, intent), offer)
    if intent.status is not IntentStatus.PENDING:
        line = refused_line(offer, intent.reason)
        refuse_attempt(world, cluster, intent.status, intent.reason, line, intent=intent)
        return _outcome(world, cluster, "REFUSED")
    try:
        machine_ids = _call_provider(world, cluster, intent)
    except ThrottledError:
        raise
    except UnavailableError:
        witness(world, intent)
        raise
    except ProviderError as error:
        _refused(world, cluster, intent, error)
        if isinstance(error, QuotaExceededError):
            forget_quotas(world, Place(offer.cloud, offer.region))
        if isinstance(error, InvalidRequestError):
            return _outcome(world, cluster, "EXHAUSTED")
        return _outcome(world, cluster, "REFUSED")
    intent = intent.changed(
        status=IntentStatus.CREATED, machine_ids=tuple(machine_ids), accepted_at=world.clock.now()
    )
    witness(world, intent)
    world.store.transact([outcome_put(world, intent)])
    record_accepted(world, offer, intent.token)
    return _outcome(world, cluster, _accepted(world, cluster, intent), offer)


def _refused(world: World, cluster: Cluster, intent: Intent, error: ProviderError) -> None:
    """The provider refused: outcome, cursor, progress and what is remembered of it, in one transaction.

    The memory is shared with every other launch, so it leaves the transaction where it keeps it from going
    through.
    """
    refused = outcome_put(world, intent.changed(status=IntentStatus.REFUSED, reason=error.message))
    tries = itertools.count()
    remembered: list[Put] = []

    def together() -> list[Write]:
        again = next(tries) < _TRIES_WITH_MEMORY
        remembered[:] = refusal_writes(world, intent.offer, intent.token, error) if again else []
        return [refused, *remembered]

    line = refused_line(intent.offer, error.message)
    moved = refuse_attempt(world, cluster, error.code, error.message, line, intent=intent, also=together)
    if not moved:
        world.store.transact([refused])
    if not (moved and remembered):
        record_refusal(world, intent.offer, intent.token, error)
    world.secrets.delete(join_reference(intent))


def _accepted(world: World, cluster: Cluster, intent: Intent) -> str:
    outcome = _expect_nodes(world, cluster, intent)
    if outcome == "CREATED" and cluster.race > 1 and not cluster.raced:
        _start_rivals(world, cluster)
    return outcome


def _start_rivals(world: World, cluster: Cluster) -> None:
    """Ask the next best offers too, as many as the race has room for. Idempotent: an intent that is there is
    not asked again, but for one without an outcome."""
    key = cluster_key(cluster.workspace, cluster.id)
    update(world, Cluster, key, lambda current: current.changed(racing=True))
    ranked = read_plan(world, cluster.plan_key)
    cursor = cluster.cursor + 1
    running = 1
    for attempt in range(cluster.attempt + 1, cluster.attempt + 1 + world.limits.max_attempts):
        item = world.store.get(intent_key(cluster.workspace, cluster.id, attempt))
        rival = cluster.changed(attempt=attempt, cursor=cursor, insisted=True)
        if item is not None:
            intent = load(Intent, item)
            cursor = next((n + 1 for n, one in enumerate(ranked) if one.offer == intent.offer), cursor)
        elif running < cluster.race:
            choice = choose(world, rival, ranked)
            if choice.index is None:
                return
            cursor = choice.index + 1
            intent = begin_attempt(world, rival, ranked[choice.index].offer, choice.slot)
        else:
            return
        if intent.status is IntentStatus.PENDING:
            running += ask_rival(world, cluster, intent, lambda one: _call_provider(world, cluster, one))
        else:
            running += intent.status in (IntentStatus.RACING, IntentStatus.CREATED)


def _note_choice(world: World, cluster: Cluster, choice: Choice) -> Cluster:
    """Move the cursor to the chosen offer and keep what was passed over. Raises ``ThrottledError`` where the
    outcome of others has to be waited for."""
    now = world.clock.now()
    skipped = tuple(
        attempt_at(skip.offer, at=now, outcome="skipped", reason=skip.reason, until=skip.until)
        for skip in choice.skipped
    )

    def change(current: Cluster) -> Cluster | None:
        if current.attempt != cluster.attempt or not is_launching(current):
            return None
        if choice.busy:
            return current if current.busy_since else current.changed(busy_since=now)
        return current.changed(
            cursor=current.cursor if choice.index is None else choice.index,
            attempts=(*current.attempts, *skipped)[-MAX_KEPT_ATTEMPTS:],
            insisted=current.insisted or choice.insisted,
            busy_since=0.0,
        )

    if not choice.busy and change(cluster) == cluster:
        return cluster  # mostly: the refusal before moved the cursor to this offer
    changed = update(world, Cluster, cluster_key(cluster.workspace, cluster.id), change)
    if choice.busy:
        raise others_are_asking()
    return cluster if changed is None else changed


def _outcome(world: World, cluster: Cluster, outcome: str, offer: Offer | None = None) -> dict[str, Any]:
    """``offer``: of which the machines are. ``refuses_late`` sends the run to look again soon."""
    facts = None if offer is None else world.clouds.get(offer.cloud)
    return {
        "outcome": outcome,
        "attempt": cluster.attempt,
        "boot_seconds": world.limits.boot_seconds,
        "refuses_late": facts is not None and facts.refuses_late,
    }


def _call_provider(world: World, cluster: Cluster, intent: Intent) -> list[str]:
    provider = world.compute.get(intent.offer.cloud)
    if provider is None:
        raise InvalidRequestError(f"{intent.offer.cloud} is no longer configured.", hint="See `stix check`.")
    joining = world.secrets.get(join_reference(intent))["token"]
    asked = Resources.model_validate(cluster.requested)
    agent = None
    if not world.clouds[intent.offer.cloud].brings_agent:
        agent = AgentSource(world.api_url(), world.agent_hash())
    return provider.create(
        GangRequest(
            token=intent.token,
            count=intent.count,
            offer=intent.offer,
            tags=machine_tags(world, cluster, intent),
            join_token=joining,
            api_url=world.api_url(),
            boot_seconds=world.limits.boot_seconds,
            ports=cluster.ports,
            labels=cluster.labels,
            agent=agent,
            disk_size_gib=asked.disk_size or 0,
            disk_tier=asked.disk_tier or "",
            image=machine_image(asked.image_id, intent.offer.region),
        )
    )


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
    for rank, machine_id in zip(intent.own_ranks, intent.machine_ids, strict=False):
        old = known.get(rank)
        if old is not None and old.machine_id == machine_id:
            continue
        version = 0 if old is None else old.version
        until = boot_deadline + world.limits.launch_lease_seconds
        save(world, booting_node(intent, rank, version=version, now=now, due_at=until))

    def change(current: Cluster) -> Cluster | None:
        if not is_launching(current) or current.attempt != intent.attempt:
            return None
        return current.changed(
            offer=intent.offer,
            reason="waiting for the nodes to join",
            boot_until=boot_deadline,
            due_at=now + BOOT_CHECK_SECONDS,
        )

    update(world, Cluster, cluster_key(cluster.workspace, cluster.id), change)
    world.secrets.delete(join_reference(intent))
    open_entry(world, cluster, intent)
    machines = list(intent.machine_ids)
    detail = {"machines": machines, "place": intent.offer.place, "price": intent.offer.price}
    world.events.publish(Event("MachinesCreated", cluster.workspace, cluster.id, now, detail))
    return "CREATED"
