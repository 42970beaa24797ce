"""Events of the WebSocket API on which nodes wait for "look for commands"."""

from __future__ import annotations

from typing import Any

from stix.application.tokens import NodePrincipal
from stix.application.wake_channel import connect, disconnect
from stix.application.world import World

__all__ = ["on_socket_event"]


def on_socket_event(world: World, event: dict[str, Any]) -> dict[str, Any]:
    """Remember or forget a connection. Messages from nodes carry nothing and are ignored."""
    context = event["requestContext"]
    who = context.get("authorizer") or {}
    if who.get("kind") != "node":
        return {"statusCode": 403}
    node = NodePrincipal(str(who["workspace"]), str(who["cluster_id"]), int(who["rank"]))
    match context["eventType"]:
        case "CONNECT":
            connect(world, node, context["connectionId"])
        case "DISCONNECT":
            disconnect(world, node, context["connectionId"])
    return {"statusCode": 200}
