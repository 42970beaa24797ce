"""Parsers of the task's own fields: texts, environment, and what its plan depends on."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from stix.model.names import ENV_NAME, MAX_NAME, TASK_NAME
from stix.model.problems import Problem, refuse, refuse_all, shown
from stix.model.quantities import parse_transfer
from stix.model.shapes import choice, each, flag, named, number, text

__all__ = [
    "MOST_NODES",
    "MOST_SCRIPT_BYTES",
    "env_name_problem",
    "env_text",
    "parse_api_server_access",
    "parse_data",
    "parse_depends_on",
    "parse_envs",
    "parse_event_callback",
    "parse_max_cost",
    "parse_name",
    "parse_num_nodes",
    "parse_objective",
    "parse_script",
    "substitute",
    "substitute_all",
    "text_problem",
]

MOST_SCRIPT_BYTES = 128 * 1024
"""Of ``setup`` and of ``run``, and of one variable's value: Linux takes no longer argument or variable."""
MOST_NODES = 10_000

_REFERENCE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))", re.ASCII)


def text_problem(value: str) -> str:
    """What keeps a text from being an argument or a variable, to follow its name; empty for nothing."""
    if "\0" in value:
        return "holds a NUL character."
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        return "holds a character that is not valid Unicode."
    return f"is {size} bytes long; at most {MOST_SCRIPT_BYTES} fit." if size > MOST_SCRIPT_BYTES else ""


def parse_name(value: Any) -> str | None:
    if value is None or (isinstance(value, str) and len(value) <= MAX_NAME and TASK_NAME.fullmatch(value)):
        return value
    hint = f"Use letters, digits, and . _ - between them, at most {MAX_NAME} characters, as text."
    raise refuse(f"{shown(value)} is not a name.", hint, value=value)


def parse_num_nodes(value: Any) -> int:
    if value is None:
        return 1
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_NODES:
        return value
    hint = f"Write a whole number from 1 to {MOST_NODES}, without quotes."
    raise refuse(f"{shown(value)} is not a number of nodes.", hint, value=value)


def parse_script(value: Any) -> str | None:
    """``setup`` or ``run``; text that is empty or blank is as good as none."""
    if value is None:
        return None
    if not isinstance(value, str):
        hint = "Write the commands as text after |, one a line."
        raise refuse(f"{shown(value)} is not a script.", hint, value=value)
    problem = text_problem(value)
    if problem:
        raise refuse(f"the script {problem}", "Put a longer script in a file of the workdir and call it.")
    return value if value.strip() else None


def env_name_problem(key: Any) -> Problem | None:
    if isinstance(key, str) and ENV_NAME.fullmatch(key):
        return None
    hint = "Use letters, digits and _, not beginning with a digit."
    return Problem((key if isinstance(key, str) else shown(key),), "not the name of a variable.", hint)


def parse_envs(value: Any) -> dict[str, str | None]:
    """Names to text; numbers and booleans become text, null stays: its value must come with the launch."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise refuse(f"{shown(value)} is not a mapping.", "Write envs as NAME: text.", value=value)
    envs: dict[str, str | None] = {}
    problems = []
    for key, given in value.items():
        problem = env_name_problem(key)
        text = env_text(given)
        if problem is None and given is not None and text is None:
            problem = Problem(
                (key,), f"{shown(given)} is not text.", "Write one value, quoted.", shown(given)
            )
        elif problem is None and text is not None and (wrong := text_problem(text)):
            problem = Problem((key,), f"the value {wrong}", "Put it in a file of the workdir.")
        if problem:
            problems.append(problem)
        else:
            envs[key] = text
    if problems:
        raise refuse_all(problems)
    return envs


def env_text(given: Any) -> str | None:
    """The text of one value, None where it is not one."""
    if isinstance(given, str):
        return given
    if isinstance(given, bool):
        return str(given).lower()
    if isinstance(given, int) or (isinstance(given, float) and math.isfinite(given)):
        return shown(given)
    return None


def substitute(text: str, envs: Mapping[str, str | None]) -> str:
    """``text`` with ``$NAME`` and ``${NAME}`` of ``envs`` filled in; other names stay as they are."""

    def fill(found: re.Match[str]) -> str:
        given = envs.get(found[1] or found[2])
        return found[0] if given is None else given

    return _REFERENCE.sub(fill, text)


def substitute_all(config: Any, envs: Mapping[str, str | None]) -> Any:
    """``substitute`` in every text of plain values, names of mappings included."""
    if isinstance(config, str):
        return substitute(config, envs)
    if isinstance(config, Mapping):
        return {substitute(name, envs): substitute_all(value, envs) for name, value in config.items()}
    if isinstance(config, list):
        return [substitute_all(value, envs) for value in config]
    return config


_data_at_uri = named(parse_transfer, "URI: GB", most=1)
_cost = number(above=True, unit="USD")
_objective = choice("an objective", ("cost", "time", "balanced"))
_event_callback = text("a command", longest=MOST_SCRIPT_BYTES)


def parse_data(value: Any) -> dict[str, float]:
    """``{URI: GB}``, one entry: where the data is and how much of it."""
    return {} if value is None else _data_at_uri(value)


def parse_max_cost(value: Any) -> float | None:
    """USD for the whole run."""
    return None if value is None else _cost(value)


def parse_objective(value: Any) -> str:
    return "cost" if value is None else _objective(value)


def parse_event_callback(value: Any) -> str | None:
    return None if value is None else _event_callback(value)


def parse_api_server_access(value: Any) -> bool:
    return True if value is None else flag(value)


def parse_depends_on(value: Any) -> dict[str, float | None]:
    """Names of tasks of the same file to the GB that come from each, None where that is not said:
    ``prepare``, ``[prepare, fetch]``, ``{prepare: 50GB}``."""
    if value is None:
        return {}
    if isinstance(value, str):
        value = [value]
    if isinstance(value, (list, tuple)):
        return dict.fromkeys(_task_names(value))
    sizes: dict[str, float | None] = _dependencies(value)
    return sizes


def _task_name(value: Any) -> str:
    name = parse_name(value)
    if name is None:
        raise refuse("null is not a name.", "Write the name of a task of this file.")
    return name


_task_names = each(_task_name, "names of tasks")
_dependencies = named(lambda size: None if size is None else parse_transfer(size), "task: GB", key=_task_name)
