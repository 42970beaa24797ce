"""``stix jobs``: work that outlives its machines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stix.cli.amounts import age, plural
from stix.cli.managed_job_queue import queue_command
from stix.cli.managed_logs import (
    await_job,
    ending_line,
    follow_managed,
    job_code,
    save_runs,
    task_label,
)
from stix.cli.pools import pool_command
from stix.cli.session import Session
from stix.cli.tables import Column, output_option, print_json, table
from stix.cli.task_options import read_task, task_file, task_options, with_flags
from stix.sdk.errors import SdkError
from stix.sdk.responses_jobs import ManagedJob

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stix.model.dag import Dag
    from stix.sdk.client import Client

__all__ = ["jobs_command"]

_EVENTS = [Column("AGO", right=True), Column("EVENT"), Column("PLACE", shrinks=True), Column("REASON")]


@click.group("jobs", short_help="Jobs that outlive their machines: spot, recovery, deadlines.")
def jobs_command() -> None:
    """Managed jobs: tasks that move on when their machines are taken, until they are done."""


jobs_command.add_command(pool_command)
jobs_command.add_command(queue_command)


@jobs_command.command("launch", short_help="Run a task, or a pipeline of tasks, as a managed job.")
@click.argument("entrypoint", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("-d", "--detach-run", is_flag=True, help="Do not follow the job's log.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@task_options
@click.option("--job-recovery", metavar="STRATEGY", help="What to do after a loss, such as FAILOVER or none.")
@click.option("--priority", type=click.IntRange(-1000, 1000), help="Priority of the tasks.")
@click.option("-p", "--pool", metavar="NAME", help="Run on workers of that pool.")
@click.option("--num-jobs", type=click.IntRange(1, 10_000), metavar="N", help="So many times, in a pool.")
@click.option("--async/--no-async", "no_wait", default=False, help="The same as -d.")
@output_option
@click.pass_obj
def launch_command(
    session: Session,
    /,
    entrypoint: tuple[str, ...],
    detach_run: bool,
    yes: bool,
    job_recovery: str | None,
    priority: int | None,
    pool: str | None,
    num_jobs: int | None,
    no_wait: bool,
    output: str,
    **flags: Any,
) -> None:
    """Run a YAML file (several documents are a pipeline), or a command in quotes, as a managed job.

    The exit code is the job's own. Ctrl-C leaves the job running and ends with 130. With -o json the answer
    is printed and nothing is followed. With --num-jobs each job has its SKYPILOT_JOB_RANK, from 0 on, and
    none is followed.
    """
    from stix.sdk.submission import upload_task

    if num_jobs is not None and pool is None:
        raise click.UsageError("--num-jobs: only a pool runs a job so many times. Add --pool NAME.")
    dag = _read_dag(entrypoint, flags, session.environ, job_recovery, priority)
    what = f"a managed job of {plural(len(dag), 'task')}"
    if num_jobs is not None:
        what = f"{num_jobs} times {what}"
    where = f" in pool {pool}" if pool else ""
    session.confirm(f"Launch {what}{where}?", yes=yes or not session.interactive)
    client = session.client()
    many = num_jobs is not None and num_jobs > 1
    follow = not (detach_run or no_wait or many or output == "json")
    configs = dag.to_yaml_configs()
    header = configs[0] if len(configs) > len(dag) else {}
    tasks = []
    for task, config in zip(dag.tasks, configs[-len(dag) :], strict=True):
        request = upload_task(client, task, session.note, follow=follow, managed=True)
        tasks.append(request | {"task": config})
    asked = {"name": flags["name"] or dag.name, "header": header, "tasks": tasks}
    if pool is not None:
        asked |= {"pool": pool, "num_jobs": num_jobs or 1}
    accepted = client.launch_job(asked)
    number = accepted["job_id"]
    if output == "json":
        print_json(session, accepted)
        return
    if many:
        last = number + accepted.get("num_jobs", 1) - 1
        session.note(f"Managed jobs {number} to {last} ({accepted['name']}). See: stix jobs queue")
        return
    session.note(f"Managed job {number} ({accepted['name']}). Its log: stix jobs logs {number}")
    if follow and (code := follow_managed(session, client, number)):
        raise click.exceptions.Exit(code)


def _read_dag(
    entrypoint: Sequence[str],
    flags: dict[str, Any],
    environ: Mapping[str, str],
    job_recovery: str | None,
    priority: int | None,
) -> Dag:
    """The tasks of the entrypoint with the flags applied to each; ``--name`` names the job. Raises
    ``TaskError``, ``click.UsageError``."""
    from stix.model.dag import Dag

    path = task_file(entrypoint)
    if path is None:
        dag = Dag()
        dag.add(read_task(entrypoint, flags, environ))
    else:
        dag = Dag.from_yaml(path)
        names = flags if len(dag) == 1 else {**flags, "name": None}
        dag.tasks = [with_flags(task, names, environ) for task in dag.tasks]
    more = {"job_recovery": job_recovery, "priority": priority}
    if any(value is not None for value in more.values()):
        dag.tasks = [task.with_overrides(resources=more) for task in dag.tasks]
    return dag


@jobs_command.command("cancel", short_help="Cancel managed jobs.")
@click.argument("job_ids", nargs=-1, type=click.IntRange(min=1))
@click.option("-n", "--name", metavar="NAME", help="The job of that name that has not ended.")
@click.option("-a", "--all", "everything", is_flag=True, help="All of yours that have not ended.")
@click.option("-p", "--pool", metavar="NAME", help="All of that pool that have not ended.")
@click.option("--graceful", is_flag=True, help="Always so: tasks get SIGTERM and time to end.")
@click.option(
    "--graceful-timeout",
    type=click.IntRange(0, 300),
    default=30,
    show_default=True,
    metavar="SECONDS",
    help="How long tasks have after SIGTERM.",
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def cancel_command(
    session: Session,
    job_ids: tuple[int, ...],
    name: str | None,
    everything: bool,
    pool: str | None,
    graceful: bool,
    graceful_timeout: int,
    yes: bool,
) -> None:
    """Cancel managed jobs by number, by name, of a pool, or all of yours."""
    if sum(map(bool, (job_ids, name, pool, everything))) != 1:
        raise click.UsageError("Give job numbers, --name, --pool or --all, and only one of them.")
    client = session.client()
    numbers = job_ids or ((_named(client, name, live=True),) if name else ())
    which = f"all managed jobs of pool {pool}" if pool else "all managed jobs of yours"
    which = which if everything or pool else ", ".join(f"managed job {one}" for one in numbers)
    session.confirm(f"Cancel {which}?", yes=yes)
    jobs = client.cancel_jobs(numbers, all_jobs=everything, pool=pool, grace_seconds=graceful_timeout)
    ids = ", ".join(str(job["id"]) for job in jobs)
    session.note(
        f"Cancelling {plural(len(jobs), 'managed job')}: {ids}" if ids else "There was none to cancel."
    )


@jobs_command.command("logs", short_help="Show or save the log of a managed job.")
@click.argument("job_id", required=False, type=click.IntRange(min=1))
@click.argument("task", required=False)
@click.option("-n", "--name", metavar="NAME", help="The newest job of that name.")
@click.option("--follow/--no-follow", default=True, help="Stay until the job ends (the default).")
@click.option(
    "--tail", type=click.IntRange(min=0), default=0, metavar="LINES", help="The last lines; 0 is all."
)
@click.option("-s", "--sync-down", is_flag=True, help="Save every run below stix-logs/managed-JOB_ID.")
@click.pass_obj
def logs_command(
    session: Session,
    job_id: int | None,
    task: str | None,
    name: str | None,
    follow: bool,
    tail: int,
    sync_down: bool,
) -> None:
    """Show the logs of a job's runs in their order, also of those whose machines are gone.

    Without a number, of the newest job. TASK is a task's name or its place from 0. The exit code is the
    job's own, and 0 while it has not ended.
    """
    client = session.client()
    job = _found(client, job_id, name)
    index = None if task is None else _task_index(job, task)
    if sync_down:
        folder = Path("stix-logs", f"managed-{job['id']}")
        try:
            job = save_runs(client, job["id"], folder)
        except OSError as exc:
            raise click.UsageError(f"--sync-down: {folder} cannot be written: {exc.strerror}.") from exc
        session.say(str(folder))
        code = job_code(job)
    else:
        code = follow_managed(session, client, job["id"], follow=follow, tail=tail, task=index)
    if code:
        raise click.exceptions.Exit(code)


@jobs_command.command("wait", short_help="Wait for the end of a managed job.")
@click.argument("job_id", required=False, type=click.IntRange(min=1))
@click.option("-n", "--name", metavar="NAME", help="The newest job of that name.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Then end with 124.")
@output_option
@click.pass_obj
def wait_command(
    session: Session, job_id: int | None, name: str | None, timeout: float | None, output: str
) -> None:
    """Wait until a job has ended; without a number, the newest. The exit code is the job's own."""
    client = session.client()
    job = await_job(session, client, _found(client, job_id, name)["id"], seconds=timeout)
    if output == "json":
        print_json(session, job)
    else:
        session.note(ending_line(job))
    if code := job_code(job):
        raise click.exceptions.Exit(code)


@jobs_command.command("events", short_help="Show what happened to a managed job.")
@click.argument("job_id", required=False, type=click.IntRange(min=1))
@output_option
@click.pass_obj
def events_command(session: Session, job_id: int | None, output: str) -> None:
    """Show what happened to a job, oldest first; without a number, to the newest."""
    client = session.client()
    job = client.managed_job(job_id or "latest")
    events = list(client.job_events(job["id"]))
    if output == "json":
        print_json(session, {"events": events})
        return
    now = session.now()
    rows = [(age(now - one["at"]), one["name"], one["place"] or "-", one["reason"] or "-") for one in events]
    table(session, _EVENTS, rows)


def _found(client: Client, number: int | None, name: str | None) -> ManagedJob:
    if number is not None and name is not None:
        raise click.UsageError("Give a job's number or --name, not both.")
    if name is not None:
        return client.managed_job(_named(client, name, live=False))
    return client.managed_job(number or "latest")


def _named(client: Client, name: str | None, *, live: bool) -> int:
    """The newest job of that name. Raises ``SdkError`` 404, and where several live ones have it."""
    found = [job["id"] for job in client.managed_jobs(skip_finished=live) if job["name"] == name]
    if not found:
        raise SdkError("job_not_found", f"No managed job is called {name}.", "See: stix jobs queue", 404)
    if live and len(found) > 1:
        ids = ", ".join(map(str, found))
        raise click.UsageError(f"Several jobs are called {name}: {ids}. Name one by its number.")
    return max(found)


def _task_index(job: ManagedJob, text: str) -> int:
    for task in job["tasks"]:
        if text in (task["name"], str(task["index"])):
            return task["index"]
    known = ", ".join(task_label(job, task) for task in job["tasks"])
    raise click.UsageError(f"Job {job['id']} has no task {text!r}. Its tasks: {known}.")
