"""Following a managed job: the logs of its runs, one after the other, and the exit code that is its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stix.cli.log_output import print_log
from stix.cli.session import Session
from stix.sdk.follow import rest
from stix.sdk.managed_jobs import ENDED_JOB
from stix.sdk.responses_jobs import ManagedJob, ManagedJobRun, ManagedJobTask
from stix.sdk.run_logs import RunLogReader

if TYPE_CHECKING:
    from stix.sdk.client import Client

__all__ = ["await_job", "ending_line", "follow_managed", "job_code", "save_runs", "task_label"]

_INTERRUPTED = 130


def follow_managed(
    session: Session,
    client: Client,
    number: int,
    *,
    follow: bool = True,
    tail: int = 0,
    task: int | None = None,
) -> int:
    """Print the logs of a job's runs, in their order, to the job's end with ``follow``; the exit code.

    ``tail``: of the newest run only its last lines. Of a job group one task can be followed: its first
    primary one. Ctrl-C detaches and ends the command with 130.
    """
    try:
        job = _print_runs(session, client, number, follow=follow, tail=tail, task=task)
    except KeyboardInterrupt:
        session.note(f"\nDetached; the job goes on. Come back: stix jobs logs {number}")
        raise click.exceptions.Exit(_INTERRUPTED) from None
    if follow:
        session.note(ending_line(job))
    return job_code(job)


def _print_runs(
    session: Session, client: Client, number: int, *, follow: bool, tail: int, task: int | None
) -> ManagedJob:
    shown, said = 0, ""
    while True:
        asked_at = client.pace.monotonic()
        job = client.managed_job(number)
        if follow and task is None and job["group"] and len(job["tasks"]) > 1:
            first = next(one for one in job["tasks"] if one["primary"])
            session.note(f"Of {task_label(job, first)}; another task's log: stix jobs logs {number} TASK")
            task = first["index"]
        runs = [run for run in client.job_runs(number, after=shown) if task in (None, run["task"])]
        if tail and not shown:
            runs = runs[-1:]
        for run in runs:
            if shown or run["number"] > 1:
                session.note(_run_line(job, run))
            reader = RunLogReader(client, number, run["number"])
            print_log(reader, follow=follow, tail=0 if shown else tail)
            shown, said = run["number"], ""
        if not follow or (job["status"] in ENDED_JOB and not runs):
            return job
        if runs:
            continue
        line = _state_line(job)
        if line and line != said:
            session.note(line)
            said = line
        client.managed_job(number, seen=job["version"])
        rest(client, asked_at)


def save_runs(client: Client, number: int, folder: Path) -> ManagedJob:
    """Save the streams of every run as files below ``folder``/``run-N``. Raises ``OSError``."""
    from stix.sdk.log_download import FileSink

    for run in client.job_runs(number):
        path = folder / f"run-{run['number']}"
        with RunLogReader(client, number, run["number"]) as reader, FileSink(path) as sink:
            reader.copy(sink, follow=False)
            sink.flush()
    return client.managed_job(number)


def await_job(session: Session, client: Client, number: int, *, seconds: float | None) -> ManagedJob:
    """The job once it has ended; a line for each status on the way. Ends the command with 124 after
    ``seconds``."""
    deadline = None if seconds is None else client.pace.monotonic() + seconds
    said = ""
    while True:
        asked_at = client.pace.monotonic()
        job = client.managed_job(number)
        line = _state_line(job)
        if line and line != said:
            session.note(line)
            said = line
        if job["status"] in ENDED_JOB:
            return job
        if deadline is not None and client.pace.monotonic() >= deadline:
            session.note(f"Job {number} is {job['status']} still.")
            raise click.exceptions.Exit(124)
        if deadline is None:
            client.managed_job(number, seen=job["version"])
        rest(client, asked_at)


def job_code(job: ManagedJob) -> int:
    """The exit code of the task that failed first; 1 where it has none; 0 while the job has not ended."""
    if job["status"] == "SUCCEEDED" or job["status"] not in ENDED_JOB:
        return 0
    failed = next((task for task in job["tasks"] if task["status"].startswith("FAILED")), None)
    code = None if failed is None else failed["exit_code"]
    return code if code is not None and 0 < code < 256 else 1


def ending_line(job: ManagedJob) -> str:
    """How the job ended, or how it stands."""
    reason = f": {job['reason'].rstrip('.')}" if job["reason"] else ""
    losses = f" after {job['recoveries']} recover{'y' if job['recoveries'] == 1 else 'ies'}"
    return f"Job {job['id']} {job['status']}{losses if job['recoveries'] else ''}{reason}."


def task_label(job: ManagedJob, task: ManagedJobTask) -> str:
    return task["name"] or (job["name"] if len(job["tasks"]) == 1 else f"task {task['index'] + 1}")


def _state_line(job: ManagedJob) -> str:
    if job["status"] in ENDED_JOB:
        return ""
    reason = f": {job['reason'].rstrip('.')}" if job["reason"] else ""
    return f"Job {job['id']} is {job['status']}{reason}."


def _run_line(job: ManagedJob, run: ManagedJobRun) -> str:
    where = f" in {run['place']}" if run["place"] else ""
    why = f" ({run['reason']})" if run["reason"] else ""
    return f"-- run {run['number']} of {task_label(job, job['tasks'][run['task']])}{where}{why}"
