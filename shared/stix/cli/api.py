"""``stix api``: the control plane itself."""

from __future__ import annotations

import getpass
import json
import sys
import time
from collections import deque
from importlib import import_module
from pathlib import Path

import click

from stix import __version__
from stix.cli.amounts import age
from stix.cli.job_output import wait_for_operation
from stix.cli.session import Session
from stix.cli.tables import Column, output_option, print_json, table
from stix.model.errors import StixError
from stix.sdk.endpoint import Endpoint, is_loopback, remove_login, save_login, valid_url
from stix.sdk.errors import NotConfiguredError
from stix.sdk.follow import ENDED
from stix.sdk.responses import Operation

__all__ = ["api_command"]

_OPERATIONS = [
    Column("ID", shrinks=True),
    Column("KIND"),
    Column("CLUSTER", shrinks=True),
    Column("AGE", right=True),
    Column("STATUS", status=True),
]
_LOG_POLL_SECONDS = 0.5


@click.group("api", short_help="The control plane: start, stop, log in.")
def api_command() -> None:
    """The control plane: the local one, or a deployed one that you log in to."""


@api_command.command("start")
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Port on the loopback address; a free one by default."
)
@click.option(
    "--public-url", metavar="URL", help="Address at which machines of a real cloud reach it (a tunnel)."
)
@click.pass_obj
def start(session: Session, port: int | None, public_url: str | None) -> None:
    """Start the local control plane; nothing happens where it runs already."""
    endpoint = session.discovery().start(port, public_url)
    session.say(f"The local control plane runs at {endpoint.url}")
    _warn_if_shadowed(session)


@api_command.command("stop")
@click.pass_obj
def stop(session: Session) -> None:
    """Stop the local control plane; its state stays."""
    stopped = session.discovery().daemon().stop(session.home)
    session.say("The local control plane has stopped." if stopped else "No local control plane was running.")


@api_command.command("info")
@output_option
@click.pass_obj
def info(session: Session, output: str) -> None:
    """Show which control plane is in use, and whether it answers. Exit code 1 when it does not."""
    endpoint = session.endpoint or session.discovery().find(start=False)
    facts: dict[str, str | None] = {
        "client_version": __version__,
        "home": str(session.home),
        "status": "stopped",
    }
    if endpoint is not None:
        facts |= {"url": endpoint.url, "source": endpoint.source}
        try:
            health = session.client_of(endpoint).health()
        except StixError as exc:
            facts |= {"status": "unreachable", "reason": str(exc)}
        else:
            facts |= {name: str(value) for name, value in health.items() if name != "status"}
            facts["status"] = "healthy"
    if output == "json":
        print_json(session, facts)
    else:
        for name, value in facts.items():
            session.say(f"{name.replace('_', ' ')}: {value}")
    if facts["status"] != "healthy":
        if facts["status"] == "stopped":
            session.note("No local control plane is running. Start it with `stix api start`.")
        raise click.exceptions.Exit(1)


@api_command.command("status")
@click.option("-a", "--all", "everything", is_flag=True, help="Also those that have ended.")
@click.option(
    "-l", "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Look at the newest N."
)
@output_option
@click.pass_obj
def status(session: Session, everything: bool, limit: int, output: str) -> None:
    """Show the requests that the control plane works on."""
    found: list[Operation] = []
    for count, operation in enumerate(session.client(start=False).operations(), 1):
        if everything or operation["status"] not in ENDED:
            found.append(operation)
        if count == limit:
            break
    if output == "json":
        print_json(session, {"operations": found})
    elif found:
        now = session.now()
        rows = [
            (one["id"], one["kind"], one["cluster"], age(now - one["created_at"]), one["status"])
            for one in found
        ]
        table(session, _OPERATIONS, rows)
    else:
        session.say("No requests." if everything else "No unfinished requests; -a shows the others.")


@api_command.command("logs")
@click.argument("operation_id", required=False)
@click.option(
    "--server-logs", is_flag=True, help="The local control plane's own log (the default without an id)."
)
@click.option("--follow/--no-follow", default=False, help="Stay and show new lines of the server's log.")
@click.option(
    "--tail", type=click.IntRange(min=0), default=100, show_default=True, help="Lines of the server's log."
)
@click.pass_obj
def logs(session: Session, operation_id: str | None, server_logs: bool, follow: bool, tail: int) -> None:
    """Follow a request to its end, or show the local control plane's own log."""
    if operation_id and server_logs:
        raise click.UsageError("Give a request's id or --server-logs, not both.")
    if operation_id:
        wait_for_operation(session, session.client(start=False), operation_id, "stix api status")
        return
    _print_server_log(session.home / "server.log", tail, follow)


def _print_server_log(path: Path, tail: int, follow: bool) -> None:
    try:
        source = path.open("rb")
    except FileNotFoundError as exc:
        raise click.UsageError(f"{path} does not exist: no local control plane has run yet.") from exc
    out = sys.stdout.buffer
    with source:
        out.writelines(deque(source, tail))
        out.flush()
        while follow:
            if new := source.read():
                out.write(new)
                out.flush()
            else:
                time.sleep(_LOG_POLL_SECONDS)


@api_command.command("login")
@click.option(
    "-e", "--endpoint", "url", metavar="URL", help="Address of the control plane; asked for when left out."
)
@click.option("-t", "--token", metavar="TOKEN", help="Your token; - reads it from standard input.")
@click.option(
    "--stack",
    metavar="NAME",
    help="Read the address from this stack and make a token, with your AWS credentials.",
)
@click.pass_obj
def login(session: Session, url: str | None, token: str | None, stack: str | None) -> None:
    """Use a deployed control plane from now on. The token is tried first, then stored readable by you
    alone."""
    if stack is not None:
        if url is not None or token is not None:
            raise click.UsageError("--stack gives both the address and a token: leave -e and -t out.")
        url, token = _from_stack(session, stack)
    if url is None:
        if not session.interactive:
            raise click.UsageError("Nobody can answer here: give -e URL.")
        url = click.prompt("Address", err=True)
    url = valid_url(url or "", "The address")
    if token == "-":
        token = sys.stdin.readline().strip()
    elif token is None:
        token = session.environ.get("STIX_API_TOKEN") or _ask_token(session)
    client = session.client_of(Endpoint(url, token or ""))
    health = client.health()
    next(client.clusters(), None)
    if url.startswith("http:") and not is_loopback(url):
        session.note("Warning: over plain http the token can be read on the way. Use https where you can.")
    path = save_login(session.home, url, token or "")
    session.say(f"Logged in to {url} (version {health['version']}). Stored in {path}.")
    _warn_if_shadowed(session)


def _from_stack(session: Session, stack: str) -> tuple[str, str]:
    """Imported only here: an operator's command may need the AWS SDK, people's may not."""
    import_module("stix.control_plane").open_control_plane(session.home)
    try:
        first_token = import_module("stix.deployment.first_token")
        import_module("botocore.session")
    except ImportError as exc:
        raise NotConfiguredError(
            f"Reading a stack needs the AWS SDK (there is no {exc.name}).",
            "Install it with: pip install 'stix-cloud[aws]'.",
        ) from exc
    outputs = first_token.read_outputs(stack)
    return outputs.api_url, first_token.make_token(outputs, user=getpass.getuser(), workspace="default")


def _ask_token(session: Session) -> str:
    if not session.interactive:
        raise click.UsageError(
            "Nobody can answer here: give --token, or --token - to read it from standard input."
        )
    return str(click.prompt("Token", hide_input=True, err=True))


@api_command.command("logout")
@click.pass_obj
def logout(session: Session) -> None:
    """Forget the deployed control plane; the local one is used again."""
    path = session.home / "endpoint.json"
    try:
        url = str(json.loads(path.read_text(encoding="utf-8"))["url"])
    except (OSError, ValueError, KeyError, TypeError):
        url = "the control plane"
    session.say(f"Logged out of {url}." if remove_login(session.home) else "You were not logged in.")


def _warn_if_shadowed(session: Session) -> None:
    if session.environ.get("STIX_API_URL"):
        session.note("Note: STIX_API_URL is set and goes before this.")
    elif (session.home / "endpoint.json").exists() and session.discovery().configured() is None:
        session.note("Note: a login goes before the local control plane.")
