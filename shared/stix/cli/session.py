"""What every command shares: the environment, the connection, and how to speak to a person."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stix.sdk.endpoint import Discovery, Endpoint, home_directory
from stix.sdk.errors import NotConfiguredError

if TYPE_CHECKING:
    import httpx

    from stix.sdk.client import Client
    from stix.sdk.retrying import Pace

__all__ = ["Session"]


@dataclass(slots=True)
class Session:
    """One invocation. ``endpoint``, ``transport``, ``pace``, ``now`` and ``terminal`` are given by tests."""

    environ: Mapping[str, str]
    endpoint: Endpoint | None = None
    transport: httpx.BaseTransport | None = None
    pace: Pace | None = None
    now: Callable[[], float] = time.time
    terminal: bool | None = None
    show_calls: bool = False
    _clients: list[Client] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return home_directory(self.environ)

    def discovery(self) -> Discovery:
        return Discovery(self.environ, on_start=lambda: self.note("Starting the local control plane..."))

    def client(self, *, start: bool = True) -> Client:
        """A client of the configured control plane; ``start``: the embedded one is started where none runs,
        else ``NotConfiguredError``."""
        discovery = self.discovery()
        endpoint = self.endpoint or discovery.find(start=start)
        if endpoint is None:
            raise NotConfiguredError("No local control plane is running.", "Start it with `stix api start`.")
        return self.client_of(endpoint, discovery if start and self.endpoint is None else None)

    def client_of(self, endpoint: Endpoint, discovery: Discovery | None = None) -> Client:
        from stix.sdk.client import Client

        client = Client(
            endpoint,
            self.transport,
            rediscover=discovery.again if discovery and endpoint.source == "embedded" else None,
            trace=self.note if self.show_calls else None,
            pace=self.pace,
        )
        self._clients.append(client)
        return client

    def close(self) -> None:
        while self._clients:
            self._clients.pop().close()

    # -- speaking --------------------------------------------------------------------------------------------

    @staticmethod
    def say(text: str) -> None:
        """A result, on standard output."""
        click.echo(text)

    @staticmethod
    def note(text: str) -> None:
        """Progress and errors, on standard error: results stay clean in a pipe."""
        click.echo(text, err=True)

    @property
    def width(self) -> int:
        """Columns of the terminal; 80 where there is none."""
        return shutil.get_terminal_size((80, 24)).columns

    @property
    def interactive(self) -> bool:
        """A person can answer."""
        return sys.stdin.isatty() and sys.stderr.isatty() if self.terminal is None else self.terminal

    @property
    def colour(self) -> bool:
        return not self.environ.get("NO_COLOR") and self.environ.get("TERM") != "dumb" and sys.stdout.isatty()

    def confirm(self, question: str, *, yes: bool, default: bool = True) -> None:
        """Ask unless ``yes``. Ends the command with 1 after a no, with 2 where nobody can answer."""
        if yes:
            return
        if not self.interactive:
            raise click.UsageError(f"{question} Nobody can answer here: give -y to go on without asking.")
        if not click.confirm(question, default=default, err=True):
            self.note("Nothing was changed.")
            raise click.exceptions.Exit(1)
