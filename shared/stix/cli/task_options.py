"""The flags that describe a task, the same for every command that takes one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from stix.model.task import Task

__all__ = [
    "RESOURCE_FLAGS",
    "autostop_flags",
    "autostop_options",
    "read_task",
    "task_file",
    "task_options",
    "with_flags",
]

Command = Callable[..., Any]
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
RESOURCE_FLAGS = (
    "infra",
    "cloud",
    "region",
    "zone",
    "cpus",
    "memory",
    "gpus",
    "instance_type",
    "use_spot",
    "disk_size",
    "disk_tier",
    "local_disk",
    "network_tier",
    "image_id",
    "max_hourly_cost",
)

_OPTIONS = [
    click.option("-n", "--name", metavar="NAME", help="Name of the task."),
    click.option("--workdir", metavar="DIR", help="Folder that is copied to every node."),
    click.option("--git-url", metavar="URL", help="Git repository that is the workdir."),
    click.option("--git-ref", metavar="REF", help="Its branch, tag or commit."),
    click.option(
        "--infra", metavar="CLOUD[/REGION[/ZONE]]", help="Where to run, such as local or aws/us-east-1."
    ),
    click.option("--cloud", hidden=True),
    click.option("--region", hidden=True),
    click.option("--zone", hidden=True),
    click.option("--num-nodes", type=int, metavar="N", help="Number of nodes."),
    click.option("--cpus", metavar="N[+]", help="vCPUs of each node; 4+ means 4 or more."),
    click.option("--memory", metavar="GiB[+]", help="Memory of each node; 16+ means 16 GiB or more."),
    click.option("--gpus", metavar="NAME[:COUNT]", help="Accelerators of each node, such as L4 or A100:8."),
    click.option("-t", "--instance-type", metavar="TYPE", help="The cloud's name of a machine type."),
    click.option("--use-spot/--no-use-spot", default=None, help="Use spot machines."),
    click.option("--disk-size", metavar="GB", help="Size of each node's disk, such as 100 or 1TB."),
    click.option("--disk-tier", metavar="TIER", help="low, medium, high, ultra, best or none."),
    click.option("--local-disk", metavar="KIND[:GB[+]]", help="Instance storage, such as nvme:1000+."),
    click.option("--network-tier", metavar="TIER", help="standard or best."),
    click.option("--image-id", metavar="IMAGE", help="Image of the machines, or docker:IMAGE."),
    click.option("--max-hourly-cost", type=float, metavar="USD", help="Most that one node may cost an hour."),
    click.option("--ports", multiple=True, metavar="PORT[-PORT]", help="Port to open; may be repeated."),
    click.option(
        "--env", multiple=True, metavar="NAME[=VALUE]", help="Variable; without a value, yours is taken."
    ),
    click.option("--env-file", multiple=True, metavar="FILE", help="File of NAME=VALUE lines."),
    click.option(
        "--secret", multiple=True, metavar="NAME[=VALUE]", help="As --env, but never shown or logged."
    ),
    click.option("--secret-file", multiple=True, metavar="FILE", help="As --env-file, for secrets."),
]

_AUTOSTOP_OPTIONS = [
    click.option(
        "-i", "--idle-minutes-to-autostop", type=int, metavar="MINUTES", help="Stop once idle for so long."
    ),
    click.option(
        "--wait-for",
        type=click.Choice(["jobs_and_ssh", "jobs", "none"]),
        help="What keeps a cluster from being idle.",
    ),
    click.option(
        "--down", is_flag=True, help="Delete instead of stopping; alone: as soon as all jobs have ended."
    ),
]


def _all(options: Sequence[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


task_options = _all(_OPTIONS)
autostop_options = _all(_AUTOSTOP_OPTIONS)


def read_task(entrypoint: Sequence[str], flags: Mapping[str, Any], environ: Mapping[str, str]) -> Task:
    """The task of a YAML file or an inline command (or neither: an empty one), with the flags applied. Raises
    ``TaskError``, ``click.UsageError``."""
    from stix.model.task import Task

    path = task_file(entrypoint)
    if path is not None:
        task = Task.from_yaml(path)
    elif entrypoint:
        # Joined by spaces, as ssh does: quote the whole command to keep your shell from reading it.
        task = Task.from_command(" ".join(entrypoint))
    else:
        task = Task()
    return with_flags(task, flags, environ)


def task_file(entrypoint: Sequence[str]) -> Path | None:
    """The file that an entrypoint names; None for a command, or nothing. Raises ``click.UsageError``."""
    if len(entrypoint) > 1 and _is_file(entrypoint[:1]):
        raise click.UsageError(f"Give a task file ({entrypoint[0]}) or a command, not both.")
    return Path(entrypoint[0]).expanduser() if _is_file(entrypoint) else None


def with_flags(task: Task, flags: Mapping[str, Any], environ: Mapping[str, str]) -> Task:
    """The task with what the flags say. Raises ``TaskError``, ``click.UsageError``."""
    resources = {field: flags[field] for field in RESOURCE_FLAGS}
    if flags["ports"]:
        resources["ports"] = list(flags["ports"])
    task = task.with_overrides(
        name=flags["name"], workdir=_workdir(flags, task), num_nodes=flags["num_nodes"], resources=resources
    )
    envs = _variables("--env", flags["env"], "--env-file", flags["env_file"], environ)
    secrets = _variables("--secret", flags["secret"], "--secret-file", flags["secret_file"], environ)
    return task.with_envs(envs, secrets=secrets)


def _workdir(flags: Mapping[str, Any], task: Task) -> Any:
    """The folder or git repository of the flags; ``--git-ref`` alone is another ref of the task's own."""
    url, ref = flags["git_url"], flags["git_ref"]
    if url is None and ref is None:
        return flags["workdir"]
    if flags["workdir"] is not None:
        raise click.UsageError("--workdir and --git-url cannot both be given.")
    url = url or getattr(task.workdir, "url", None)
    if url is None:
        raise click.UsageError("--git-ref needs --git-url, or a task whose workdir is a git repository.")
    return {"url": url, "ref": ref}


def _is_file(entrypoint: Sequence[str]) -> bool:
    """A single word ending in .yaml, there or not: a mistyped file name must not run as a command."""
    if len(entrypoint) != 1 or not entrypoint[0].lower().endswith((".yaml", ".yml")):
        return False
    return not re.search(r"\s", entrypoint[0]) or Path(entrypoint[0]).is_file()


def _variables(
    flag: str, pairs: Sequence[str], file_flag: str, files: Sequence[str], environ: Mapping[str, str]
) -> dict[str, str]:
    values: dict[str, str] = {}
    for file in files:
        values |= _variables_in_file(file_flag, file)
    for pair in pairs:
        name, given, value = pair.partition("=")
        if not _NAME.fullmatch(name):
            raise click.UsageError(f"{flag}: {name!r} is not a variable's name. Write {flag} NAME=VALUE.")
        if not given:
            if name not in environ:
                raise click.UsageError(
                    f"{flag} {name}: {name} is not set here. Write {flag} {name}=VALUE, or export it first."
                )
            value = environ[name]
        values[name] = value
    return values


def _variables_in_file(flag: str, file: str) -> dict[str, str]:
    try:
        lines = Path(file).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8 text"
        raise click.UsageError(f"{flag} {file}: it cannot be read: {reason}.") from exc
    values = {}
    for number, line in enumerate(lines, 1):
        line = line.strip().removeprefix("export ").lstrip()
        if not line or line.startswith("#"):
            continue
        name, given, value = line.partition("=")
        name = name.strip()
        if not given or not _NAME.fullmatch(name):
            # The line itself is not shown: it may hold a secret.
            raise click.UsageError(f"{flag} {file}: line {number} is not NAME=VALUE.")
        values[name] = _unquoted(value.strip())
    return values


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        inner = value[1:-1]
        return inner if value[0] == "'" else inner.replace("\\n", "\n").replace('\\"', '"')
    return value.split(" #", 1)[0].rstrip()


def autostop_flags(
    minutes: int | None, down: bool, wait_for: str | None, task: Task | None = None
) -> dict[str, Any] | None:
    """The request's ``autostop``: the flags over the task's own setting; None where no flag was given."""
    if minutes is None and not down and wait_for is None:
        return None
    own = task.resources.autostop if task is not None else None
    if minutes is None:
        if own is not None:
            minutes = own.idle_minutes
        elif down:
            minutes = 0
        else:
            raise click.UsageError(
                "--wait-for needs -i MINUTES or --down: it says when a cluster counts as idle."
            )
    return {
        "idle_minutes": None if minutes < 0 else minutes,
        "down": down or (own is not None and own.down),
        "wait_for": wait_for or (own.wait_for if own is not None else "jobs_and_ssh"),
    }
