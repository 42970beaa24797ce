"""``stix admin``."""

from __future__ import annotations

import click

from stix.cli.amounts import plural
from stix.cli.session import Session
from stix.cli.tables import output_option, print_json
from stix.sdk.responses import Rebuild

__all__ = ["admin_command"]


@click.group("admin", short_help="For those who run the control plane.")
def admin_command() -> None:
    """For those who run the control plane."""


@admin_command.command("rebuild", short_help="Find the machines that the table does not know.")
@click.option(
    "--place",
    "places",
    multiple=True,
    metavar="CLOUD/REGION",
    help="Visit this place too; those that were ever used are visited anyway.",
)
@click.option("--timeout", type=click.IntRange(1, 3600), default=300, show_default=True, help="Seconds.")
@output_option
@click.pass_obj
def rebuild_command(session: Session, places: tuple[str, ...], timeout: int, output: str) -> None:
    """Write down every cluster whose machines are there but not in the table, as after a restored backup.

    Until this has succeeded, a table that was restored or replaced ends no machine that it does not know.
    Exit code 1 when a place could not be visited.
    """
    client = session.client()
    state = client.rebuild(list(places))
    give_up_at = client.pace.monotonic() + timeout
    shown: set[str] = set()
    while not state["armed"] and client.pace.monotonic() < give_up_at:
        for place in state["visited"]:
            if place not in shown and output != "json":
                session.note(f"{place}: visited.")
            shown.add(place)
        client.pace.sleep(1.0)
        state = client.rebuild_state()
    if output == "json":
        print_json(session, state)
    else:
        _say(session, state)
    if not state["armed"]:
        raise click.exceptions.Exit(1)


def _say(session: Session, state: Rebuild) -> None:
    if not state["armed"]:
        waiting = ", ".join(state["waiting"])
        session.say(f"Not visited: {waiting}. Machines that the table does not know are left alone.")
        session.say("See `stix check` and `stix api logs`, then run this again.")
        return
    names = state["clusters"]
    session.say(f"Found {plural(len(names), 'cluster')}{': ' if names else ''}{', '.join(names)}.")
    session.say("Machines that the table does not know are ended again.")
