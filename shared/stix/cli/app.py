"""The command group. Names and one-line helps stand here, so that ``--help`` loads no command."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

from stix import __version__
from stix.cli.session import Session

__all__ = ["app"]

# name: (module, one line of help); the command is the attribute of the same name.
COMMANDS = {
    "launch": ("stix.cli.launch", "Run a task; its cluster is made if it does not exist."),
    "exec": ("stix.cli.launch", "Run a task on a cluster that is up."),
    "status": ("stix.cli.status", "Show clusters."),
    "explain": ("stix.cli.explain", "Show why a cluster is where and what it is."),
    "cost-report": ("stix.cli.cost_report", "Show what clusters cost, those that ended too."),
    "budget": ("stix.cli.budget", "Show or set what a month may cost."),
    "ssh": ("stix.cli.ssh", "Log in on a node."),
    "queue": ("stix.cli.jobs", "Show the jobs of clusters."),
    "logs": ("stix.cli.logs", "Show or save the log of a job."),
    "cancel": ("stix.cli.jobs", "Cancel jobs."),
    "jobs": ("stix.cli.managed_jobs", "Jobs that outlive their machines: spot, recovery, deadlines."),
    "serve": ("stix.cli.serve", "Services: replicas behind one address, scaled by their load."),
    "stop": ("stix.cli.lifecycle", "Stop clusters; their disks stay."),
    "start": ("stix.cli.lifecycle", "Start stopped clusters."),
    "down": ("stix.cli.lifecycle", "Delete clusters."),
    "autostop": ("stix.cli.lifecycle", "Stop or delete clusters once they are idle."),
    "plan": ("stix.cli.plan", "Show where a task would run best, and what it costs."),
    "gpus": ("stix.cli.gpus", "Show accelerators and their prices."),
    "catalog": ("stix.cli.catalog", "The prices that plans are made with."),
    "simulate": ("stix.cli.simulate", "Try spot policies on recorded availability."),
    "check": ("stix.cli.check", "Show which clouds can be used."),
    "api": ("stix.cli.api", "The control plane: start, stop, log in."),
    "admin": ("stix.cli.admin", "For those who run the control plane."),
    "deploy": ("stix.cli.deploy", "Put the control plane into your AWS account."),
}


# Not for people: other programs run them.
HIDDEN = {"ssh-proxy": ("stix.cli.ssh", "")}


class LazyGroup(click.Group):
    """Loads a command's module when the command is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = COMMANDS.get(cmd_name) or HIDDEN.get(cmd_name)
        if found is None:
            return None
        command = getattr(import_module(found[0]), f"{cmd_name.replace('-', '_')}_command")
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in {*COMMANDS, *HIDDEN}:
            near = get_close_matches(args[0], COMMANDS, 1)
            ctx.fail(f"No such command '{args[0]}'." + (f" Did you mean '{near[0]}'?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(
    "stix", cls=LazyGroup, no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, "-V", "--version", message="stix %(version)s")
@click.option("--verbose", is_flag=True, help="Show HTTP calls on standard error.")
@click.pass_obj
def app(session: Session, /, verbose: bool, **_: Any) -> None:
    """Run AI and batch work on whichever cloud is cheapest and available."""
    session.show_calls = verbose
