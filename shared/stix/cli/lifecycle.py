"""``stix stop``, ``start``, ``down`` and ``autostop``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from stix.cli.amounts import plural
from stix.cli.entry import exit_code
from stix.cli.job_output import wait_for_operation
from stix.cli.names import check_choice, choose
from stix.cli.session import Session
from stix.cli.ssh import forget_hosts
from stix.cli.task_options import autostop_flags, autostop_options
from stix.model.errors import StixError
from stix.sdk.responses import Autostop, OperationAccepted

if TYPE_CHECKING:
    from stix.sdk.client import Client

__all__ = ["autostop_command", "down_command", "start_command", "stop_command"]

_clusters = click.argument("clusters", nargs=-1)
_all = click.option("-a", "--all", "everything", is_flag=True, help="All clusters.")
_yes = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
_async = click.option("--async", "no_wait", is_flag=True, help="Return once the request is accepted.")


@click.command("stop", short_help="Stop clusters; their disks stay.")
@_clusters
@_all
@_yes
@_async
@click.pass_obj
def stop_command(
    session: Session, clusters: tuple[str, ...], everything: bool, yes: bool, no_wait: bool
) -> None:
    """Stop clusters; their disks stay, and `stix start` brings them back. Names may hold * and ?."""
    check_choice(clusters, everything)
    client = session.client()
    names = choose(client, clusters, everything, lambda cluster: cluster["status"] != "STOPPED")
    _act(session, client, "Stop", names, client.stop, yes=yes, no_wait=no_wait)


@click.command("down", short_help="Delete clusters.")
@_clusters
@_all
@_yes
@click.option("-p", "--purge", is_flag=True, help="Forget the cluster even if its cloud cannot be reached.")
@_async
@click.pass_obj
def down_command(
    session: Session, clusters: tuple[str, ...], everything: bool, yes: bool, purge: bool, no_wait: bool
) -> None:
    """Delete clusters with their disks. Names may hold * and ?."""
    check_choice(clusters, everything)
    client = session.client()
    names = choose(client, clusters, everything)
    try:
        _act(
            session,
            client,
            "Delete",
            names,
            lambda name: client.down(name, purge=purge),
            yes=yes,
            no_wait=no_wait,
        )
    finally:
        if names:
            forget_hosts(session, client, among=names)


@click.command("start", short_help="Start stopped clusters.")
@_clusters
@_all
@_yes
@autostop_options
@_async
@click.pass_obj
def start_command(
    session: Session,
    clusters: tuple[str, ...],
    everything: bool,
    yes: bool,
    idle_minutes_to_autostop: int | None,
    wait_for: str | None,
    down: bool,
    no_wait: bool,
) -> None:
    """Start stopped clusters. Names may hold * and ?."""
    autostop = _autostop(idle_minutes_to_autostop, down, wait_for)
    check_choice(clusters, everything)
    client = session.client()
    names = choose(client, clusters, everything, lambda cluster: cluster["status"] == "STOPPED")
    _act(session, client, "Start", names, lambda name: client.start(name, autostop), yes=yes, no_wait=no_wait)


@click.command("autostop", short_help="Stop or delete clusters once they are idle.")
@_clusters
@_all
@_yes
@click.option(
    "-i", "--idle-minutes", type=int, default=5, show_default=True, metavar="MINUTES", help="Idle time."
)
@click.option(
    "--wait-for",
    type=click.Choice(["jobs_and_ssh", "jobs", "none"]),
    default="jobs_and_ssh",
    show_default=True,
    help="What keeps a cluster from being idle.",
)
@click.option("--down", is_flag=True, help="Delete instead of stopping.")
@click.option("--cancel", is_flag=True, help="Never stop by itself.")
@click.pass_obj
def autostop_command(
    session: Session,
    clusters: tuple[str, ...],
    everything: bool,
    yes: bool,
    idle_minutes: int,
    wait_for: str,
    down: bool,
    cancel: bool,
) -> None:
    """Stop clusters, or with --down delete them, once they have been idle for a while."""
    autostop = None if cancel or idle_minutes < 0 else _autostop(idle_minutes, down, wait_for)
    check_choice(clusters, everything)
    client = session.client()
    names = choose(client, clusters, everything, lambda cluster: cluster["status"] == "UP")
    if not _agreed(session, "Change the autostop of", names, yes=yes):
        return
    for name in names:
        client.autostop(name, autostop)
        if autostop is None:
            session.note(f"{name} no longer stops by itself.")
        else:
            act = "is deleted" if down else "stops"
            session.note(f"{name} {act} once it has been idle for {plural(idle_minutes, 'minute')}.")


def _autostop(minutes: int | None, down: bool, wait_for: str | None) -> Autostop | None:
    flags = autostop_flags(minutes, down, wait_for)
    if flags is None:
        return None
    return Autostop(idle_minutes=flags["idle_minutes"], down=flags["down"], wait_for=flags["wait_for"])


def _agreed(session: Session, verb: str, names: list[str], *, yes: bool) -> bool:
    """False where there is nothing to do."""
    if not names:
        session.note("No cluster to act on.")
        return False
    session.confirm(f"{verb} {plural(len(names), 'cluster')}: {', '.join(names)}?", yes=yes)
    return True


def _act(
    session: Session,
    client: Client,
    verb: str,
    names: list[str],
    request: Callable[[str], OperationAccepted],
    *,
    yes: bool,
    no_wait: bool,
) -> None:
    """Ask for all first, then follow them: one that fails keeps no other from being done. The exit code
    is the worst."""
    if not _agreed(session, verb, names, yes=yes):
        return
    worst = 0
    accepted: list[tuple[str, str]] = []
    for name in names:
        try:
            accepted.append((name, request(name)["operation_id"]))
        except StixError as exc:
            worst = max(worst, _failed(session, exc, alone=len(names) == 1))
    for name, operation_id in accepted:
        if no_wait:
            session.say(operation_id)
            continue
        try:
            prefix = f"{name}: " if len(names) > 1 else ""
            operation = wait_for_operation(session, client, operation_id, "stix status", prefix=prefix)
        except StixError as exc:
            worst = max(worst, _failed(session, exc, alone=len(names) == 1))
        else:
            if not any(_DONE[verb] in line["message"] for line in operation["progress"][-1:]):
                session.note(f"{name}: {_DONE[verb]}.")
    if worst:
        raise click.exceptions.Exit(worst)


_DONE = {"Stop": "stopped", "Delete": "deleted", "Start": "started"}


def _failed(session: Session, error: StixError, *, alone: bool) -> int:
    if alone:
        raise error
    session.note(f"stix: error: {error}")
    return exit_code(error)
