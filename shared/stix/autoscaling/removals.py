"""Which replicas go: ended ones, surplus ones, those of older versions, and those whose machine is taken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stix.autoscaling.demand import capacity
from stix.autoscaling.markets import Mix
from stix.autoscaling.situation import Drain, Replica, Terminate, Terms
from stix.model.status import ReplicaStatus

__all__ = ["LEAVE_SECONDS", "Removals", "finished", "leaving", "outdated", "surplus"]

LEAVE_SECONDS = 15.0
"""Requests in progress have so long to finish before a machine is taken away, where nothing else can serve
until then."""
_SERVES = frozenset({ReplicaStatus.READY, ReplicaStatus.NOT_READY})
_ENDED = frozenset({ReplicaStatus.PREEMPTED, *(one for one in ReplicaStatus if one.failed)})


@dataclass(frozen=True, slots=True)
class Removals:
    """``due``: when there will be more to do."""

    actions: tuple[Drain | Terminate, ...] = ()
    due: float | None = None


def finished(service: Terms, replicas: Sequence[Replica], now: float) -> Removals:
    """Machines of replicas that have drained, failed or been lost."""
    actions, due = [], []
    for one in replicas:
        if one.gone:
            continue
        if one.status in _ENDED:
            actions.append(Terminate(one.id, f"it is {one.status}"))
        elif one.draining_since is not None:
            until = one.draining_since + service.drain
            if one.in_flight == 0:
                actions.append(Terminate(one.id, "its last request has been answered"))
            elif now >= until:
                actions.append(Terminate(one.id, f"it has drained for {service.drain:g} s"))
            else:
                due.append(until)
    return Removals(tuple(actions), min(due, default=None))


def leaving(alive: Sequence[Replica], versions: Sequence[int], target: int, now: float) -> Removals:
    """Those that notice was given for: they serve until others of ``versions`` can, or until
    shortly before the loss."""
    actions, due = [], []
    others = sum(one.ready and not one.leaving and one.version in versions for one in alive)
    for one in alive:
        if one.gone_at is None:
            continue
        last = one.gone_at - LEAVE_SECONDS
        if one.status not in _SERVES:
            actions.append(_end(one, "its machine is about to be taken away"))
        elif others >= target:
            actions.append(_end(one, "its machine is about to be taken away, and others serve"))
        elif now >= last:
            actions.append(_end(one, "its machine is about to be taken away"))
        else:
            due.append(last)
    return Removals(tuple(actions), min(due, default=None))


def surplus(service: Terms, stays: Sequence[Replica], shares: Mix, target: int) -> Removals:
    """More than wanted of one market: those that do not serve first, then the weakest, dearest, newest. A
    spot replica that serves stays until ``target`` others do: what takes its place may still be starting."""
    actions = []
    ready = sum(one.ready for one in stays)
    for spot, wanted in ((True, shares.spot), (False, shares.on_demand)):
        have = [one for one in stays if one.offer.spot is spot]
        for one in _worst_first(service, have)[: max(len(have) - wanted, 0)]:
            if spot and service.spot and one.ready:
                if ready <= target:
                    continue
                ready -= 1
            what = "spot replicas are" if spot else "on-demand replicas are"
            actions.append(_end(one, f"{wanted} {what} wanted"))
    return Removals(tuple(actions))


def outdated(service: Terms, old: Sequence[Replica], ready: int, target: int) -> Removals:
    """Replicas of other versions: as many stay as the wanted one lacks; with ``blue_green`` all, until it
    lacks none."""
    stay = max(target - ready, 0)
    if service.blue_green and stay:
        return Removals()
    staying = [one for one in old if not one.leaving]
    reason = f"version {service.version} has {ready} of {target} ready"
    going = _worst_first(service, staying)[: max(len(staying) - stay, 0)]
    return Removals(tuple(_end(one, reason) for one in going))


def _end(one: Replica, reason: str) -> Drain | Terminate:
    """What may have requests in progress drains first."""
    return Drain(one.id, reason) if one.status in _SERVES else Terminate(one.id, reason)


def _worst_first(service: Terms, replicas: Iterable[Replica]) -> list[Replica]:
    return sorted(
        replicas,
        key=lambda one: (
            one.ready,
            one.has_machine,
            capacity(service.policy, one.offer),
            -one.offer.price,
            -one.launched_at,
            -one.id,
        ),
    )
