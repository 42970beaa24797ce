"""The container image of a task: which one, with which options, and by whose leave."""

from __future__ import annotations

import shlex
from typing import Any

from stix.model.problems import Problem, shown
from stix.model.task import Task

__all__ = ["LOGIN", "container_image", "container_problems", "machine_image", "run_options"]

DOCKER = "docker:"
LOGIN = tuple(f"SKYPILOT_DOCKER_{name}" for name in ("USERNAME", "PASSWORD", "SERVER"))
"""SkyPilot's names for what a private registry asks for."""

_OURS = {
    "--name": "the node finds its container by it",
    "--rm": "the container stays for the next job",
    "--detach": "the node holds its container",
    "--entrypoint": "the node starts what it needs",
    "--interactive": "the node holds its container by its input",
    "--tty": "the output of jobs has no terminal",
    "--user": "setup and run are executed as the image's own user",
    "--workdir": "setup and run begin in the work directory",
    "--pid": "jobs are found and ended by the container's own process numbers",
}
_SHORT = {"-d": "--detach", "-i": "--interactive", "-t": "--tty", "-u": "--user", "-w": "--workdir"}
_SHORT |= {"-it": "--tty", "-ti": "--tty", "-dit": "--tty", "-itd": "--tty"}


def container_image(image_id: str | dict[str, str] | None, region: str) -> str:
    """The image that jobs run in on a machine of that region, without ``docker:``; empty for none."""
    if isinstance(image_id, dict):
        here = image_id.get(region, "")
        image_id = here if here.startswith(DOCKER) else image_id.get("docker", "")
        return image_id.removeprefix(DOCKER)
    return image_id.removeprefix(DOCKER) if image_id and image_id.startswith(DOCKER) else ""


def machine_image(image_id: str | dict[str, str] | None, region: str) -> str:
    """What the provider is asked for: its own image for the region, else ``docker:NAME``, else empty."""
    if isinstance(image_id, dict):
        container = container_image(image_id, region)
        return image_id.get(region, "") or (f"{DOCKER}{container}" if container else "")
    return image_id or ""


def run_options(task: Task) -> list[str]:
    """``config.docker.run_options``: each is one word of the engine's command line, or several."""
    given: Any = (task.config.get("docker") or {}).get("run_options") or []
    return [given] if isinstance(given, str) else list(given)


def container_problems(task: Task) -> list[Problem]:
    """What cannot work, before anything is made for it."""
    return [*_option_problems(task), *_option_images(task), *_login_problems(task)]


def _option_problems(task: Task) -> list[Problem]:
    problems = []
    path = ("config", "docker", "run_options")
    for text in run_options(task):
        try:
            words = shlex.split(text)
        except ValueError as exc:
            problem = Problem(path, f"{shown(text)} cannot be read: {exc}.", "Close the quotes.", shown(text))
            problems.append(problem)
            continue
        for word in words:
            name = word.partition("=")[0]
            name = _SHORT.get(name, name)
            if name in _OURS:
                hint = f"Remove it: {_OURS[name]}."
                problems.append(Problem(path, f"{shown(word)} cannot be set.", hint, shown(word)))
    return problems


def _option_images(task: Task) -> list[Problem]:
    """One image for the cluster, whichever option it is made by."""
    resources = task.resources
    return [
        Problem(
            ("resources", kind, index, "image_id"),
            "an image for one option alone is not supported yet.",
            "Write image_id around the options: one image, or one for each region.",
        )
        for kind in ("any_of", "ordered")
        for index, option in enumerate(getattr(resources, kind))
        if option.image_id is not None and option.image_id != resources.image_id
    ]


def _login_problems(task: Task) -> list[Problem]:
    given = [name for name in LOGIN if task.envs.get(name) or name in task.secrets]
    if not given or len(given) == len(LOGIN):
        return []
    absent = [name for name in LOGIN if name not in given]
    text = f"{', '.join(given)} needs {' and '.join(absent)} as well."
    hint = "A private registry asks for all three; docker.io is the server of Docker Hub."
    return [Problem(("secrets" if given[0] in task.secrets else "envs", given[0]), text, hint)]
