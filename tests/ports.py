"""Ports for servers that are told their port before they bind it."""

from __future__ import annotations

import itertools
import os
import socket
from contextlib import suppress

__all__ = ["free_port"]

_FIRST, _COUNT = 20_000, 4_000
"""Below those that a home takes for itself, and that Linux gives to whoever asks for any."""
_numbers = itertools.count(os.getpid() * 97)
_kept: list[socket.socket] = []


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens, and that no other process of the tests is given while
    this one lives."""
    for number in itertools.islice(_numbers, _COUNT):
        port = _FIRST + number % _COUNT
        claim = socket.socket(socket.AF_UNIX)
        with socket.socket() as probe, suppress(OSError):
            # A name that is no file: it goes with the process.
            claim.bind(f"\0stix-test-port-{port}")
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            _kept.append(claim)
            return port
        claim.close()
    raise OSError(f"no port from {_FIRST} to {_FIRST + _COUNT - 1} is free")
