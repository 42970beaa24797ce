"""``stix jobs pool``: workers that are kept warm for managed jobs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stix.cli.amounts import age, plural, price_text
from stix.cli.log_output import print_log
from stix.cli.session import Session
from stix.cli.tables import Column, output_option, print_json, say_folded, table
from stix.cli.task_options import read_task, task_options
from stix.sdk.errors import SdkError
from stix.sdk.pools import WorkerLogReader
from stix.sdk.responses_pools import Pool

if TYPE_CHECKING:
    from stix.model.task import Task
    from stix.sdk.client import Client

__all__ = ["explain_pool", "pool_command"]

_NAME = re.compile(r"[A-Za-z]([-_.A-Za-z0-9]*[A-Za-z0-9])?", re.ASCII)
_INTERRUPTED = 130
_POOLS = [
    Column("NAME", shrinks=True),
    Column("VERSION", right=True),
    Column("AGE", right=True),
    Column("WORKERS", right=True),
    Column("WAITING", right=True),
    Column("RUNNING", right=True),
    Column("RESOURCES", shrinks=True),
    Column("STATUS", status=True),
]
_WORKERS = [
    Column("POOL", shrinks=True),
    Column("ID", right=True),
    Column("VERSION", right=True),
    Column("LAUNCHED", right=True),
    Column("WHERE", shrinks=True),
    Column("JOBS", shrinks=True),
    Column("STATUS", status=True),
]


@click.group("pool", short_help="Workers that are kept warm for managed jobs.")
def pool_command() -> None:
    """Pools: workers that are set up once and run managed jobs one after the other (`jobs launch --pool`)."""


@pool_command.command("apply", short_help="Make a pool, or change it.")
@click.argument("pool_yaml", nargs=-1, type=click.UNPROCESSED)
@click.option("-p", "--pool", "pool_name", metavar="NAME", help="Name of the pool; else the YAML's name.")
@click.option("--workers", type=click.IntRange(0, 500), metavar="N", help="So many workers, always.")
@click.option(
    "--mode",
    type=click.Choice(["rolling", "blue_green"]),
    default="rolling",
    show_default=True,
    help="How new workers take over: a few at a time, or all at once.",
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@task_options
@click.option("--async/--no-async", "no_wait", default=False, help="Nothing is waited for in any case.")
@output_option
@click.pass_obj
def apply_command(
    session: Session,
    /,
    pool_yaml: tuple[str, ...],
    pool_name: str | None,
    workers: int | None,
    mode: str,
    yes: bool,
    no_wait: bool,
    output: str,
    **flags: Any,
) -> None:
    """Make the pool that POOL_YAML describes, or make a pool so: its resources and setup are those of each
    worker, its `pool:` says how many there are. With --workers alone only their number changes."""
    from stix.sdk.submission import upload_task

    client = session.client()
    name = pool_name
    request: dict[str, Any] = {"workers": workers, "mode": mode}
    if pool_yaml:
        flags_name, flags["name"] = flags["name"], None
        task = read_task(pool_yaml, flags, session.environ)
        name = name or flags_name or task.name
        bare, spec = _apart(session, task, workers)
        session.confirm(f"Apply pool {_checked(name)}?", yes=yes or not session.interactive)
        sent = upload_task(client, bare, session.note, follow=False)
        request["task"] = sent | {"task": {**sent["task"], **spec}}
    elif workers is None:
        raise click.UsageError("Give a YAML file, or -p NAME and --workers N to change a pool's size.")
    accepted = client.apply_pool(_checked(name), request)
    if output == "json":
        print_json(session, accepted)
        return
    what = "is being made" if accepted["created"] else f"is applied (version {accepted['version']})"
    session.note(f"Pool {accepted['name']} {what}. See: stix jobs pool status {accepted['name']}")


def _checked(name: str | None) -> str:
    if not name:
        raise click.UsageError("The pool has no name. Add -p NAME, or name: to the YAML.")
    if not _NAME.fullmatch(name) or len(name) > 63:
        raise click.UsageError(
            f"-p: {name!r} is not a pool's name: letters, digits and - _ . after a letter, at most 63."
        )
    return name


def _apart(session: Session, task: Task, workers: int | None) -> tuple[Task, dict[str, Any]]:
    """What each worker is made from, and the `pool:` beside it."""
    from stix.model.task import Task

    if task.pool is None and workers is None:
        raise click.UsageError("The YAML has no pool:. Add pool: {workers: 2}, or --workers 2.")
    config = task.to_yaml_config(reveal_secrets=True)
    if config.pop("run", None):
        session.note("run: it is left out; the jobs of a pool bring their own.")
    spec = config.pop("pool", None)
    return Task.from_yaml_config(config), {} if spec is None else {"pool": spec}


@pool_command.command("status", short_help="Show pools.")
@click.argument("pool_names", nargs=-1)
@click.option("-v", "--verbose", is_flag=True, help="With what each pool decided, and why.")
@click.option("-a", "--all", "everything", is_flag=True, help="All workers are shown in any case.")
@output_option
@click.pass_obj
def status_command(
    session: Session, pool_names: tuple[str, ...], verbose: bool, everything: bool, output: str
) -> None:
    """Show all pools, or those that are named, with their workers."""
    client = session.client()
    names = pool_names or tuple(pool["name"] for pool in client.pools())
    pools = [client.pool(_checked(name)) for name in dict.fromkeys(names)]
    if output == "json":
        print_json(session, {"pools": pools})
        return
    if not pools:
        session.say("No pools.")
        return
    now = session.now()
    table(session, _POOLS, [_pool_row(pool, now) for pool in pools])
    rows = [row for pool in pools for row in _worker_rows(pool, now)]
    if rows:
        session.say("")
        table(session, _WORKERS, rows)
    for pool in pools if verbose else ():
        print_decisions(session, pool)


def _pool_row(pool: Pool, now: float) -> tuple[str, ...]:
    return (
        pool["name"],
        str(pool["version"]),
        age(now - pool["created_at"]),
        f"{pool['ready']}/{pool['target']}",
        str(pool["waiting"]),
        str(pool["running"]),
        pool["resources"] or "-",
        pool["status"],
    )


def _worker_rows(pool: Pool, now: float) -> list[tuple[str, ...]]:
    return [
        (
            pool["name"],
            str(worker["number"]),
            str(worker["version"]),
            f"{age(now - worker['launched_at'])} ago",
            (worker["place"] or "-") + (" (spot)" if worker["spot"] else ""),
            ", ".join(map(str, worker["jobs"])) or "-",
            worker["status"],
        )
        for worker in pool["workers"]
    ]


def explain_pool(session: Session, name: str, output: str) -> bool:
    """Print how the pool of that name stands and what it decided; False where there is none."""
    try:
        pool = session.client().pool(name)
    except SdkError as error:
        if error.http_status == 404:
            return False
        raise
    if output == "json":
        print_json(session, pool)
    else:
        print_decisions(session, pool)
    return True


def print_decisions(session: Session, pool: Pool) -> None:
    """How the pool stands, and what it decided, oldest first."""
    now = session.now()
    reason = f": {pool['reason']}" if pool["reason"] else ""
    session.say("")
    say_folded(session, f"{pool['name']} is {pool['status']} for {age(now - pool['since'])}{reason}")
    size = str(pool["min_workers"])
    if pool["max_workers"] > pool["min_workers"]:
        size = (
            f"{pool['min_workers']} to {pool['max_workers']}, one for each "
            f"{plural(pool['queue_length_threshold'], 'waiting job')}"
        )
    hourly = sum(worker["price"] for worker in pool["workers"])
    say_folded(session, f"  workers wanted: {size}; {price_text(hourly)} an hour now")
    for worker in pool["workers"]:
        if worker["reason"]:
            say_folded(session, f"  worker {worker['number']}: {worker['reason']}")
    for line in pool["decisions"]:
        say_folded(session, f"    {age(now - line['at']):>4} ago  {line['message']}")


@pool_command.command("down", short_help="Delete pools.")
@click.argument("pool_names", nargs=-1)
@click.option("-a", "--all", "everything", is_flag=True, help="All pools.")
@click.option("--drain", is_flag=True, help="Let the jobs that a pool has end first.")
@click.option("-p", "--purge", is_flag=True, help="No pool waits for its clouds in any case.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--async/--no-async", "no_wait", default=False, help="Nothing is waited for in any case.")
@click.pass_obj
def down_command(
    session: Session,
    pool_names: tuple[str, ...],
    everything: bool,
    drain: bool,
    purge: bool,
    yes: bool,
    no_wait: bool,
) -> None:
    """Delete pools: their jobs are cancelled (SIGTERM, half a minute), or end first with --drain; then their
    workers go."""
    if bool(pool_names) == everything:
        raise click.UsageError("Give pools or --all, and only one of them.")
    client = session.client()
    names = [pool["name"] for pool in client.pools()] if everything else [_checked(one) for one in pool_names]
    if not names:
        session.note("There is no pool.")
        return
    jobs = 0
    for name in names:
        pool = client.pool(name)
        jobs += pool["waiting"] + pool["running"]
    fate = "let end" if drain else "cancelled"
    session.confirm(
        f"Delete {plural(len(names), 'pool')} ({', '.join(names)})? {plural(jobs, 'job')} will be {fate}.",
        yes=yes,
    )
    for name in names:
        client.pool_down(name, drain=drain)
        session.note(f"Pool {name} goes down; {plural(jobs, 'job')} {'end first' if drain else 'cancelled'}.")


@pool_command.command("logs", short_help="Show or save the logs of workers' setup.")
@click.argument("pool_name")
@click.argument("worker_ids", nargs=-1, type=click.IntRange(min=1))
@click.option("--follow/--no-follow", default=True, help="Stay until the setup has ended (the default).")
@click.option(
    "--tail", type=click.IntRange(min=0), default=0, metavar="LINES", help="The last lines; 0 is all."
)
@click.option("-s", "--sync-down", is_flag=True, help="Save each below stix-logs/pool-NAME.")
@click.pass_obj
def logs_command(
    session: Session,
    pool_name: str,
    worker_ids: tuple[int, ...],
    follow: bool,
    tail: int,
    sync_down: bool,
) -> None:
    """Show how workers were set up, one after the other; of all that are there without WORKER_IDS. Of workers
    that are gone, those of the last twenty are kept."""
    client = session.client()
    pool = client.pool(_checked(pool_name))
    numbers = worker_ids or tuple(worker["number"] for worker in pool["workers"])
    if not numbers:
        session.note(f"Pool {pool_name} has no workers now.")
    for number in numbers:
        if sync_down:
            session.say(str(_save(client, pool_name, number)))
            continue
        if len(numbers) > 1:
            session.note(f"-- worker {number}")
        try:
            print_log(WorkerLogReader(client, pool_name, number), follow=follow, tail=tail)
        except KeyboardInterrupt:
            session.note(f"\nDetached. Come back: stix jobs pool logs {pool_name} {number}")
            raise click.exceptions.Exit(_INTERRUPTED) from None


def _save(client: Client, name: str, number: int) -> Path:
    from stix.sdk.log_download import FileSink

    folder = Path("stix-logs", f"pool-{name}", f"worker-{number}")
    try:
        with WorkerLogReader(client, name, number) as reader, FileSink(folder) as sink:
            reader.copy(sink, follow=False)
            sink.flush()
    except OSError as exc:
        raise click.UsageError(f"--sync-down: {folder} cannot be written: {exc.strerror}.") from exc
    return folder
