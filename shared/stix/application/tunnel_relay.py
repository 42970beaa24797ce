"""The two ends of a tunnel: each has a WebSocket, and a message that one sends is posted to the other.

Nothing is kept but which connection is whose: the ends number, confirm and repeat (``stix.agent.stream``).
"""

from __future__ import annotations

import json

from stix.application.tokens import NodePrincipal, UserPrincipal
from stix.application.world import World
from stix.model.errors import ConflictError
from stix.ports.state_store import Item, Key, VersionConflictError

__all__ = ["admits", "connect", "disconnect", "relay", "tunnel_key"]

_KEEP_SECONDS = 2.5 * 3600
"""API Gateway ends a WebSocket after two hours; whoever connects again within them keeps the tunnel."""

_RETURN_SECONDS = 60.0
_TRIES = 12


def tunnel_key(workspace: str, tunnel_id: str) -> Key:
    return Key.top(workspace, "tunnel", tunnel_id)


def admits(world: World, who: UserPrincipal | NodePrincipal, tunnel_id: str) -> bool:
    """Whether ``who`` is one of the tunnel's two ends: the person who opened it, the node it leads to."""
    item = world.store.get(tunnel_key(who.workspace, tunnel_id)) if tunnel_id.isascii() else None
    if item is None:
        return False
    if isinstance(who, UserPrincipal):
        return bool(item.body["user"] == who.user)
    return bool((item.body["cluster_id"], item.body["rank"]) == (who.cluster_id, who.rank))


def connect(world: World, who: UserPrincipal | NodePrincipal, tunnel_id: str, connection_id: str) -> bool:
    """This connection is the end's from now on, and the other end hears that it is there. False where the
    tunnel is closed."""
    item = _change(world, who, tunnel_id, connection_id)
    if item is None:
        return False
    _post(world, _other(item, who), {"x": "here"})
    return True


def disconnect(world: World, who: UserPrincipal | NodePrincipal, tunnel_id: str, connection_id: str) -> None:
    """The end has left, unless it has a newer connection. Where both have, the tunnel is kept for a moment:
    a control plane that starts anew loses both."""
    item = _change(world, who, tunnel_id, "", instead_of=connection_id)
    if item is not None:
        _post(world, _other(item, who), {"x": "left"})


def relay(
    world: World, who: UserPrincipal | NodePrincipal, tunnel_id: str, connection_id: str, text: str
) -> None:
    """Post an end's message to the other one; the sender hears where there is none."""
    item = world.store.get(tunnel_key(who.workspace, tunnel_id))
    if item is None or item.body["connections"].get(_side(who)) != connection_id:
        _post(world, connection_id, {"x": "closed"})
        return
    other = _other(item, who)
    assert world.sockets is not None
    if not other or not world.sockets.post(other, text):
        _post(world, connection_id, {"x": "away"})


def _side(who: UserPrincipal | NodePrincipal) -> str:
    return "user" if isinstance(who, UserPrincipal) else "node"


def _other(item: Item, who: UserPrincipal | NodePrincipal) -> str:
    side = "node" if isinstance(who, UserPrincipal) else "user"
    return str(item.body["connections"].get(side) or "")


def _change(
    world: World,
    who: UserPrincipal | NodePrincipal,
    tunnel_id: str,
    connection_id: str,
    *,
    instead_of: str | None = None,
) -> Item | None:
    """Write down the end's connection, with ``instead_of`` only where that one was its; None where the tunnel
    is closed, or the end has another."""
    key = tunnel_key(who.workspace, tunnel_id)
    for _ in range(_TRIES):
        item = world.store.get(key)
        if item is None:
            return None
        before = dict(item.body["connections"])
        if instead_of is not None and before.get(_side(who)) != instead_of:
            return None
        after = before | {_side(who): connection_id}
        keep_until = world.clock.now() + (_KEEP_SECONDS if any(after.values()) else _RETURN_SECONDS)
        try:
            return world.store.put(
                item.changed(body={**item.body, "connections": after}, expires_at=keep_until)
            )
        except VersionConflictError:
            continue
    raise ConflictError(f"{key} is being changed by others too often.", hint="Try again.", code="busy")


def _post(world: World, connection_id: str, message: dict[str, str]) -> None:
    assert world.sockets is not None
    if connection_id:
        world.sockets.post(connection_id, json.dumps(message))
