"""``python -m stix.local serve``: the embedded control plane in the foreground."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stix.control_plane import open_control_plane

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 after a clean stop, 2 for a mistake of the caller, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m stix.local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("serve", help="run until SIGTERM or Ctrl-C")
    command.add_argument("--home", type=Path, required=True, help="folder of all state")
    command.add_argument("--port", type=int, help="port on the loopback address")
    command.add_argument("--public-url", help="address under which machines elsewhere reach this server")
    command.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    open_control_plane(options.home)
    from stix.local.server import serve

    return serve(
        options.home, port=options.port, public_url=options.public_url, ready_descriptor=options.ready_fd
    )


if __name__ == "__main__":
    sys.exit(main())
