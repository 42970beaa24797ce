"""The secrets of a task: values, and references to those that the installation keeps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic import SecretStr

from stix.model.names import ENV_NAME
from stix.model.problems import Problem, refuse, refuse_all
from stix.model.shapes import each, mapping, text
from stix.model.task_fields import env_name_problem, env_text, text_problem

__all__ = ["ManagedSecret", "Secret", "SecretReference", "parse_managed_secrets", "parse_secrets"]

_REFERENCE_PREFIX = "secrets:"
_MANAGED_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./:-]{0,252}", re.ASCII)


@dataclass(frozen=True, slots=True)
class SecretReference:
    """A secret that the installation keeps, by its name: ``secrets:NAME`` in the task YAML."""

    name: str

    def __str__(self) -> str:
        return _REFERENCE_PREFIX + self.name

    def to_config(self) -> str:
        return str(self)


Secret: TypeAlias = SecretStr | SecretReference | None


def parse_secrets(value: Any) -> dict[str, Secret]:
    """As ``envs``, but no error repeats a value. ``secrets:NAME`` refers to a secret that is kept already; a
    list of such references gives each its own name as a variable."""
    if value is None:
        return {}
    if isinstance(value, (list, tuple)):
        return _listed_secrets(value)
    if not isinstance(value, Mapping):
        raise refuse("the secrets are not a mapping.", "Write secrets as NAME: text, or NAME: null.")
    secrets: dict[str, Secret] = {}
    problems = []
    for key, given in value.items():
        problem = env_name_problem(key)
        if problem is None:
            secrets[key], problem = _secret(key, given)
        if problem:
            problems.append(problem)
    if problems:
        raise refuse_all(problems)
    return secrets


def _secret(key: str, given: Any) -> tuple[Secret, Problem | None]:
    if given is None or isinstance(given, SecretReference):
        return given, None
    value = given.get_secret_value() if isinstance(given, SecretStr) else env_text(given)
    if value is None:
        return None, Problem((key,), "the value is not text.", "Write one value, quoted.")
    if wrong := text_problem(value):
        return None, Problem((key,), f"the value {wrong}", "Shorten it.")
    if not value.startswith(_REFERENCE_PREFIX):
        return SecretStr(value), None
    name = value.removeprefix(_REFERENCE_PREFIX)
    if not _MANAGED_NAME.fullmatch(name):
        return None, Problem((key,), "the reference names no secret.", "Write secrets:NAME.")
    return SecretReference(name), None


def _listed_secrets(value: Any) -> dict[str, Secret]:
    secrets: dict[str, Secret] = {}
    problems = []
    for index, one in enumerate(value):
        name = one.removeprefix(_REFERENCE_PREFIX) if isinstance(one, str) else ""
        variable = name.rpartition("/")[2]
        if one == name or not _MANAGED_NAME.fullmatch(name) or not ENV_NAME.fullmatch(variable):
            hint = "Write secrets:NAME for a secret that is kept, or a mapping of NAME: text."
            problems.append(Problem((index,), "not a reference to a secret.", hint))
        else:
            secrets[variable] = SecretReference(name)
    if problems:
        raise refuse_all(problems)
    return secrets


@dataclass(frozen=True, slots=True)
class ManagedSecret:
    """A kept secret that the task gets: as a variable of its name, or as a file at ``mount_path``."""

    name: str
    mount_path: str | None = None

    def to_config(self) -> str | dict[str, Any]:
        return self.name if self.mount_path is None else {self.name: {"mount_path": self.mount_path}}


_MANAGED = mapping("a managed secret", {"mount_path": text("a path on the machine")})


def _managed_secret(value: Any) -> ManagedSecret:
    if isinstance(value, ManagedSecret):
        return value
    options: Any = None
    if isinstance(value, Mapping) and len(value) == 1:
        value, options = next(iter(value.items()))
    if not isinstance(value, str) or not _MANAGED_NAME.fullmatch(value):
        hint = "Write its name, or NAME: {mount_path: /path}."
        raise refuse("not the name of a managed secret.", hint)
    return ManagedSecret(value) if options is None else ManagedSecret(value, **_MANAGED(options))


_managed_secrets = each(_managed_secret, "names of secrets", most=100)


def parse_managed_secrets(value: Any) -> tuple[ManagedSecret, ...]:
    """Names, perhaps with a scope in front, or ``NAME: {mount_path: ...}``."""
    return () if value is None else _managed_secrets(value)
