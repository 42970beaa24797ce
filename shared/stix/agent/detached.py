"""Processes that outlive the one that starts them."""

from __future__ import annotations

import os
from typing import Mapping, Sequence

__all__ = ["spawn_detached"]


def spawn_detached(command: Sequence[str], output: int, environ: Mapping[str, str]) -> int:
    """Start ``command`` without input, its output to the descriptor ``output``; its process id.

    In a session of its own: what ends this process must not end that one. Raises ``OSError``.
    """
    return os.posix_spawn(
        command[0],
        list(command),
        dict(environ),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
        ],
        setsid=True,
    )
