"""``stix queue`` and ``stix cancel``."""

from __future__ import annotations

import click

from stix.cli.amounts import age, plural
from stix.cli.names import matching
from stix.cli.session import Session
from stix.cli.tables import Column, output_option, print_json, table
from stix.sdk.errors import SdkError
from stix.sdk.responses import Job

__all__ = ["cancel_command", "queue_command"]

_JOBS = [
    Column("ID", right=True),
    Column("NAME", shrinks=True),
    Column("USER", shrinks=True),
    Column("SUBMITTED", right=True),
    Column("STARTED", right=True),
    Column("DURATION", right=True),
    Column("RESOURCES", shrinks=True),
    Column("STATUS", status=True),
]


@click.command("queue", short_help="Show the jobs of clusters.")
@click.argument("clusters", nargs=-1)
@click.option("-s", "--skip-finished", is_flag=True, help="Only jobs that have not ended.")
@output_option
@click.pass_obj
def queue_command(session: Session, clusters: tuple[str, ...], skip_finished: bool, output: str) -> None:
    """Show the jobs of all clusters, or of those named; newest first."""
    client = session.client()
    found, missing = matching(client, clusters)
    if missing:
        raise SdkError(
            "not_found", f"No such cluster: {', '.join(missing)}.", "`stix status` lists them.", 404
        )
    names = [cluster["name"] for cluster in found]
    if output == "json":
        jobs = [job for name in names for job in client.jobs(name, skip_finished=skip_finished)]
        print_json(session, {"jobs": jobs})
        return
    if not names:
        session.say("No clusters, so no jobs.")
    for at, name in enumerate(names):
        session.say(("\n" if at else "") + f"Jobs of {name}")
        rows = [_row(job, session.now()) for job in client.jobs(name, skip_finished=skip_finished)]
        if rows:
            table(session, _JOBS, rows)
        else:
            session.say("none")


def _row(job: Job, now: float) -> tuple[str, ...]:
    started = job["started_at"]
    return (
        str(job["id"]),
        job["name"] or "-",
        job["user"] or "-",
        f"{age(now - job['submitted_at'])} ago",
        "-" if started is None else f"{age(now - started)} ago",
        age(None if started is None else (job["ended_at"] or now) - started),
        job["resources"] or "-",
        job["status"],
    )


@click.command("cancel", short_help="Cancel jobs.")
@click.argument("cluster")
@click.argument("jobs", nargs=-1, type=int)
@click.option("-a", "--all", "everything", is_flag=True, help="All jobs that have not ended.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def cancel_command(
    session: Session, cluster: str, jobs: tuple[int, ...], everything: bool, yes: bool
) -> None:
    """Cancel jobs by id, or all with -a; without either, the newest that has not ended."""
    if jobs and everything:
        raise click.UsageError("Name jobs or give --all, not both.")
    client = session.client()
    if not jobs and not everything:
        jobs = tuple(job["id"] for job in client.jobs(cluster, skip_finished=True, limit=1))
        if not jobs:
            session.note(f"{cluster} has no job that has not ended.")
            return
    which = "all jobs" if everything else ", ".join(f"job {job}" for job in jobs)
    session.confirm(f"Cancel {which} on {cluster}?", yes=yes)
    cancelled = client.cancel(cluster, jobs, all_jobs=everything)
    ids = ", ".join(str(job["id"]) for job in cancelled)
    session.note(
        f"Cancelling {plural(len(cancelled), 'job')} on {cluster}: {ids}"
        if ids
        else "There was none to cancel."
    )
