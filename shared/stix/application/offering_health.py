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
from stix.ports.state_store import Item, Key, VersionConflictError

__all__ = [
    "claim",
    "judge_offers",
    "record_accepted",
    "record_failure",
    "record_refusal",
    "record_success",
]

_KIND = "offering"
_FIELDS = tuple(field.name for field in fields(Health))
_TRIES = 6
_WORDS = 300
_KEEP_SECONDS = 7 * 86400.0
_READ_AT_ONCE = 96
"""Keys of one read; a store takes a hundred."""


def judge_offers(world: World, offers: Sequence[Offer], tokens: Sequence[str]) -> list[Judgement]:
    """For each offer whether the creation with that token may ask now. Reads only, a few items an offer."""
    now = world.clock.now()
    keys_of = [_keys(world, offer) for offer in offers]
    keys = list(dict.fromkeys(key for speaking in keys_of for key in speaking))
    items: dict[Key, Item | None] = {}
    for start in range(0, len(keys), _READ_AT_ONCE):
        part = keys[start : start + _READ_AT_ONCE]
        items.update(zip(part, world.store.get_many(part), strict=True))
    return [
        _worst([judge(_health(items[key]), token, now) for key in speaking])
        for speaking, token in zip(keys_of, tokens, strict=True)
    ]


def claim(world: World, offer: Offer, token: str) -> Judgement:
    """Take a slot of the offer's budget for the creation ``token``; the judgement it was taken under, or the
    one that forbade it. Crash-safe: a slot whose holder died expires."""
    now = world.clock.now()
    key = _keys(world, offer)[0]
    for _ in range(_TRIES):
        item = world.store.get(key)
        health = _health(item)
        judgement = judge(health, token, now)
        if judgement.verdict not in (Verdict.TRY, Verdict.PROBE):
            return judgement
        if _write(world, key, item, claimed(health, token, now)):
            return judgement
    return Judgement(Verdict.BUSY, "other launches are asking there", now + 1)


def record_success(world: World, offer: Offer, token: str) -> None:
    """The creation ``token`` got its machines: whatever was said against the offer is over."""
    now = world.clock.now()
    keys = _keys(world, offer)
    _change(world, keys[0], lambda health: after_success(health, token, now))
    for key, item in zip(keys[1:], world.store.get_many(keys[1:]), strict=True):
        if item is not None and _health(item).failures:
            _change(world, key, lambda health: after_success(health, token, now))


def record_accepted(world: World, offer: Offer, token: str) -> None:
    """The provider accepted the creation ``token``: machines, or, where it may still refuse, a promise."""
    if not world.clouds[offer.cloud].refuses_late:
        record_success(world, offer, token)
        return
    now = world.clock.now()
    _change(world, _keys(world, offer)[0], lambda health: released(health, token, now))


def record_refusal(world: World, offer: Offer, token: str, error: ProviderError) -> None:
    """The provider refused the creation ``token``; the refusal reaches as far as it says."""
    reach = {
        Blocks.OFFER: 0,
        Blocks.FAMILY: 1,
        Blocks.REGION: 2,
        Blocks.CLOUD: 3,
    }.get(error.blocks)
    _record(world, offer, token, reach, error.code, error.message)


def record_failure(world: World, offer: Offer, token: str, kind: str, words: str) -> None:
    """Machines of the creation ``token`` were accepted and did not come up, or its outcome is unknown."""
    _record(world, offer, token, 0, kind, words)


def _record(world: World, offer: Offer, token: str, reach: int | None, kind: str, words: str) -> None:
    now = world.clock.now()
    keys = _keys(world, offer)
    jitter = int(hashlib.sha256(f"{keys[0]}{now}".encode()).hexdigest()[:8], 16) / 16**8
    if reach != 0:
        _change(world, keys[0], lambda health: released(health, token, now))
    if reach is not None:
        _change(
            world,
            keys[reach],
            lambda health: after_failure(health, token, now, kind, words[:_WORDS], jitter),
        )


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


def _change(world: World, key: Key, change: Callable[[Health], Health]) -> None:
    """Memory is advice: a change that loses against others too often is left out."""
    for _ in range(_TRIES):
        item = world.store.get(key)
        if _write(world, key, item, change(_health(item))):
            return


def _write(world: World, key: Key, item: Item | None, health: Health) -> bool:
    body = {name: getattr(health, name) for name in _FIELDS}
    expires_at = world.clock.now() + _KEEP_SECONDS
    changed = Item(key, body, version=0 if item is None else item.version, expires_at=expires_at)
    try:
        world.store.put(changed)
    except VersionConflictError:
        return False
    return True
