"""The small ports: time, randomness, events, secrets and the wake channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from stix.ports.state_store import Key

__all__ = ["Clock", "Event", "EventBus", "Ids", "Secrets", "Sockets", "Wake", "connection_key"]


class Clock(Protocol):
    def now(self) -> float:
        """Epoch seconds, UTC."""
        ...


class Ids(Protocol):
    def new(self, prefix: str) -> str:
        """A sortable unique id, ``<prefix>-<16 lower-case base32 characters>``, newest last."""
        ...

    def secret(self) -> str:
        """32 random bytes, URL-safe text."""
        ...


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, in the past tense (``ClusterLaunched``)."""

    name: str
    workspace: str
    subject: str
    at: float
    detail: Mapping[str, Any] = field(default_factory=dict)


class EventBus(Protocol):
    def publish(self, *events: Event) -> None: ...


class Wake(Protocol):
    """Tells whoever waits on a topic to look again. Only a hint: losing one costs latency, never work.

    Topics: ``node/<cluster id>/<rank>``, ``operation/<id>``, ``job/<cluster id>/<job id>``.
    """

    def wake(self, topic: str) -> None: ...


class Sockets(Protocol):
    """The open WebSockets of nodes and people. What is posted may be lost, late or out of order."""

    def post(self, connection_id: str, text: str) -> bool:
        """False where that connection is gone."""
        ...


def connection_key(cluster_id: str, rank: int) -> Key:
    """The item that holds a node's connection to the wake channel (``connection_id``)."""
    return Key("-system-", "connection", cluster_id, f"{rank:06d}")


class Secrets(Protocol):
    """Values kept outside the table, encrypted at rest, under a reference."""

    def put(self, reference: str, values: Mapping[str, str]) -> None: ...

    def get(self, reference: str) -> dict[str, str]:
        """Raises ``KeyError``."""
        ...

    def delete(self, reference: str) -> None:
        """An absent reference is success."""
        ...
