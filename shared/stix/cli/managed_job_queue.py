"""``stix jobs queue``: the managed jobs there are."""

from __future__ import annotations

import click

from stix.cli.amounts import age, plural
from stix.cli.managed_logs import task_label
from stix.cli.session import Session
from stix.cli.tables import Column, output_option, print_json, table
from stix.sdk.managed_jobs import ENDED_JOB
from stix.sdk.responses_jobs import ManagedJob

__all__ = ["queue_command"]

_SHOWN = 50
_STATUSES = ("PENDING", "STARTING", "RUNNING", "RECOVERING", "CANCELLING", *sorted(ENDED_JOB))
_JOBS = [
    Column("ID", right=True),
    Column("TASK", right=True),
    Column("NAME", shrinks=True),
    Column("WHERE", shrinks=True),
    Column("SUBMITTED", right=True),
    Column("DURATION", right=True),
    Column("RECOVERIES", right=True),
    Column("STATUS", status=True),
]


@click.command("queue", short_help="Show managed jobs.")
@click.option(
    "-s",
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(_STATUSES),
    metavar="STATUS",
    help="Only these.",
)
@click.option("--skip-finished", is_flag=True, help="Only jobs that have not ended.")
@click.option("-l", "--limit", type=click.IntRange(min=1), default=_SHOWN, show_default=True, help="At most.")
@click.option("-a", "--all", "everything", is_flag=True, help="Without a limit.")
@click.option("-u", "--all-users", is_flag=True, help="Also jobs of others.")
@click.option("--infra", metavar="INFRA", default="", help="Only those in cloud[/region[/zone]].")
@click.option("--since", metavar="TIME", help="Only those submitted since: 6h, 7d, 2030-06-30T18:00Z.")
@click.option("-v", "--verbose", is_flag=True, help="With reasons.")
@output_option
@click.pass_obj
def queue_command(
    session: Session,
    statuses: tuple[str, ...],
    skip_finished: bool,
    limit: int,
    everything: bool,
    all_users: bool,
    infra: str,
    since: str | None,
    verbose: bool,
    output: str,
) -> None:
    """Show managed jobs of yours: those that have not ended, then the others, each newest first."""
    found = session.client().managed_jobs(
        skip_finished=skip_finished,
        limit=None if everything else limit,
        statuses=statuses,
        user="" if all_users else "me",
        infra=infra,
        since=None if since is None else _moment(since, session.now()),
    )
    jobs = list(found)
    if output == "json":
        print_json(session, {"jobs": jobs})
        return
    if not jobs:
        session.say("No managed jobs.")
        return
    rows = [row for job in jobs for row in _rows(job, session.now())]
    table(session, _JOBS, rows)
    if verbose:
        for job in jobs:
            if job["reason"]:
                session.say(f"{job['id']}: {job['reason']}")


def _moment(text: str, now: float) -> float:
    """A length of time before ``now``, or a date, with its time or without; epoch seconds."""
    from datetime import UTC, datetime

    from stix.model.durations import parse_duration
    from stix.model.shapes import at_path

    length, problems = at_path(parse_duration, text, ())
    if not problems:
        return now - float(length or 0.0)
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise click.UsageError(f"--since: {text!r} is neither a length of time (6h) nor a date.") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _rows(job: ManagedJob, now: float) -> list[tuple[str, ...]]:
    """One row, and one for each task of a pipeline."""

    def row(
        number: str, task: str, name: str, where: str, began: float | None, end: float | None
    ) -> tuple[str, ...]:
        return (
            number,
            task,
            name,
            where,
            f"{age(now - job['submitted_at'])} ago",
            age(None if began is None else (end or now) - began),
        )

    only = job["tasks"][0]
    where = only["place"] if len(job["tasks"]) == 1 else plural(len(job["tasks"]), "task")
    if pool := job.get("pool"):
        where = f"pool {pool}{f': {where}' if where else ''}"
    first = (
        *row(str(job["id"]), "-", job["name"], where or "-", job["started_at"], job["ended_at"]),
        str(job["recoveries"]),
        job["status"],
    )
    if len(job["tasks"]) == 1:
        return [first]
    rest = [
        (
            *row(
                "",
                str(task["index"]),
                task_label(job, task),
                task["place"] or "-",
                task["started_at"],
                task["ended_at"],
            ),
            str(task["recoveries"]),
            task["status"],
        )
        for task in job["tasks"]
    ]
    return [first, *rest]
