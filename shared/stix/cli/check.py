"""``stix check``."""

from __future__ import annotations

import click

from stix.cli.session import Session
from stix.cli.tables import Column, output_option, print_json, say_folded, table
from stix.sdk.errors import SdkError

__all__ = ["check_command"]

_CLOUDS = [Column("CLOUD"), Column("STATE", status=True), Column("REASON", shrinks=True)]


@click.command("check", short_help="Show which clouds can be used.")
@click.argument("infra", nargs=-1)
@click.option("-v", "--verbose", is_flag=True, help="Also show what was found out about each cloud.")
@output_option
@click.pass_obj
def check_command(session: Session, infra: tuple[str, ...], verbose: bool, output: str) -> None:
    """Show which clouds the control plane can use, and what the others need. Exit code 1 when there is
    none."""
    clouds = session.client().check()["clouds"]
    unknown = [name for name in infra if name not in {cloud["cloud"] for cloud in clouds}]
    if unknown:
        known = ", ".join(cloud["cloud"] for cloud in clouds)
        raise SdkError("not_found", f"Unknown cloud: {', '.join(unknown)}.", f"Known are: {known}.", 404)
    chosen = [cloud for cloud in clouds if not infra or cloud["cloud"] in infra]
    if output == "json":
        print_json(session, {"clouds": chosen})
    else:
        rows = [
            (cloud["cloud"], "enabled" if cloud["enabled"] else "disabled", cloud["reason"] or "-")
            for cloud in chosen
        ]
        table(session, _CLOUDS, rows)
        for cloud in chosen:
            if cloud["hint"] and not cloud["enabled"]:
                say_folded(session, f"{cloud['cloud']}: {cloud['hint']}")
            for name, value in cloud["details"].items() if verbose else ():
                say_folded(session, f"{cloud['cloud']}: {name}: {value}")
    if not any(cloud["enabled"] for cloud in chosen):
        raise click.exceptions.Exit(1)
