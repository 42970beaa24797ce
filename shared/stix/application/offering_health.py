"""The memory of offerings in the table, shared by every launch of the deployment."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

from stix.application.places import SYSTEM
from stix.application.world import World
from stix.lifecycle.offering_health import (
    Health,
    Judgement,
    Verdict,
    after_failure,
    after_success,
    claimed,
    judge,
    released,
)
from stix.model.errors import Blocks, ProviderError
from stix.model.offer import Offer
from stix.ports.state_store import Item, Key, Put, VersionConflictError

__all__ = [
    "claim_offers",
    "judge_offers",
    "record_accepted",
    "record_failure",
    "record_refusal",
    "record_success",
    "refusal_writes",
]

_KIND = "offering"
_FIELDS = tuple(field.name for field in fields(Health))
_TRIES = 6
_WORDS = 300
_KEEP_SECONDS = 7 * 86400.0
_READ_AT_ONCE = 96
"""Keys of one read; a store takes a hundred."""

_Changes = dict[Key, Callable[[Health], Health]]


def judge_offers(world: World, offers: Sequence[Offer], tokens: Sequence[str]) -> list[Judgement]:
    """For each offer whether the creation with that token may ask now. Reads only, a few items an offer."""
    return [judgement for judgement, _ in _judged(world, offers, tokens)]


def claim_offers(
    world: World, offers: Sequence[Offer], tokens: Sequence[str]
) -> list[tuple[Judgement, Put | None]]:
    """The same, each with the write that takes a slot of the offer's budget; None where it may not ask.

    Whoever loses that write against others claims again. Crash-safe: a slot whose holder died expires.
    """
    now = world.clock.now()
    return [
        (judgement, None)
        if judgement.verdict not in (Verdict.TRY, Verdict.PROBE)
        else (judgement, _put(world, _keys(world, offer)[0], item, claimed(_health(item), token, now)))
        for offer, token, (judgement, item) in zip(
            offers, tokens, _judged(world, offers, tokens), strict=True
        )
    ]


def _judged(
    world: World, offers: Sequence[Offer], tokens: Sequence[str]
) -> list[tuple[Judgement, Item | None]]:
    """Each offer's judgement and its own item."""
    now = world.clock.now()
    keys_of = [_keys(world, offer) for offer in offers]
    keys = list(dict.fromkeys(key for speaking in keys_of for key in speaking))
    items: dict[Key, Item | None] = {}
    for start in range(0, len(keys), _READ_AT_ONCE):
        part = keys[start : start + _READ_AT_ONCE]
        items.update(zip(part, world.store.get_many(part), strict=True))
    return [
        (_worst([judge(_health(items[key]), token, now) for key in speaking]), items[speaking[0]])
        for speaking, token in zip(keys_of, tokens, strict=True)
    ]


def record_success(world: World, offer: Offer, token: str) -> None:
    """The creation ``token`` got its machines: whatever was said against the offer is over."""
    now = world.clock.now()
    keys = _keys(world, offer)
    failing = [
        key
        for key, item in zip(keys[1:], world.store.get_many(keys[1:]), strict=True)
        if item is not None and _health(item).failures
    ]
    _record(world, dict.fromkeys((keys[0], *failing), lambda health: after_success(health, token, now)))


def record_accepted(world: World, offer: Offer, token: str) -> None:
    """The provider accepted the creation ``token``: machines, or, where it may still refuse, a promise."""
    if not world.clouds[offer.cloud].refuses_late:
        record_success(world, offer, token)
        return
    now = world.clock.now()
    _record(world, {_keys(world, offer)[0]: lambda health: released(health, token, now)})


def refusal_writes(world: World, offer: Offer, token: str, error: ProviderError) -> list[Put]:
    """What ``record_refusal`` writes, as a part of somebody's transaction."""
    return _writes(world, _after_refusal(world, offer, token, error))


def record_refusal(world: World, offer: Offer, token: str, error: ProviderError) -> None:
    """The provider refused the creation ``token``; the refusal reaches as far as it says."""
    _record(world, _after_refusal(world, offer, token, error))


def record_failure(world: World, offer: Offer, token: str, kind: str, words: str) -> None:
    """Machines of the creation ``token`` were accepted and did not come up, or its outcome is unknown."""
    _record(world, _after(world, offer, token, 0, kind, words))


def _after_refusal(world: World, offer: Offer, token: str, error: ProviderError) -> _Changes:
    reach = {Blocks.OFFER: 0, Blocks.FAMILY: 1, Blocks.REGION: 2, Blocks.CLOUD: 3}.get(error.blocks)
    return _after(world, offer, token, reach, error.code, error.message)


def _after(world: World, offer: Offer, token: str, reach: int | None, kind: str, words: str) -> _Changes:
    now = world.clock.now()
    keys = _keys(world, offer)
    jitter = int(hashlib.sha256(f"{keys[0]}{now}".encode()).hexdigest()[:8], 16) / 16**8
    changes: _Changes = {keys[0]: lambda health: released(health, token, now)}
    if reach is not None:
        changes[keys[reach]] = lambda health: after_failure(health, token, now, kind, words[:_WORDS], jitter)
    return changes


def _keys(world: World, offer: Offer) -> list[Key]:
    """The items that speak of an offer: itself, its quota family, its region, its cloud."""
    market = "spot" if offer.spot else "demand"
    facts = world.clouds.get(offer.cloud)
    family = offer.instance_type if facts is None else facts.quota_family(offer)
    return [
        Key(
            SYSTEM,
            _KIND,
            f"{offer.cloud}.{offer.region}",
            f"{offer.zone or '-'}.{offer.instance_type}.{market}",
        ),
        Key(SYSTEM, _KIND, f"{offer.cloud}.{offer.region}", f"family.{family}.{market}"),
        Key(SYSTEM, _KIND, f"{offer.cloud}.{offer.region}", "region"),
        Key(SYSTEM, _KIND, offer.cloud, "cloud"),
    ]


def _worst(judgements: Sequence[Judgement]) -> Judgement:
    order = [Verdict.TRY, Verdict.PROBE, Verdict.BUSY, Verdict.BLOCKED]
    return max(judgements, key=lambda one: (order.index(one.verdict), one.until))


def _health(item: Item | None) -> Health:
    if item is None:
        return Health()
    body: dict[str, Any] = dict(item.body)
    return Health(**body)


def _record(world: World, changes: _Changes) -> None:
    """Memory is advice: a change that loses against others too often is left out."""
    for _ in range(_TRIES):
        try:
            world.store.transact(_writes(world, changes))
            return
        except VersionConflictError:
            continue


def _writes(world: World, changes: _Changes) -> list[Put]:
    items = world.store.get_many(list(changes))
    return [
        _put(world, key, item, change(_health(item)))
        for (key, change), item in zip(changes.items(), items, strict=True)
    ]


def _put(world: World, key: Key, item: Item | None, health: Health) -> Put:
    body = {name: getattr(health, name) for name in _FIELDS}
    expires_at = world.clock.now() + _KEEP_SECONDS
    return Put(Item(key, body, version=0 if item is None else item.version, expires_at=expires_at))
