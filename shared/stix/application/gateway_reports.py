"""What gateways say of services: kept where it is news, with a step of the service where it matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import ValidationError

from stix.application.nudge_service import nudge_service
from stix.application.records import GATEWAYS, child_records, load, put, service_key
from stix.application.service_situation import in_charge, metrics_of, replica_terms, terms_of
from stix.application.world import World
from stix.autoscaling.decide import decide
from stix.autoscaling.demand import STALE_SECONDS
from stix.model.errors import InvalidInputError
from stix.model.record import Record
from stix.model.service_state import GatewayFigures, GatewaySeen, Replica, ReplicaFigures, Service
from stix.ports.state_store import Key

__all__ = ["take_gateway_status"]

R = TypeVar("R", bound=Record)

_HEARD_EVERY = 10.0
"""Seconds between two writes that say that a gateway was heard."""
_SHOWN_EVERY = 30.0
"""Seconds between two writes of figures that nothing but people look at."""
_SAME = 0.02
"""A rate or a latency that differs by less is the same."""
_KEEP_SECONDS = 86_400.0
_AT_ONCE = 90


def take_gateway_status(
    world: World, workspace: str, gateway_id: str, status: Mapping[str, Any]
) -> list[str]:
    """Take a gateway's status (docs/gateway.md, ``status.json``); the services of which a step was begun.

    Services that ``status`` leaves out are as this gateway said last: to send only those that changed, and
    often an empty report, is enough. Figures of a gateway that was not heard for two minutes are not used:
    its next report is news, whatever it says.
    Raises ``InvalidInputError`` for what is no status.
    """
    now = world.clock.now()
    entries = status.get("services")
    if not isinstance(entries, Mapping):
        raise InvalidInputError("services: there are none.", hint="Send the gateway's status.json.")
    told = [_figures(workspace, gateway_id, name, entry, now) for name, entry in sorted(entries.items())]
    (seen,) = _read(world, GatewaySeen, [_seen_key(workspace, gateway_id)])
    silent = seen is not None and now - seen.at > STALE_SECONDS
    begun: list[str] = []
    for start in range(0, len(told), _AT_ONCE):
        begun += _take(world, workspace, gateway_id, told[start : start + _AT_ONCE], now, silent=silent)
    if seen is None or now - seen.at >= _HEARD_EVERY:
        heard = GatewaySeen(
            workspace=workspace, gateway_id=gateway_id, at=now, expires_at=now + _KEEP_SECONDS
        )
        world.store.put(put(heard, unconditional=True).item, unconditional=True)
    return begun


def _take(
    world: World,
    workspace: str,
    gateway_id: str,
    told: Sequence[GatewayFigures],
    now: float,
    *,
    silent: bool,
) -> list[str]:
    names = [one.service for one in told]
    services = _read(world, Service, [service_key(workspace, name) for name in names])
    keys = [Key(workspace, GatewayFigures.kind, name, gateway_id) for name in names]
    before = _read(world, GatewayFigures, keys)
    quiet, begun = [], []
    for one, service, earlier in zip(told, services, before, strict=True):
        if service is None or service.ended_at is not None:
            continue
        scaled = bool(service.version_of(service.active).parsed().replica_policy.targets)
        # Meanwhile the policy may have let go of what the same figures ask for.
        if not _is_news(one, earlier, scaled=scaled) and not (silent and scaled):
            continue
        if _other_states(one, earlier) or (scaled and _decides(world, service, one, now)):
            write = put(one, unconditional=True)
            nudge_service(world, workspace, service.name, also=lambda write=write: [write])  # type: ignore[misc]
            begun.append(service.name)
        else:
            quiet.append(put(one, unconditional=True))
    if quiet:
        world.store.transact(quiet)
    return begun


def _read(world: World, model: type[R], keys: Sequence[Key]) -> list[R | None]:
    return [None if item is None else load(model, item) for item in world.store.get_many(keys)]


def _figures(workspace: str, gateway_id: str, name: str, entry: Any, now: float) -> GatewayFigures:
    try:
        replicas = {
            str(key): ReplicaFigures(
                state=one["state"], reason=one.get("reason") or "", in_flight=one.get("in_flight")
            )
            for key, one in (entry.get("replicas") or {}).items()
        }
        return GatewayFigures(
            workspace=workspace,
            service=name,
            gateway_id=gateway_id,
            at=now,
            problem=entry.get("problem") or "",
            requests=entry.get("requests") or 0,
            request_rate=entry.get("rate_60s") or 0.0,
            in_flight=entry.get("in_flight") or 0,
            waiting=entry.get("waiting") or 0,
            latency_p95=(entry.get("response_seconds") or {}).get("p95"),
            metric=entry.get("metric"),
            replicas=replicas,
            expires_at=now + _KEEP_SECONDS,
        )
    except (AttributeError, KeyError, TypeError, ValidationError) as error:
        raise InvalidInputError(
            f"services.{name}: it is not an entry of a gateway's status: {str(error)[:300]}.",
            hint="Send the gateway's status.json as it is.",
        ) from None


def _other_states(told: GatewayFigures, before: GatewayFigures | None) -> bool:
    """Whether the state of a replica changed, or one is new."""
    known = {} if before is None else before.replicas
    return any(key not in known or known[key].state != one.state for key, one in told.replicas.items())


def _is_news(told: GatewayFigures, before: GatewayFigures | None, *, scaled: bool) -> bool:
    if before is None or told.problem != before.problem or _other_states(told, before):
        return True
    if told.replicas.keys() != before.replicas.keys():
        return True
    same = all(
        _is_same(getattr(told, name), getattr(before, name))
        for name in ("request_rate", "in_flight", "waiting", "latency_p95", "metric")
    )
    return not same and (scaled or told.at - before.at >= _SHOWN_EVERY)


def _is_same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= _SAME * max(abs(one), abs(other))


def _decides(world: World, service: Service, told: GatewayFigures, now: float) -> bool:
    """Whether with these figures the policy wants something else than it remembers."""
    workspace, name = service.workspace, service.name
    others = [
        one
        for one in child_records(world, GatewayFigures, workspace, name)
        if one.gateway_id != told.gateway_id
    ]
    heard = {one.gateway_id: one.at for one in child_records(world, GatewaySeen, workspace, GATEWAYS)}
    metrics = metrics_of(*in_charge([*others, told], {**heard, told.gateway_id: now}, now))
    replicas = [replica_terms(one) for one in child_records(world, Replica, workspace, service.uid)]
    terms = terms_of(service)
    after = decide(terms, metrics, replicas, (), now)
    before = terms.memory
    forgotten = replace(after.memory, forgiven_at=before.forgiven_at, ready_version=before.ready_version)
    numbers = [number for _, number in before.wanted], [number for _, number in forgotten.wanted]
    return (
        bool(after.actions)
        or forgotten.target != before.target
        or (forgotten.above_since is None) is not (before.above_since is None)
        or numbers[0] != numbers[1]
    )


def _seen_key(workspace: str, gateway_id: str) -> Key:
    return Key(workspace, GatewaySeen.kind, GATEWAYS, gateway_id)
