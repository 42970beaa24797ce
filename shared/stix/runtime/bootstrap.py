"""The composition root: builds the ports once per process and hands them to the handlers."""

from __future__ import annotations

import os

from stix.application.world import World

__all__ = ["bootstrap", "install"]

_world: World | None = None


def install(world: World | None) -> None:
    """Use ``world`` from now on (the embedded control plane and tests); None forgets it."""
    global _world
    _world = world


def bootstrap() -> World:
    """This process's ports, built on the first call."""
    global _world
    if _world is None:
        if os.environ.get("STIX_RUNTIME") != "aws":
            raise RuntimeError("no runtime: STIX_RUNTIME is not 'aws' and nothing was installed")
        from stix.runtime.aws import build_world

        _world = build_world()
    return _world
