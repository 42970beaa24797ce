"""``stix logs``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from stix.cli.job_output import follow_job, job_exit_code
from stix.cli.session import Session
from stix.cli.tables import paint_status

__all__ = ["logs_command"]

_DEFAULT_FOLDER = "stix-logs"


@click.command("logs", short_help="Show or save the log of a job.")
@click.argument("cluster")
@click.argument("job_id", required=False, type=int)
@click.option("--follow/--no-follow", default=True, help="Stay until the job ends (the default).")
@click.option(
    "--tail", type=click.IntRange(min=0), default=0, metavar="LINES", help="Only the last lines; 0 is all."
)
@click.option(
    "-w", "--worker", type=click.IntRange(min=0), metavar="RANK", help="Only this node; 0 is the head."
)
@click.option(
    "-s",
    "--sync-down",
    is_flag=False,
    flag_value="",
    default=None,
    metavar="[DIR]",
    help=f"Save the streams as files below DIR; {_DEFAULT_FOLDER}/CLUSTER/JOB_ID when left out.",
)
@click.option(
    "--status", is_flag=True, help="Only print the job's status; exit code 0 if it succeeded, else 1."
)
@click.pass_obj
def logs_command(
    session: Session,
    cluster: str,
    job_id: int | None,
    follow: bool,
    tail: int,
    worker: int | None,
    sync_down: str | None,
    status: bool,
) -> None:
    """Show the log of a job, by default of the newest.

    The exit code is the job's own, and 0 while it has not ended. Ctrl-C detaches and ends with 130.
    """
    if cluster.isdigit() and sync_down:
        raise click.UsageError(
            f"{sync_down!r} was read as the folder of --sync-down. "
            f"Write: stix logs {sync_down} {cluster} --sync-down"
        )
    client = session.client()
    which: int | Literal["latest"] = "latest" if job_id is None else job_id
    if status:
        job = client.job(cluster, which)
        session.say(paint_status(session, job["status"]))
        code = 0 if job["status"] == "SUCCEEDED" else 1
    elif sync_down is not None:
        code = _save(session, cluster, which, sync_down, worker)
    else:
        code = follow_job(session, client, cluster, which, follow=follow, tail=tail, rank=worker)
    if code:
        raise click.exceptions.Exit(code)


def _save(
    session: Session, cluster: str, job_id: int | Literal["latest"], folder: str, rank: int | None
) -> int:
    from stix.sdk.log_download import FileSink
    from stix.sdk.log_stream import LogReader

    with LogReader(session.client(), cluster, job_id, rank=rank) as reader:
        job_id = reader.page("end")["job"]["id"]
        path = Path(folder) if folder else Path(_DEFAULT_FOLDER, cluster, str(job_id))
        try:
            with FileSink(path) as sink:
                job = reader.copy(sink, follow=False)
                sink.flush()
        except OSError as exc:
            raise click.UsageError(f"--sync-down: {path} cannot be written: {exc.strerror}.") from exc
    session.say(str(path))
    return job_exit_code(job)
