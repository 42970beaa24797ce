"""``stix budget``."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from stix.cli.amounts import price_text
from stix.cli.session import Session
from stix.cli.tables import output_option, print_json
from stix.sdk.responses import Budget

__all__ = ["budget_command"]


@click.group("budget", invoke_without_command=True, short_help="Show or set what a month may cost.")
@output_option
@click.pass_context
def budget_command(context: click.Context, output: str) -> None:
    """Show what the workspace may cost in a calendar month (UTC), and what it has cost.

    Once a budget is spent nothing new is started; what runs goes on. Limits of a single cluster are set with
    `stix launch --max-cost`.
    """
    if context.invoked_subcommand is None:
        session: Session = context.obj
        _show(session, session.client().budget(), output)


@budget_command.command("set", short_help="Set the budget.")
@click.argument("usd", type=click.FloatRange(min=0, min_open=True))
@click.pass_obj
def set_command(session: Session, usd: float) -> None:
    """Let the workspace cost USD a month."""
    _show(session, session.client().set_budget(usd))


@budget_command.command("clear", short_help="Take the budget away.")
@click.pass_obj
def clear_command(session: Session) -> None:
    """Let the workspace cost what it costs."""
    _show(session, session.client().set_budget(None))


def _show(session: Session, budget: Budget, output: str = "table") -> None:
    if output == "json":
        print_json(session, budget)
        return
    month = datetime.fromtimestamp(budget["since"], UTC).strftime("%B %Y")
    limit = "no budget" if budget["monthly"] is None else f"of {price_text(budget['monthly'])}"
    session.say(f"{month}: {price_text(budget['spent'])} spent, {limit}.")
    if budget["rate"]:
        session.say(f"What runs now costs {price_text(budget['rate'])} an hour.")
