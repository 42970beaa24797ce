"""Which of HAProxy's prepared servers, the slots of a service, stands for which replica.

A slot is given to another replica only after the last request of the one before has ended, so that a request
is never counted or logged for a replica that did not answer it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Set, Tuple

from .view import Replica, Service

_LEAST = 8
_FULL_WEIGHT = 256
_WEIGHTED = ("instance_aware_least_load", "weighted", "sticky")

Slots = Tuple[Optional[str], ...]
"""A replica's key for each slot of a service, None where it is free."""


@dataclass(frozen=True)
class Server:
    """What one slot is to be. ``label`` is what logs say of it: the replica's id and version."""

    address: str = "0.0.0.0"
    port: int = 1
    weight: int = 1
    up: bool = False
    label: str = ""


def assign(slots: Slots, replicas: Sequence[Replica], busy: Set[str]) -> Slots:
    """The slots with every replica in one; those of replicas that are gone are free unless they are ``busy``.

    The tuple only ever grows, and then to twice what is needed: more slots are a reload of HAProxy.
    """
    wanted = {replica.key for replica in replicas}
    kept: List[Optional[str]] = [key if key in wanted or key in busy else None for key in slots]
    missing = [replica.key for replica in replicas if replica.key not in set(kept)]
    size = len(kept)
    if kept.count(None) < len(missing) or not size:
        size = _LEAST
        while size < 2 * (len(kept) - kept.count(None) + len(missing)):
            size *= 2
    kept += [None] * (size - len(kept))
    for key in missing:
        kept[kept.index(None)] = key
    return tuple(kept)


def servers_of(service: Service, slots: Slots, routed: Mapping[str, bool]) -> Dict[str, Server]:
    """What each slot is to be, by its name in HAProxy. ``routed`` says which replicas get new requests."""
    replicas = {replica.key: replica for replica in service.replicas}
    heaviest = max((replica.weight for replica in service.replicas), default=1.0)
    wanted = {}
    for index, key in enumerate(slots):
        name = f"s{index + 1}"
        replica = replicas.get(key) if key else None
        if replica is None:
            # A slot that is still busy keeps its address; nobody new is sent there.
            wanted[name] = left_server(key) if key else Server()
            continue
        weight = 100
        if service.policy in _WEIGHTED:
            weight = max(1, round(replica.weight / heaviest * _FULL_WEIGHT))
        up = routed.get(replica.key, False) and replica.state == "ready"
        label = f"{replica.id}/{replica.version}"
        wanted[name] = Server(replica.address, replica.port, weight, up, label)
    return wanted


def left_server(key: str) -> Server:
    """The slot of a replica that has left the view, known by its key alone."""
    name, _, place = key.rpartition("@")
    address, _, port = place.rpartition(":")
    return Server(address, int(port), label=f"{name}/")
