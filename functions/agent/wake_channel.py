"""Events of the WebSocket API: nodes wait there for "look for commands", and tunnels have their two ends."""

from __future__ import annotations

from typing import Any

from stix.application import tunnel_relay
from stix.application.tokens import NodePrincipal, UserPrincipal
from stix.application.wake_channel import connect, disconnect
from stix.application.world import World

__all__ = ["on_socket_event"]


def on_socket_event(world: World, event: dict[str, Any]) -> dict[str, Any]:
    """Remember, forget, or carry a message on. Messages on a node's own channel carry nothing."""
    context = event["requestContext"]
    who = _principal(context.get("authorizer") or {})
    connection = str(context["connectionId"])
    tunnel = str((context.get("authorizer") or {}).get("tunnel") or "")
    match context["eventType"], who:
        case "CONNECT", UserPrincipal() | NodePrincipal() if tunnel:
            return {"statusCode": 200 if tunnel_relay.connect(world, who, tunnel, connection) else 410}
        case "MESSAGE", UserPrincipal() | NodePrincipal() if tunnel:
            tunnel_relay.relay(world, who, tunnel, connection, str(event.get("body") or ""))
        case "DISCONNECT", UserPrincipal() | NodePrincipal() if tunnel:
            tunnel_relay.disconnect(world, who, tunnel, connection)
        case "CONNECT", NodePrincipal():
            connect(world, who, connection)
        case "DISCONNECT", NodePrincipal():
            disconnect(world, who, connection)
        case "MESSAGE", NodePrincipal():
            pass
        case _:
            return {"statusCode": 403}
    return {"statusCode": 200}


def _principal(found: dict[str, Any]) -> UserPrincipal | NodePrincipal | None:
    match found.get("kind"):
        case "node":
            return NodePrincipal(str(found["workspace"]), str(found["cluster_id"]), int(found["rank"]))
        case "user":
            return UserPrincipal(str(found["workspace"]), str(found.get("user") or ""))
        case _:
            return None
