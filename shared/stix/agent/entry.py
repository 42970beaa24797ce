"""The commands of the zipapp; each imports only what it needs, as a machine's init must stay small."""

from __future__ import annotations

import sys

from .exit_codes import EXIT_USAGE

USAGE = "usage: stix-agent {agent|machine} --config FILE, or stix-agent gateway ...\n"


def main(arguments: list[str]) -> int:
    """The exit code: 0 powers the machine off, 64 and above is fatal, anything else asks for a restart."""
    if arguments[:1] == ["gateway"]:
        from importlib import import_module

        # The package beside this one in the archive.
        return int(import_module("stix_gateway.__main__").main(arguments[1:]))
    if len(arguments) != 3 or arguments[1] != "--config" or arguments[0] not in ("agent", "machine"):
        sys.stderr.write(USAGE)
        return EXIT_USAGE
    if arguments[0] == "machine":
        from .machine import run_machine

        return run_machine(arguments[2])
    from .agent import run_agent

    return run_agent(arguments[2])
