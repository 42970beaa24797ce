"""Ports of services: each has one of its own within its workspace, for as long as it lives."""

from __future__ import annotations

from stix.application.world import World
from stix.model.errors import ConflictError
from stix.ports.state_store import Item, Key, Put

__all__ = ["FIRST_PORT", "LAST_PORT", "free_port", "take_port"]

FIRST_PORT, LAST_PORT = 30001, 32000
"""SkyPilot's load balancers begin there too; below what systems hand out for outgoing connections."""


def _key(workspace: str) -> Key:
    return Key.top(workspace, "service_ports", "taken")


def take_port(world: World, workspace: str, uid: str) -> tuple[int, Put]:
    """The lowest free port, and the write that takes it. Raises ``ConflictError`` where there is none."""
    item = world.store.get(_key(workspace))
    taken: dict[str, str] = {} if item is None else dict(item.body)
    free = (one for one in range(FIRST_PORT, LAST_PORT + 1) if str(one) not in taken)
    port = next((one for one in free if world.gateways.usable_port(one)), None)
    if port is None:
        raise ConflictError(
            f"All ports of services are taken ({FIRST_PORT} to {LAST_PORT}).",
            hint="End a service with `stix serve down NAME`, or use another workspace.",
        )
    return port, _put(workspace, item, {**taken, str(port): uid})


def free_port(world: World, workspace: str, uid: str) -> list[Put]:
    """The write that gives the service's port back; none where it has none."""
    item = world.store.get(_key(workspace))
    if item is None or uid not in item.body.values():
        return []
    return [_put(workspace, item, {port: one for port, one in item.body.items() if one != uid})]


def _put(workspace: str, item: Item | None, taken: dict[str, str]) -> Put:
    return Put(Item(_key(workspace), taken, version=0 if item is None else item.version))
