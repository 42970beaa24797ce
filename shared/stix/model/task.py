"""The task: what to run, with what, on which machines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    SecretStr,
    ValidationError,
    model_validator,
)

from stix.model.errors import TaskError
from stix.model.fields import RESOURCES, TASK
from stix.model.problems import Problem, problems_in, refuse_all, task_error
from stix.model.resources import Resources
from stix.model.task_fields import (
    parse_envs,
    parse_file_mounts,
    parse_name,
    parse_num_nodes,
    parse_script,
    parse_secrets,
    parse_workdir,
    substitute,
)
from stix.model.yaml_source import Document, dump_yaml, read_document, read_task_file

__all__ = ["Task"]

_VERBATIM = frozenset({("envs",), ("secrets",), ("resources", "labels")})
_FLAGS = {
    "name": "--name",
    "workdir": "--workdir",
    "num_nodes": "--num-nodes",
    "infra": "--infra",
    "cloud": "--cloud",
    "region": "--region",
    "zone": "--zone",
    "instance_type": "--instance-type",
    "cpus": "--cpus",
    "memory": "--memory",
    "accelerators": "--gpus",
    "gpus": "--gpus",
    "use_spot": "--use-spot",
    "ports": "--ports",
    "autostop": "--idle-minutes-to-autostop",
    "envs": "--env",
    "secrets": "--secret",
}


class Task(BaseModel):
    """One task, checked. Equal tasks have equal ``digest()``; nothing here touches the file system but
    ``from_yaml``.

    The constructor takes every form that the task YAML takes and raises ``pydantic.ValidationError``; the
    ``from_...`` and ``with_...`` methods raise ``TaskError``, all problems in one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[str | None, BeforeValidator(parse_name)] = None
    workdir: Annotated[str | None, BeforeValidator(parse_workdir)] = None
    num_nodes: Annotated[int, BeforeValidator(parse_num_nodes)] = 1
    resources: Resources = Field(default_factory=Resources)
    envs: Annotated[dict[str, str | None], BeforeValidator(parse_envs)] = {}
    secrets: Annotated[dict[str, SecretStr | None], BeforeValidator(parse_secrets)] = {}
    file_mounts: Annotated[dict[str, str], BeforeValidator(parse_file_mounts)] = {}
    setup: Annotated[str | None, BeforeValidator(parse_script)] = None
    run: Annotated[str | None, BeforeValidator(parse_script)] = None

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, data: Any, handler: ModelWrapValidatorHandler[Task]) -> Task:
        return data if isinstance(data, Task) else TASK.read(data, handler)

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Task:
        both = [name for name in self.secrets if name in self.envs]
        if both:
            text = "the name is in envs and in secrets."
            raise refuse_all(Problem(("secrets", name), text, "Keep it in one of them.") for name in both)
        return self

    @classmethod
    def from_yaml(cls, path: str | Path) -> Task:
        """Read a task file. Raises ``TaskError``."""
        return cls.from_yaml_text(read_task_file(path), source=str(path))

    @classmethod
    def from_yaml_text(cls, text: str, *, source: str = "") -> Task:
        """``source`` is how errors call the text, usually its file's name. Raises ``TaskError``."""
        return cls._from_document(read_document(text, source=source, verbatim=_VERBATIM))

    @classmethod
    def from_yaml_config(cls, config: Mapping[str, Any]) -> Task:
        """From plain values, as ``yaml.safe_load`` or ``to_yaml_config`` give them. Raises ``TaskError``."""
        return cls._from_document(Document(dict(config)))

    @classmethod
    def from_command(cls, command: str) -> Task:
        """A task that only runs ``command``. Raises ``TaskError``."""
        if not command.strip():
            raise TaskError("The command is empty.", hint="Give a command, or a task file.")
        return cls.from_yaml_config({"run": command})

    @classmethod
    def _from_document(cls, document: Document) -> Task:
        problems = list(document.problems)
        try:
            task = cls.model_validate(document.config)
        except ValidationError as error:
            problems += problems_in(error)
        if problems:
            raise task_error(problems, source=document.source, line_of=document.line_of)
        return task

    def to_yaml_config(self, *, reveal_secrets: bool = False) -> dict[str, Any]:
        """Plain values in canonical forms, only what was given. ``from_yaml_config`` of them is equal to this
        task; without ``reveal_secrets`` the values of secrets are null, to be given again."""
        config: dict[str, Any] = {}
        if self.name:
            config["name"] = self.name
        if self.workdir:
            config["workdir"] = self.workdir
        if self.num_nodes != 1:
            config["num_nodes"] = self.num_nodes
        if resources := self.resources.to_config():
            config["resources"] = resources
        if self.envs:
            config["envs"] = dict(self.envs)
        if self.secrets:
            config["secrets"] = {
                name: value.get_secret_value() if value is not None and reveal_secrets else None
                for name, value in self.secrets.items()
            }
        if self.file_mounts:
            config["file_mounts"] = dict(self.file_mounts)
        if self.setup is not None:
            config["setup"] = self.setup
        if self.run is not None:
            config["run"] = self.run
        return config

    def to_yaml_text(self, *, reveal_secrets: bool = False) -> str:
        """``to_yaml_config`` as YAML text."""
        return dump_yaml(self.to_yaml_config(reveal_secrets=reveal_secrets))

    def secret_values(self) -> dict[str, str]:
        """The secrets that have a value, in the clear."""
        return {name: value.get_secret_value() for name, value in self.secrets.items() if value is not None}

    def with_envs(
        self, envs: Mapping[str, str] | None = None, *, secrets: Mapping[str, str] | None = None
    ) -> Task:
        """The task as it will run: overrides merged, and envs filled into ``workdir`` and ``file_mounts``.

        Call it once before a launch, with or without overrides. Raises ``TaskError`` naming every variable
        that has no value yet.
        """
        task = self._replaced(
            {"envs": {**self.envs, **(envs or {})}, "secrets": {**self.secrets, **(secrets or {})}},
            flags=_FLAGS,
        )
        missing = [
            Problem((section, name), "has no value.", f"Give it: {_FLAGS[section]} {name}=VALUE.")
            for section, values in (("envs", task.envs), ("secrets", task.secrets))
            for name, value in values.items()
            if value is None
        ]
        if missing:
            raise task_error(missing)
        filled: dict[str, Any] = {}
        if task.workdir:
            filled["workdir"] = substitute(task.workdir, task.envs)
        if task.file_mounts:
            filled["file_mounts"] = {
                substitute(target, task.envs): substitute(source, task.envs)
                for target, source in task.file_mounts.items()
            }
        return task._replaced(filled, flags={}) if filled else task

    def with_overrides(
        self,
        *,
        name: str | None = None,
        workdir: str | None = None,
        num_nodes: int | None = None,
        resources: Mapping[str, Any] | None = None,
    ) -> Task:
        """A copy with what the command line gave; None leaves the task's own value. ``resources`` takes the
        field names and forms of the task YAML. Raises ``TaskError`` naming the flag."""
        changes: dict[str, Any] = {"name": name, "workdir": workdir, "num_nodes": num_nodes}
        changes = {field: value for field, value in changes.items() if value is not None}
        given = {field: value for field, value in (resources or {}).items() if value is not None}
        if given:
            replaced = {RESOURCES.aliases.get(field, field) for field in given}
            if replaced & {"cloud", "region", "zone"}:
                replaced.add("infra")
            kept = {field: value for field, value in dict(self.resources).items() if field not in replaced}
            changes["resources"] = {**kept, **given}
        return self._replaced(changes, flags=_FLAGS) if changes else self

    def _replaced(self, changes: Mapping[str, Any], *, flags: Mapping[str, str]) -> Task:
        try:
            return type(self).model_validate({**dict(self), **changes})
        except ValidationError as error:
            problems = problems_in(error)
        raise task_error(problems, flags=flags)

    def digest(self) -> str:
        """SHA-256 (hex) of what the task means: the order of its fields and how values were spelled do not
        count. Secrets enter by a hash of their values."""
        config = self.to_yaml_config()
        if self.secrets:
            values = self.secret_values()
            config["secrets"] = {
                name: hashlib.sha256(f"{name}={values[name]}".encode()).hexdigest()
                if name in values
                else None
                for name in self.secrets
            }
        canonical = json.dumps(config, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()
