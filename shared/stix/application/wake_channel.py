"""Which agent listens on which connection of the wake channel."""

from __future__ import annotations

from stix.application.tokens import NodePrincipal
from stix.application.world import World
from stix.ports.state_store import Item
from stix.ports.surroundings import connection_key

__all__ = ["connect", "disconnect"]

_KEEP_SECONDS = 2.5 * 3600
"""API Gateway ends a WebSocket after two hours; the agent then connects anew."""


def connect(world: World, who: NodePrincipal, connection_id: str) -> None:
    """The node listens on this connection from now on; an older one of it is forgotten."""
    now = world.clock.now()
    key = connection_key(who.cluster_id, who.rank)
    item = Item(key, {"connection_id": connection_id}, created_at=now, expires_at=now + _KEEP_SECONDS)
    world.store.put(item, unconditional=True)


def disconnect(world: World, who: NodePrincipal, connection_id: str) -> None:
    """Forget the connection, unless the node has a newer one."""
    key = connection_key(who.cluster_id, who.rank)
    item = world.store.get(key)
    if item is not None and item.body["connection_id"] == connection_id:
        world.store.delete(key)
