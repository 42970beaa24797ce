"""``stix cost-report``."""

from __future__ import annotations

from collections.abc import Callable

import click

from stix.cli.amounts import age, price_text
from stix.cli.session import Session
from stix.cli.tables import Column, output_option, print_json, table
from stix.sdk.responses import CostLine, CostReport

__all__ = ["cost_report_command"]

_CLUSTERS = [
    Column("CLUSTER", shrinks=True),
    Column("USER", shrinks=True),
    Column("STARTED", right=True),
    Column("RAN", right=True),
    Column("RESOURCES", shrinks=True),
    Column("PRICE/H", right=True),
    Column("COST", right=True),
]
_GROUPS: dict[str, Callable[[CostLine], str]] = {
    "cluster": lambda line: line["cluster"],
    "user": lambda line: line["user"] or "-",
    "cloud": lambda line: line["cloud"],
    "region": lambda line: f"{line['cloud']}/{line['region']}",
    "instance": lambda line: line["instance_type"] + (" spot" if line["spot"] else ""),
}


@click.command("cost-report", short_help="Show what clusters cost, those that ended too.")
@click.option("--days", type=click.IntRange(1, 366), default=30, show_default=True, help="How far back.")
@click.option(
    "--by", metavar="WHAT", help="Add up by cluster, user, cloud, region, instance or label:NAME instead."
)
@output_option
@click.pass_obj
def cost_report_command(session: Session, days: int, by: str | None, output: str) -> None:
    """Show what machines cost, one line for each time that a cluster ran.

    Prices are those of the moment at which the machines started: what this shows of a day never changes.
    """
    group = None if by is None else _group(by)
    report = session.client().costs(days=days)
    if output == "json":
        print_json(session, report if group is None or by is None else _totals(report, by, group))
    elif not report["lines"]:
        session.say(f"No cluster ran in the last {days} days.")
    elif group is None or by is None:
        _print_lines(session, report)
    else:
        rows = [
            (name, age(total["hours"] * 3600), price_text(total["cost"]))
            for name, total in _totals(report, by, group).items()
        ]
        columns = [
            Column(by.upper(), shrinks=True),
            Column("MACHINE TIME", right=True),
            Column("COST", right=True),
        ]
        table(session, columns, rows)
    if output != "json" and report["lines"]:
        session.say(f"Total of {days} days: {price_text(sum(line['cost'] for line in report['lines']))}")
    if report["truncated"]:
        session.note("There are more lines than one report holds: ask for fewer days.")


def _group(by: str) -> Callable[[CostLine], str]:
    if by.startswith("label:") and len(by) > len("label:"):
        name = by.removeprefix("label:")
        return lambda line: line["labels"].get(name, "-")
    if by not in _GROUPS:
        raise click.UsageError(f"--by is {by!r}; it takes {', '.join(_GROUPS)} or label:NAME.")
    return _GROUPS[by]


def _totals(report: CostReport, by: str, group: Callable[[CostLine], str]) -> dict[str, dict[str, float]]:
    """Machine-hours and USD by group, the dearest first."""
    totals: dict[str, dict[str, float]] = {}
    for line in report["lines"]:
        total = totals.setdefault(group(line), {"hours": 0.0, "cost": 0.0})
        total["hours"] += line["seconds"] / 3600.0 * line["num_nodes"]
        total["cost"] += line["cost"]
    return dict(sorted(totals.items(), key=lambda one: -one[1]["cost"]))


def _print_lines(session: Session, report: CostReport) -> None:
    rows = [
        (
            line["cluster"],
            line["user"] or "-",
            f"{age(report['until'] - line['started_at'])} ago",
            age(line["seconds"]) + ("" if line["ended_at"] is not None else "+"),
            _resources(line),
            price_text(line["hourly_price"]),
            price_text(line["cost"]),
        )
        for line in report["lines"]
    ]
    table(session, _CLUSTERS, rows)


def _resources(line: CostLine) -> str:
    nodes = f"{line['num_nodes']}x " if line["num_nodes"] > 1 else ""
    place = line["cloud"] if line["cloud"] == line["region"] else f"{line['cloud']}/{line['region']}"
    return f"{nodes}{place} {line['instance_type']}" + (" spot" if line["spot"] else "")
