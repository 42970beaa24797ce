"""Parsers of the task's own fields: texts, environment, secrets and file mounts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from stix.model.names import ENV_NAME, MAX_NAME, TASK_NAME
from stix.model.problems import Problem, refuse, refuse_all, shown

__all__ = [
    "MOST_NODES",
    "MOST_SCRIPT_BYTES",
    "parse_envs",
    "parse_file_mounts",
    "parse_name",
    "parse_num_nodes",
    "parse_script",
    "parse_secrets",
    "parse_workdir",
    "substitute",
]

MOST_SCRIPT_BYTES = 128 * 1024
"""Of ``setup`` and of ``run``, and of one variable's value: Linux takes no longer argument or variable."""
MOST_NODES = 10_000

_REFERENCE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))", re.ASCII)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def _text_problem(value: str) -> str:
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
    problem = _text_problem(value)
    if problem:
        raise refuse(f"the script {problem}", "Put a longer script in a file of the workdir and call it.")
    return value if value.strip() else None


def parse_workdir(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, Mapping) or (isinstance(value, str) and _URL.match(value)):
        hint = "Clone it in setup, or name a local folder."
        raise refuse("a workdir from a git repository is not supported yet.", hint, value=value)
    if not isinstance(value, str) or not value.strip() or _text_problem(value):
        raise refuse(f"{shown(value)} is not a folder.", "Write a local folder, such as .", value=value)
    return value


def _env_name_problem(key: Any) -> Problem | None:
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
        problem = _env_name_problem(key)
        text = _env_text(given)
        if problem is None and given is not None and text is None:
            problem = Problem(
                (key,), f"{shown(given)} is not text.", "Write one value, quoted.", shown(given)
            )
        elif problem is None and text is not None and (wrong := _text_problem(text)):
            problem = Problem((key,), f"the value {wrong}", "Put it in a file of the workdir.")
        if problem:
            problems.append(problem)
        else:
            envs[key] = text
    if problems:
        raise refuse_all(problems)
    return envs


def _env_text(given: Any) -> str | None:
    if isinstance(given, str):
        return given
    if isinstance(given, bool):
        return str(given).lower()
    if isinstance(given, int) or (isinstance(given, float) and math.isfinite(given)):
        return shown(given)
    return None


def parse_secrets(value: Any) -> dict[str, SecretStr | None]:
    """As ``envs``, but no error repeats a value."""
    if value is None:
        return {}
    if isinstance(value, (list, tuple)):
        raise refuse("references to managed secrets are not supported yet.", "Write secrets as NAME: null.")
    if not isinstance(value, Mapping):
        raise refuse("the secrets are not a mapping.", "Write secrets as NAME: text, or NAME: null.")
    secrets: dict[str, SecretStr | None] = {}
    problems = []
    for key, given in value.items():
        problem = _env_name_problem(key)
        text = given.get_secret_value() if isinstance(given, SecretStr) else _env_text(given)
        if problem is None and given is not None and text is None:
            problem = Problem((key,), "the value is not text.", "Write one value, quoted.")
        elif problem is None and text is not None and (wrong := _text_problem(text)):
            problem = Problem((key,), f"the value {wrong}", "Shorten it.")
        elif problem is None and text is not None and text.startswith("secrets:"):
            text = "references to managed secrets are not supported yet."
            problem = Problem((key,), text, "Write null and pass the value with --secret.")
        if problem:
            problems.append(problem)
        else:
            secrets[key] = None if text is None else SecretStr(text)
    if problems:
        raise refuse_all(problems)
    return secrets


def parse_file_mounts(value: Any) -> dict[str, str]:
    """Destination on the machine to a local file or folder."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        hint = "Write file_mounts as /path/on/the/machine: ./local/path."
        raise refuse(f"{shown(value)} is not a mapping.", hint, value=value)
    mounts: dict[str, str] = {}
    problems = []
    for target, source in value.items():
        at = (target if isinstance(target, str) else shown(target),)
        cleaned = target.strip().rstrip("/") if isinstance(target, str) else ""
        if cleaned in ("", "~", ".") or _text_problem(cleaned) or ".." in cleaned.split("/"):
            hint = "Write an absolute path, or one below ~/ or the workdir, without .. in it."
            problems.append(Problem(at, "not a place on the machine for a file.", hint))
        elif isinstance(source, Mapping) or (isinstance(source, str) and _URL.match(source)):
            hint = "Mount a local path, or fetch it in setup."
            problems.append(Problem(at, "buckets and URLs in file_mounts are not supported yet.", hint))
        elif not isinstance(source, str) or not source.strip() or _text_problem(source):
            text = f"{shown(source)} is not a local path."
            problems.append(Problem(at, text, "Write a file or folder of this machine.", shown(source)))
        else:
            mounts[target] = source
    if problems:
        raise refuse_all(problems)
    return mounts


def substitute(text: str, envs: Mapping[str, str | None]) -> str:
    """``text`` with ``$NAME`` and ``${NAME}`` of ``envs`` filled in; other names stay as they are."""

    def fill(found: re.Match[str]) -> str:
        given = envs.get(found[1] or found[2])
        return found[0] if given is None else given

    return _REFERENCE.sub(fill, text)
