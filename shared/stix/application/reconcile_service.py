"""One bounded step of a service: look at what it has, decide, and act on it.

Every step is one conditional write of the service with the replicas that changed and, where it launches, with
the new cluster. Machines are told to end after that was written, and again until they are gone: that may be
done twice. A service ends only after the table says of each of its clusters that nothing of it lives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stix.application.gateway_nodes import keep_gateways
from stix.application.launch_replica import Places, budget_spent, launch_replica
from stix.application.observe_replica import Machines, read_machines, take_in
from stix.application.observe_run import log_is_whole
from stix.application.records import service_key, update
from stix.application.runs import failure_reason
from stix.application.service_draft import ServiceDraft, find_service
from stix.application.service_ports import free_port
from stix.application.service_situation import (
    figures_words,
    kept_memory,
    metrics_of,
    read_figures,
    replica_terms,
    terms_of,
)
from stix.application.take_steps import OVER, take_steps
from stix.application.want import begin
from stix.application.world import World
from stix.autoscaling.decide import decide
from stix.autoscaling.situation import Decision, Drain, Launch, Metrics, Terminate, Terms
from stix.model.cluster import Cluster
from stix.model.errors import ConflictError
from stix.model.service_state import GatewayFigures, Service
from stix.model.status import ClusterStatus, ReplicaStatus, Wanted
from stix.ports.state_store import Delete, Key
from stix.recovery.situation import Candidate

__all__ = ["reconcile", "record_failure"]

_STEPS = 60
_LOG_SECONDS = 60.0
"""How long a replica whose run has ended is kept for the rest of its log."""
_BUDGET_SECONDS = 900.0
"""How often a service that waits for a budget looks."""
_NO_PLACE_SECONDS = 300.0
"""How often a service looks for which no place fits any more."""
_STUCK_FAILURES = 3
"""Teardowns that failed in a row; then people are told. It is tried on."""
_REPLICA_KEPT_SECONDS = 6 * 3600.0
_FIRST_RETRY, _LONGEST_RETRY = 10.0, 600.0
_SERVES = (ReplicaStatus.READY, ReplicaStatus.NOT_READY)


def reconcile(world: World, workspace: str, name: str) -> dict[str, Any]:
    """Step until there is nothing to do now.

    ``outcome``: ENDED; SETTLED; SOON, where the next moment is less than a minute away, ``wait_seconds`` from
    now; or BUSY, where others write the service all the time, or it launches many replicas: it stays due.
    Raises the errors of the stores and providers, to be tried again.
    """
    places = Places(world)

    def step() -> float | None:
        service = find_service(world, workspace, name)
        if service is None or service.ended_at is not None:
            keep_gateways(world, workspace)
            return OVER
        return _step(ServiceDraft(world, service), places)

    return take_steps(world, step, _STEPS)


def _step(draft: ServiceDraft, places: Places) -> float | None:
    """Take one step: when to look again, None for at once."""
    service = draft.service
    told = _end_machines(draft)
    figures, until = read_figures(draft.world, service.workspace, service.name)
    standing = [one for one in draft.replicas.values() if one.ended_at is None]
    machines = read_machines(draft, standing)
    for one in standing:
        if not draft.full:
            take_in(draft, one, machines[one.id], figures)
    if service.down:
        return _shut_down(draft, figures)
    _end_asked(draft)
    metrics = metrics_of(figures, until)
    terms, decision, offers = _decide(draft, places, metrics)
    if decision.version_failed and _go_back(draft, decision):
        draft.settle()
        draft.commit()
        return None
    more = _carry_out(draft, decision, figures_words(metrics, draft.now))
    launch = _next_launch(draft, decision)
    if launch is not None:
        launch_replica(draft, terms, launch, offers)
        return None
    draft.settle()
    draft.commit()
    return None if more or told else draft.due_at


def _decide(
    draft: ServiceDraft, places: Places, metrics: Metrics | None
) -> tuple[Terms, Decision, list[Candidate]]:
    """Prices and places are read only where something may be launched, or where the load is measured by what
    the places have."""
    service = draft.service
    terms, replicas = terms_of(service), [replica_terms(one) for one in draft.kept]
    offers: list[Candidate] = []
    decision = decide(terms, metrics, replicas, offers, draft.now)
    memory = decision.memory
    if decision.missing or isinstance(terms.policy.target_qps_per_replica, Mapping):
        offers = places.candidates(service.version_of(service.active), service.memory.lost_at)
        decision = decide(terms, metrics, replicas, offers, draft.now)
        memory = decision.memory
        draft.change(memory=kept_memory(memory, service.memory.lost_at))
    else:
        # Whether places are taken back is asked again once one is needed.
        kept = kept_memory(memory, service.memory.lost_at)
        draft.change(memory=kept.model_copy(update={"forgiven_at": service.memory.forgiven_at}))
    draft.change(serving=decision.versions, reason=decision.reason)
    if decision.look_again_at is not None:
        draft.look_at(decision.look_again_at)
    if decision.missing and not offers:
        draft.look_at(draft.now + _NO_PLACE_SECONDS)
    return terms, decision, offers


def _go_back(draft: ServiceDraft, decision: Decision) -> bool:
    """The version that failed before it was ever ready gives way to the one that was. True where there is
    one: it is decided for anew."""
    service = draft.service
    failed = service.active
    if not service.version_of(failed).failed:
        versions = tuple(
            one.model_copy(update={"failed": True}) if one.number == failed else one
            for one in service.versions
        )
        draft.change(versions=versions)
    before = decision.memory.ready_version
    if not before or before == failed or all(one.number != before for one in service.versions):
        return False
    reason = f"version {failed} failed before it was ever ready; version {before} serves on"
    draft.change(active=before, reason=reason)
    draft.say("ServiceRolledBack", reason)
    draft.decided(decision, "", [reason])
    return True


def _carry_out(draft: ServiceDraft, decision: Decision, figures: str) -> bool:
    """All but the launches. True where more is to be done at once."""
    done: list[str] = []
    more = False
    for action in decision.actions:
        if isinstance(action, Launch):
            continue
        if draft.full:
            more = True
            break
        if isinstance(action, Drain):
            _drain(draft, action.replica, action.reason)
            done.append(f"drain replica {action.replica}: {action.reason}")
        elif isinstance(action, Terminate):
            _end(draft, action.replica, action.reason)
            done.append(f"end replica {action.replica}: {action.reason}")
            more = True
    launch = _next_launch(draft, decision)
    if launch is not None:
        market = "a spot" if launch.offer.spot else "an on-demand"
        done.append(f"launch {market} replica in {launch.offer.place}: {launch.reason}")
    draft.decided(decision, figures, done)
    return more


def _next_launch(draft: ServiceDraft, decision: Decision) -> Launch | None:
    """Of several the first: each is written with a step of its own."""
    launch = next((one for one in decision.actions if isinstance(one, Launch)), None)
    if launch is None or draft.full:
        return None
    if draft.now < draft.service.launch_after:
        draft.look_at(draft.service.launch_after)
        return None
    spent = budget_spent(draft)
    if spent:
        draft.change(reason=spent)
        draft.look_at(draft.now + _BUDGET_SECONDS)
        return None
    return launch


def _drain(draft: ServiceDraft, number: int, reason: str) -> None:
    draft.change_replica(
        number,
        status=ReplicaStatus.SHUTTING_DOWN,
        reason=reason,
        draining_since=draft.now,
        in_flight=None,
    )
    draft.say("ReplicaDraining", reason, replica=number)
    replica = draft.replicas[number]
    spec = draft.service.version_of(replica.service_version).parsed()
    draft.look_at(draft.now + spec.load_balancer.drain_seconds)


def _end(draft: ServiceDraft, number: int, reason: str) -> None:
    """Its machines are to end, which the next step sees to. What failed or was lost keeps its status."""
    replica = draft.replicas[number]
    over = replica.status.failed or replica.status is ReplicaStatus.PREEMPTED
    changes: dict[str, Any] = {} if over else {"status": ReplicaStatus.SHUTTING_DOWN, "reason": reason}
    draft.change_replica(number, ended_at=draft.now, **changes)
    draft.look_at(draft.now)


def _end_asked(draft: ServiceDraft) -> None:
    """Replicas that a person wants ended: what serves drains first."""
    for number in draft.service.terminate:
        replica = draft.replicas.get(number)
        if replica is None or replica.ended_at is not None or replica.draining_since is not None:
            continue
        act = _drain if replica.status in _SERVES else _end
        act(draft, number, "a person ended it")
    if draft.service.terminate:
        draft.change(terminate=())


def _end_machines(draft: ServiceDraft) -> bool:
    """Tell the machines of replicas that are over to end, and note which are gone. True where some were told
    just now."""
    open_ended = [one for one in draft.replicas.values() if one.ended_at is not None and not one.closed]
    machines = read_machines(draft, open_ended)
    told = False
    for one in open_ended:
        if draft.full:
            return True
        found = machines[one.id]
        cluster = found.cluster
        if cluster is None or cluster.ended:
            draft.change_replica(one.id, closed=True, expires_at=draft.now + _REPLICA_KEPT_SECONDS)
        elif cluster.wanted is not Wanted.ABSENT:
            told |= _tell(draft, cluster, found, one.ended_at or draft.now, one.reason)
        elif cluster.failures >= _STUCK_FAILURES and one.status is ReplicaStatus.SHUTTING_DOWN:
            draft.change_replica(one.id, status=ReplicaStatus.FAILED_CLEANUP, reason=cluster.reason)
    return told


def _tell(draft: ServiceDraft, cluster: Cluster, found: Machines, ended_at: float, reason: str) -> bool:
    run, until = found.run, ended_at + _LOG_SECONDS
    over = cluster.status is ClusterStatus.UP and run is not None and run.status.terminal
    if over and run is not None and draft.now < until and not log_is_whole(draft.world, run):
        draft.look_at(until)
        return False
    try:
        begin(draft.world, cluster, "down", Wanted.ABSENT, reason or "its service does not need it")
    except ConflictError:
        return False  # It is gone.
    return True


def _shut_down(draft: ServiceDraft, figures: list[GatewayFigures]) -> float | None:
    """A service that is wanted to end: its replicas go at once, then it."""
    service = draft.service
    standing = [one.id for one in draft.replicas.values() if one.ended_at is None]
    for number in standing:
        if not draft.full:
            _end(draft, number, "its service is shut down")
    draft.change(reason="")
    if any(not one.closed for one in draft.replicas.values()):
        draft.settle()
        draft.commit()
        return None if standing else draft.due_at
    for version in service.versions:
        for key in filter(None, (version.secrets_key, version.tls_key)):
            # Before the end is written: after it nobody would come back for them.
            draft.world.secrets.delete(key)
    keys = [Key(one.workspace, one.kind, one.service, one.gateway_id) for one in figures]
    draft.change(
        ended_at=draft.now,
        serving=(),
        expires_at=draft.now + draft.world.limits.retention_seconds,
    )
    draft.say("ServiceDown", "all of its machines are gone")
    draft.settle()
    draft.commit(
        [*free_port(draft.world, service.workspace, service.uid), *(Delete(key) for key in keys[:20])]
    )
    return None


def record_failure(world: World, workspace: str, name: str, failure: dict[str, Any]) -> dict[str, Any]:
    """A step went wrong, however often it was tried: say so, and look again later."""
    now = world.clock.now()
    reason = failure_reason(failure)

    def change(service: Service) -> Service | None:
        if service.ended_at is not None:
            return None
        wait = min(_LONGEST_RETRY, _FIRST_RETRY * 2 ** min(service.failures, 10))
        return service.changed(
            failures=service.failures + 1, due_at=now + wait, reason=f"a step failed: {reason}"
        )

    service = update(world, Service, service_key(workspace, name), change)
    return {"outcome": "MOVED" if service is None or service.ended_at is not None else "RECORDED"}
