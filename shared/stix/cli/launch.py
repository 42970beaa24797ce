"""``stix launch`` and ``stix exec``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from stix.cli.amounts import place_text, plural, price_text
from stix.cli.job_output import follow_job, wait_for_operation
from stix.cli.session import Session
from stix.cli.tables import Column, output_option, print_json, table
from stix.cli.task_options import autostop_flags, autostop_options, read_task, task_options
from stix.sdk.errors import SdkError
from stix.sdk.responses import Plan

if TYPE_CHECKING:
    from stix.sdk.client import Client

__all__ = ["exec_command", "launch_command"]

_SHOWN_OFFERS = 5
_OFFERS = [
    Column("#", right=True),
    Column("WHERE", shrinks=True),
    Column("INSTANCE", shrinks=True),
    Column("VCPUS", right=True),
    Column("MEM", right=True),
    Column("GPUS", shrinks=True),
    Column("SPOT"),
    Column("PRICE/H", right=True),
]


@click.command("launch", short_help="Run a task; its cluster is made if it does not exist.")
@click.argument("entrypoint", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "-c", "--cluster", metavar="NAME", help="Cluster to use or make; a name is chosen when left out."
)
@click.option("--dryrun", is_flag=True, help="Show where it would run, and do nothing.")
@click.option("-d", "--detach-run", is_flag=True, help="Do not follow the job's log.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@task_options
@autostop_options
@click.option("--retry-until-up", "-r", is_flag=True, help="Try all places again until one has room.")
@click.option(
    "--race",
    type=click.IntRange(1, 5),
    default=1,
    metavar="N",
    help="Ask the N best offers at once; the gang that is whole first stays.",
)
@click.option(
    "--max-lifetime", metavar="TIME", help="Delete the cluster after so long (8h, 2d), busy or not."
)
@click.option("--delete-after", metavar="TIME", help="Delete the cluster once it was stopped for so long.")
@click.option(
    "--max-cost", type=click.FloatRange(0, min_open=True), help="Delete it once it cost so many USD."
)
@click.option("--no-setup", is_flag=True, help="Skip the task's setup.")
@click.option("--async", "no_wait", is_flag=True, help="Return once the request is accepted.")
@output_option
@click.pass_obj
def launch_command(
    session: Session,
    /,
    entrypoint: tuple[str, ...],
    cluster: str | None,
    dryrun: bool,
    detach_run: bool,
    yes: bool,
    idle_minutes_to_autostop: int | None,
    wait_for: str | None,
    down: bool,
    retry_until_up: bool,
    race: int,
    max_lifetime: str | None,
    delete_after: str | None,
    max_cost: float | None,
    no_setup: bool,
    no_wait: bool,
    output: str,
    **flags: Any,
) -> None:
    """Run a task: a YAML file, or a command in quotes. Without either, only the cluster is made.

    The exit code is the job's own. Ctrl-C leaves the job running and ends with 130. -o applies to --dryrun.
    """
    from stix.sdk.submission import task_fields, upload_task

    task = read_task(entrypoint, flags, session.environ)
    autostop = autostop_flags(idle_minutes_to_autostop, down, wait_for, task)
    lifetime = {
        "max_lifetime_seconds": _seconds("--max-lifetime", max_lifetime),
        "delete_after_seconds": _seconds("--delete-after", delete_after),
        "max_cost": max_cost,
    }
    fields = task_fields(task)
    client = session.client()
    if dryrun:
        _show_plan(session, client.plan(fields), output, limit=None)
        return
    if session.interactive and not yes and not _exists(client, cluster):
        _show_plan(session, client.plan(fields), "table", limit=_SHOWN_OFFERS)
        session.confirm(f"Make {f'cluster {cluster}' if cluster else 'a new cluster'}?", yes=False)
    follow = not (detach_run or no_wait)
    request = upload_task(client, task, session.note, follow=follow)
    request |= {"cluster": cluster, "autostop": autostop, "no_setup": no_setup}
    request |= {"retry_until_up": retry_until_up, "race": race}
    if any(limit is not None for limit in lifetime.values()):
        request |= {"lifetime": lifetime}
    accepted = client.launch(request)
    name, job_id = accepted["cluster"], accepted["job_id"]
    if no_wait:
        session.say(accepted["operation_id"])
        session.note(f"Accepted. Follow it: stix api logs {accepted['operation_id']}")
        return
    session.note(f"Making cluster {name}." if accepted["created"] else f"Using cluster {name}.")
    wait_for_operation(
        session, client, accepted["operation_id"], f"stix status {name}; stix down {name} ends it"
    )
    code = 0
    if job_id is not None and follow:
        code = follow_job(session, client, name, job_id)
    _what_next(session, name, job_id)
    if code:
        raise click.exceptions.Exit(code)


@click.command("exec", short_help="Run a task on a cluster that is up.")
@click.argument("cluster")
@click.argument("entrypoint", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("-d", "--detach-run", is_flag=True, help="Do not follow the job's log.")
@task_options
@click.option("--async", "no_wait", is_flag=True, help="The same as -d.")
@click.pass_obj
def exec_command(
    session: Session,
    /,
    cluster: str,
    entrypoint: tuple[str, ...],
    detach_run: bool,
    no_wait: bool,
    **flags: Any,
) -> None:
    """Run a task on a cluster that is up: no machines are made and no setup runs.

    The exit code is the job's own. Ctrl-C leaves the job running and ends with 130.
    """
    from stix.sdk.submission import upload_task

    task = read_task(entrypoint, flags, session.environ)
    client = session.client()
    follow = not (detach_run or no_wait)
    accepted = client.exec(cluster, upload_task(client, task, session.note, follow=follow))
    name, job_id = accepted["cluster"], accepted["job_id"]
    session.note(f"Job {job_id} is on cluster {name}. Its log: stix logs {name} {job_id}")
    if follow and (code := follow_job(session, client, name, job_id)):
        raise click.exceptions.Exit(code)


def _seconds(option: str, text: str | None) -> float | None:
    """Of ``8h``, ``90m``, ``2d``; a plain number is seconds."""
    if text is None:
        return None
    from pydantic_core import PydanticCustomError

    from stix.model.durations import seconds_or_duration

    try:
        return float(seconds_or_duration(text))
    except (PydanticCustomError, ValueError):
        raise click.UsageError(f"{option} is {text!r}; write a time such as 90m, 8h or 2d.") from None


def _exists(client: Client, cluster: str | None) -> bool:
    if cluster is None:
        return False
    try:
        client.cluster(cluster)
    except SdkError as exc:
        if exc.http_status == 404:
            return False
        raise
    return True


def _show_plan(session: Session, plan: Plan, output: str, *, limit: int | None) -> None:
    if output == "json":
        print_json(session, plan)
        return
    offers = plan["offers"][:limit]
    rows = [
        (
            str(offer["rank"]),
            place_text(offer),
            offer["instance_type"],
            f"{offer['vcpus']:g}",
            f"{offer['memory_gib']:g}",
            offer["accelerators"] or "-",
            "yes" if offer["spot"] else "no",
            price_text(offer["hourly_price"]),
        )
        for offer in offers
    ]
    table(session, _OFFERS, rows)
    hidden = len(plan["offers"]) - len(offers)
    if hidden:
        session.say(f"and {plural(hidden, 'more offer')}; stix launch --dryrun shows all")
    if offers:
        best = offers[0]
        session.say(
            f"First choice: {plural(best['num_nodes'], 'node')} on {place_text(best)}: {best['reason']}"
        )


def _what_next(session: Session, name: str, job_id: int | None) -> None:
    lines = [("stix exec " + name + " CMD", "run something else on it"), ("stix down " + name, "delete it")]
    if job_id is not None:
        lines.insert(0, (f"stix logs {name} {job_id}", "show the job's log again"))
    width = max(len(command) for command, _ in lines)
    session.note(f"\nCluster {name}:")
    for command, meaning in lines:
        session.note(f"  {command.ljust(width)}  {meaning}")
