"""What a task asks for that cannot be run yet. The one place that says so."""

from __future__ import annotations

from stix.model.container import container_problems
from stix.model.mounts import GitWorkdir
from stix.model.problems import Problem, task_error
from stix.model.storage import is_url
from stix.model.task import Task
from stix.model.task_secrets import SecretReference

__all__ = ["check_replaced_whole", "check_runnable", "unsupported"]

_JOBS = "jobs launch"
_TEXT = "not supported by `launch` yet."

# Fields of the task and of its resources that change what runs, or what it may cost. What only informs a plan
# (estimated_duration, inputs, outputs) or only concerns managed jobs (job_recovery, priority, event_callback,
# api_server_access) is not here: a launch does what was asked without it.
_TASK = {
    "service": "Remove it to run the task once.",
    "pool": "`stix jobs pool apply` makes such a pool; remove it to run the task once.",
    "depends_on": "Launch the tasks one after the other.",
    "deadline": "Remove it.",
    "max_duration": "Remove it; `timeout` in run: bounds a command.",
    "managed_secrets": "Pass the values with --secret.",
    "volumes": "Remove it.",
    "volume_mounts": "Remove it.",
}
# What managed jobs do beyond a launch.
_OF_JOBS = frozenset({"depends_on", "deadline"})
_RESOURCES = {
    "accelerator_args": "Remove it.",
    "local_disk": "Remove it.",
    "network_tier": "Remove it.",
    "volumes": "Remove it.",
    "cluster_config_overrides": "Remove it.",
}


def unsupported(task: Task, *, managed: bool = False, verb: str = _JOBS) -> list[Problem]:
    """One problem a field; empty for a task that can be launched, or run as a managed job. ``verb``: what
    ``managed`` is for."""
    said = f"not supported by `{verb}` yet." if managed else _TEXT
    problems = [
        Problem((name,), said, hint)
        for name, hint in _TASK.items()
        if getattr(task, name) and not (managed and name in _OF_JOBS)
    ]
    if managed and verb != _JOBS:
        problems += _replaced_whole(task, verb)
    if managed and not task.run:
        problems.append(Problem(("run",), f"`{verb}` needs something to run.", "Add run:."))
    settings = [(name, value) for name, value in task.config.items() if name != "docker" and value]
    problems += [Problem(("config", name), said, "Remove it.") for name, _ in settings]
    if task.optimize != "cost":
        problems.append(Problem(("optimize",), f'"{task.optimize}" is {said}', "Remove it."))
    if isinstance(task.workdir, GitWorkdir):
        problems.append(Problem(("workdir",), f"a git repository is {said}", "Clone it in setup."))
    for name, secret in task.secrets.items():
        if isinstance(secret, SecretReference):
            text = f"a reference to a managed secret is {said}"
            problems.append(Problem(("secrets", name), text, f"Pass the value with --secret {name}=VALUE."))
    for target, source in task.file_mounts.items():
        if not isinstance(source, str) or is_url(source):
            text = f"a bucket or URL is {said}"
            problems.append(
                Problem(("file_mounts", target), text, "Mount a local path, or fetch it in setup.")
            )
    return problems + [one.below("resources") for one in _unsupported_resources(task, said)]


def _replaced_whole(task: Task, verb: str) -> list[Problem]:
    recovery = task.resources.job_recovery
    if recovery is None or recovery.replace != "failed":
        return []
    said = f'"failed" is not supported by `{verb}`: what it runs on is replaced whole.'
    return [Problem(("resources", "job_recovery", "replace"), said, "Write all, or leave it out.")]


def check_replaced_whole(task: Task, verb: str) -> None:
    """Raises ``TaskError`` where only the lost machines of a gang were to be replaced."""
    problems = _replaced_whole(task, verb)
    if problems:
        raise task_error(problems)


def _unsupported_resources(task: Task, said: str) -> list[Problem]:
    resources = task.resources
    problems = [Problem((name,), said, hint) for name, hint in _RESOURCES.items() if getattr(resources, name)]
    if resources.accelerator is not None and not resources.accelerator.name:
        text = f"an accelerator by its memory is {said}"
        problems.append(Problem(("accelerators",), text, "Name one, such as A100-80GB."))
    if resources.autostop is not None and resources.autostop.hook is not None:
        problems.append(Problem(("autostop", "hook"), said, "Remove it."))
    return problems


def check_runnable(task: Task, *, managed: bool = False, verb: str = _JOBS) -> None:
    """Raises ``TaskError`` that names all that is not supported yet, and what cannot work in a container."""
    problems = unsupported(task, managed=managed, verb=verb) + container_problems(task)
    if problems:
        raise task_error(problems)
