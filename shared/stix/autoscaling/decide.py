"""What a service does next: one pure function for the Lambda, the embedded runtime and the simulator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stix.autoscaling.bounds import Bounds, bounds_at
from stix.autoscaling.delays import Settled, settle
from stix.autoscaling.demand import Wish, wish
from stix.autoscaling.failures import version_failed, wait_until
from stix.autoscaling.markets import Mix, mix
from stix.autoscaling.placement import Placement, forgive
from stix.autoscaling.removals import finished, leaving, outdated, surplus
from stix.autoscaling.situation import Decision, Launch, Memory, Metrics, Replica, Terms
from stix.recovery.places import free_at
from stix.recovery.situation import Candidate

__all__ = ["decide"]


def decide(
    service: Terms,
    metrics: Metrics | None,
    replicas: Sequence[Replica],
    offers: Sequence[Candidate],
    now: float,
) -> Decision:
    """The actions that are due, why, and what to remember.

    ``offers`` are all places that fit, in both markets; their ``lost_at`` is when a place last lost or
    refused a machine. ``replicas`` are all that are not forgotten, those that failed within an hour included.
    Decided again with the same arguments it is the same; once its actions are carried out, and nothing else
    has happened, nothing is left to do. Carrying out a part of them is safe.

    ``service.version`` is the one that is launched. Where the decision says ``version_failed``, the caller
    goes back to ``memory.ready_version``, with that version's policy and offers.
    """
    memory = _remembered(service, replicas, offers, now)
    new = [one for one in replicas if one.alive and one.version == service.version]
    old = [one for one in replicas if one.alive and one.version != service.version]
    bounds = bounds_at(service.policy, now)
    wanted = _wish(service, memory, metrics, [*new, *old], offers, bounds, now)
    settled = settle(service.policy, memory, wanted, bounds, now)
    target = settled.target
    service = replace(service, memory=settled.memory)

    stays = [one for one in new if not one.leaving]
    ready = sum(one.ready for one in stays)
    older = sum(one.ready and not one.leaving for one in old)
    versions = _versions(service, ready, target, old)
    shares = mix(service, target, sum(one.ready and one.offer.spot for one in stays), older)
    removals = [
        finished(service, replicas, now),
        leaving([*new, *old], versions, target, now),
        surplus(service, stays, shares, target),
        outdated(service, old, ready, target),
    ]
    failed = version_failed(service, replicas)
    pause = wait_until(service, replicas, now)
    launches: tuple[Launch, ...] = ()
    ask_again, missing = None, 0
    if not failed and pause is None:
        lacking = _lacking(stays, shares)
        missing = lacking[True] + lacking[False]
        launches, ask_again = _launches(shares, lacking, Placement.of(service, offers, replicas, now))
    due = [settled.due, bounds.until, pause, ask_again, *(one.due for one in removals)]
    return Decision(
        actions=(*(action for one in removals for action in one.actions), *launches),
        reason=_reason(service, settled, wanted, bounds, shares, failed, pause is not None),
        target=target,
        versions=versions,
        memory=settled.memory,
        look_again_at=min((at for at in due if at is not None), default=None),
        version_failed=failed,
        missing=missing,
    )


def _remembered(
    service: Terms, replicas: Sequence[Replica], offers: Sequence[Candidate], now: float
) -> Memory:
    memory = service.memory
    ready = [one.version for one in replicas if one.ready]
    return replace(
        memory,
        ready_version=max([memory.ready_version, *ready]),
        forgiven_at=forgive(offers, replicas, memory.forgiven_at, now),
    )


def _wish(
    service: Terms,
    memory: Memory,
    metrics: Metrics | None,
    alive: Sequence[Replica],
    offers: Sequence[Candidate],
    bounds: Bounds,
    now: float,
) -> Wish:
    if not service.policy.targets:
        return Wish(bounds.least, bounds.why or "a fixed number")
    target = memory.target if memory.target is not None else bounds.least
    serving = [one for one in alive if not one.leaving]
    free = [one for one in offers if one.offer.spot is service.spot and one.blocked_until <= now]
    return wish(service.policy, metrics, serving, free, target, now)


def _lacking(stays: Sequence[Replica], shares: Mix) -> dict[bool, int]:
    """How many replicas are missing on spot machines (True) and on others."""
    wanted = {True: shares.spot, False: shares.on_demand}
    return {
        spot: max(number - sum(one.offer.spot is spot for one in stays), 0) for spot, number in wanted.items()
    }


def _launches(
    shares: Mix, lacking: dict[bool, int], placement: Placement
) -> tuple[tuple[Launch, ...], float | None]:
    """What is missing, and when to ask again for what no place had."""
    found: list[Launch] = []
    again: list[float] = []
    for spot, wanted in ((True, shares.spot), (False, shares.on_demand)):
        reason = "spot" if spot else "on-demand"
        missing = lacking[spot]
        for _ in range(missing):
            offer, placement = placement.next(spot=spot)
            if offer is None:
                at = free_at(placement.offers, spot=spot)
                again += [at] if at is not None else []
                break
            found.append(Launch(offer, f"{missing} of {wanted} {reason} replicas are missing"))
    return tuple(found), min(again, default=None)


def _versions(service: Terms, ready: int, target: int, old: Sequence[Replica]) -> tuple[int, ...]:
    """Blue or green takes all requests; while it rolls, every version does."""
    older = sorted({one.version for one in old})
    if service.blue_green and older:
        return tuple(older) if ready < target else (service.version,)
    return (*older, service.version)


def _reason(
    service: Terms, settled: Settled, wanted: Wish, bounds: Bounds, shares: Mix, failed: bool, paused: bool
) -> str:
    target = settled.target
    parts = [f"{target} {'replica' if target == 1 else 'replicas'}: {wanted.reason}"]
    if wanted.number is not None and not settled.waits and wanted.number != target:
        side = "least" if wanted.number < target else "most"
        parts.append(f"{target} is the {side}" + (f", as {bounds.why}" if bounds.why else ""))
    parts += [text for text in (settled.waits, shares.reason) if text]
    if failed:
        parts.append(f"version {service.version} failed before it was ever ready, and is not launched again")
    elif paused:
        parts.append("replicas keep failing, so new ones wait")
    return "; ".join(parts)
