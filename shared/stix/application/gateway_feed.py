"""What the gateways of a workspace are to know: told to them whenever it may have changed."""

from __future__ import annotations

from stix.application.world import World

__all__ = ["gateway_topic", "wake_gateways"]


def gateway_topic(workspace: str) -> str:
    """What the gateway beside the control plane waits on."""
    return f"gateway/{workspace}"


def wake_gateways(world: World, workspace: str) -> None:
    """After a write that changes what gateways see: a service, a replica's state or address."""
    world.wake.wake(gateway_topic(workspace))
