"""The task: what to run, with what, on which machines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    SecretStr,
    ValidationError,
    model_serializer,
    model_validator,
)

from stix.model.current_dag import current_dag, join_current_dag
from stix.model.durations import (
    Deadline,
    DurationByAccelerator,
    Seconds,
    parse_deadline,
    parse_duration,
    parse_estimate,
)
from stix.model.errors import TaskError
from stix.model.fields import RESOURCES, TASK
from stix.model.mounts import (
    GitWorkdir,
    Volume,
    VolumeMount,
    parse_file_mounts,
    parse_volume_mounts,
    parse_volumes,
    parse_workdir,
)
from stix.model.plain import plain
from stix.model.problems import Problem, problems_in, refuse_all, task_error
from stix.model.resources import Resources
from stix.model.service import Pool, ServiceSpec, parse_pool, parse_service
from stix.model.shapes import ReadBy
from stix.model.storage import Storage, is_url
from stix.model.task_config import parse_config
from stix.model.task_fields import (
    parse_api_server_access,
    parse_data,
    parse_depends_on,
    parse_envs,
    parse_event_callback,
    parse_max_cost,
    parse_name,
    parse_num_nodes,
    parse_objective,
    parse_script,
    substitute_all,
)
from stix.model.task_secrets import ManagedSecret, Secret, parse_managed_secrets, parse_secrets
from stix.model.yaml_source import Document, dump_yaml, read_document, read_task_file

__all__ = ["VERBATIM", "Objective", "Task"]

Objective: TypeAlias = Literal["cost", "time", "balanced"]

VERBATIM = frozenset({("envs",), ("secrets",), ("resources", "labels")})
"""The mappings of the task YAML whose values stay as they were written."""

_DEFAULTS = {"num_nodes": 1, "optimize": "cost", "api_server_access": True}
_SUBSTITUTED = ("workdir", "file_mounts", "volumes", "service")
_FLAGS = {
    "name": "--name",
    "workdir": "--workdir",
    "url": "--git-url",
    "ref": "--git-ref",
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
    "disk_size": "--disk-size",
    "disk_tier": "--disk-tier",
    "local_disk": "--local-disk",
    "network_tier": "--network-tier",
    "image_id": "--image-id",
    "max_hourly_cost": "--max-hourly-cost",
    "ports": "--ports",
    "autostop": "--idle-minutes-to-autostop",
    "envs": "--env",
    "secrets": "--secret",
}


def _optional_duration(value: Any) -> Seconds | None:
    return None if value is None else parse_duration(value)


def _secret_config(secret: Secret, reveal: bool) -> str | None:
    if isinstance(secret, SecretStr):
        return secret.get_secret_value() if reveal else None
    return None if secret is None else str(secret)


def _pool_apart(data: Any) -> Any:
    """A pool that is written inside ``service``, as SkyPilot's own tools do, at its own place."""
    service = data.get("service") if isinstance(data, Mapping) else None
    if not isinstance(service, Mapping) or data.get("pool") is not None:
        return data
    if set(service) == {"pool"}:
        return {**data, "service": None, "pool": service["pool"]}
    return {**data, "service": None, "pool": service} if set(service) == {"workers"} else data


class Task(BaseModel):
    """One task, checked. Equal tasks have equal ``digest()``; nothing here touches the file system but
    ``from_yaml``.

    The constructor takes every form that the task YAML takes. All problems come in one ``TaskError``. A task
    that is made inside ``with Dag():`` belongs to it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[str | None, ReadBy(parse_name)] = None
    workdir: Annotated[str | GitWorkdir | None, ReadBy(parse_workdir)] = None
    num_nodes: Annotated[int, ReadBy(parse_num_nodes)] = 1
    resources: Resources = Field(default_factory=Resources)
    depends_on: Annotated[dict[str, float | None], ReadBy(parse_depends_on)] = {}
    estimated_duration: Annotated[Seconds | DurationByAccelerator | None, ReadBy(parse_estimate)] = None
    deadline: Annotated[Deadline | None, ReadBy(parse_deadline)] = None
    max_duration: Annotated[Seconds | None, ReadBy(_optional_duration)] = None
    max_cost: Annotated[float | None, ReadBy(parse_max_cost)] = None
    optimize: Annotated[Objective, ReadBy(parse_objective)] = "cost"
    envs: Annotated[dict[str, str | None], ReadBy(parse_envs)] = {}
    secrets: Annotated[dict[str, Secret], ReadBy(parse_secrets)] = {}
    managed_secrets: Annotated[tuple[ManagedSecret, ...], ReadBy(parse_managed_secrets)] = ()
    file_mounts: Annotated[dict[str, str | Storage], ReadBy(parse_file_mounts)] = {}
    volumes: Annotated[dict[str, Volume], ReadBy(parse_volumes)] = {}
    volume_mounts: Annotated[tuple[VolumeMount, ...], ReadBy(parse_volume_mounts)] = ()
    inputs: Annotated[dict[str, float], ReadBy(parse_data)] = {}
    outputs: Annotated[dict[str, float], ReadBy(parse_data)] = {}
    service: Annotated[ServiceSpec | None, ReadBy(parse_service)] = None
    pool: Annotated[Pool | None, ReadBy(parse_pool)] = None
    config: Annotated[dict[str, Any], ReadBy(parse_config)] = {}
    event_callback: Annotated[str | None, ReadBy(parse_event_callback)] = None
    api_server_access: Annotated[bool, ReadBy(parse_api_server_access)] = True
    setup: Annotated[str | None, ReadBy(parse_script)] = None
    run: Annotated[str | None, ReadBy(parse_script)] = None

    def __init__(self, name: str | None = None, **fields: Any) -> None:
        try:
            super().__init__(**fields, **({} if name is None else {"name": name}))
        except ValidationError as error:
            problems = problems_in(error)
        else:
            join_current_dag(self)
            return
        raise task_error(problems)

    # Without this mark pydantic would call the constructor for nested values too, and lose their paths.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, data: Any, handler: ModelWrapValidatorHandler[Task]) -> Task:
        return data if isinstance(data, Task) else TASK.read(_pool_apart(data), handler)

    @model_validator(mode="after")
    def _fits_together(self) -> Task:
        text = "the name is in envs and in secrets."
        problems = [
            Problem(("secrets", name), text, "Keep it in one of them.")
            for name in self.secrets
            if name in self.envs
        ]
        if self.service is not None and self.pool is not None:
            text = "a task is a service or a pool of workers, not both."
            problems.append(Problem(("pool",), text, "Write two tasks."))
        if problems:
            raise refuse_all(problems)
        return self

    def __rshift__(self, other: Task) -> Task:
        """``a >> b`` inside ``with Dag():`` ``b`` runs after ``a``. The value is ``b``, so that chains can be
        written in one line."""
        current_dag().add_edge(self, other)
        return other

    @classmethod
    def from_yaml(cls, path: str | Path) -> Task:
        """Read a task file. Raises ``TaskError``."""
        return cls.from_yaml_text(read_task_file(path), source=str(path))

    @classmethod
    def from_yaml_text(cls, text: str, *, source: str = "") -> Task:
        """``source`` is how errors call the text, usually its file's name. Raises ``TaskError``."""
        return cls._from_document(read_document(text, source=source, verbatim=VERBATIM))

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
    def from_document(cls, document: Document) -> tuple[Task | None, list[Problem]]:
        """The task of a document that has been read, or None, and the problems with it."""
        problems = list(document.problems)
        try:
            return cls.model_validate(document.config), problems
        except ValidationError as error:
            return None, problems + problems_in(error)

    @classmethod
    def _from_document(cls, document: Document) -> Task:
        task, problems = cls.from_document(document)
        if task is None or problems:
            raise task_error(problems, source=document.source, line_of=document.line_of)
        join_current_dag(task)
        return task

    @model_serializer
    def _serialize(self) -> dict[str, Any]:
        return self.to_yaml_config()

    def to_yaml_config(self, *, reveal_secrets: bool = False) -> dict[str, Any]:
        """Plain values in canonical forms, only what was given. ``from_yaml_config`` of them is equal to this
        task; without ``reveal_secrets`` the values of secrets are null, to be given again."""
        config: dict[str, Any] = {}
        for name in TASK.known:
            value = getattr(self, name)
            if name == "secrets":
                value = {key: _secret_config(one, reveal_secrets) for key, one in value.items()}
            written = plain(value)
            if not (written in (None, {}, []) or value == _DEFAULTS.get(name)):
                config[name] = written
        return config

    def to_yaml_text(self, *, reveal_secrets: bool = False) -> str:
        """``to_yaml_config`` as YAML text."""
        return dump_yaml(self.to_yaml_config(reveal_secrets=reveal_secrets))

    def secret_values(self) -> dict[str, str]:
        """The secrets that have a value, in the clear."""
        return {
            name: value.get_secret_value()
            for name, value in self.secrets.items()
            if isinstance(value, SecretStr)
        }

    def local_mounts(self) -> dict[str, str]:
        """The ``file_mounts`` that are files and folders of this machine."""
        return {
            target: source
            for target, source in self.file_mounts.items()
            if isinstance(source, str) and not is_url(source)
        }

    def with_envs(
        self, envs: Mapping[str, str] | None = None, *, secrets: Mapping[str, str] | None = None
    ) -> Task:
        """The task as it will run: overrides merged, and envs filled into ``workdir``, ``file_mounts``,
        ``volumes`` and ``service``.

        Call it once before a launch, with or without overrides. Raises ``TaskError`` naming every variable
        that has no value yet.
        """
        task = self.model_copy()
        if envs or secrets:
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
        filled = {
            name: substitute_all(plain(getattr(task, name)), task.envs)
            for name in _SUBSTITUTED
            if getattr(task, name)
        }
        return task._replaced(filled, flags={}) if filled else task

    def with_overrides(
        self,
        *,
        name: str | None = None,
        workdir: str | Mapping[str, Any] | None = None,
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
            changes["resources"] = {**self.resources.without(replaced).to_config(), **given}
        return self._replaced(changes, flags=_FLAGS) if changes else self

    def _replaced(self, changes: Mapping[str, Any], *, flags: Mapping[str, str]) -> Task:
        try:
            return type(self).model_validate({**dict(self), **changes})
        except ValidationError as error:
            problems = problems_in(error)
        raise task_error(problems, flags=flags)

    def _change(self, changes: Mapping[str, Any]) -> Task:
        self.__dict__.update(dict(self._replaced(changes, flags={})))
        self.model_fields_set.update(changes)
        return self

    def set_resources(
        self, resources: Resources | Mapping[str, Any] | Sequence[Resources] | Set[Resources]
    ) -> Task:
        """Replace the resources: one, a set (any of them will do), a list (in that order). The ``set_...``
        and ``update_...`` methods, as SkyPilot's, are the only ones that change a task; they return it."""
        given: Any = resources
        if isinstance(resources, Set):
            given = {"any_of": sorted(resources, key=repr)} if len(resources) > 1 else next(iter(resources))
        elif isinstance(resources, Sequence):
            given = {"ordered": list(resources)}
        return self._change({"resources": given})

    def set_file_mounts(self, file_mounts: Mapping[str, Any] | None) -> Task:
        return self._change({"file_mounts": file_mounts})

    def update_file_mounts(self, file_mounts: Mapping[str, Any]) -> Task:
        return self._change({"file_mounts": {**self.file_mounts, **file_mounts}})

    def update_envs(self, envs: Mapping[str, str | None]) -> Task:
        return self._change({"envs": {**self.envs, **envs}})

    def update_secrets(self, secrets: Mapping[str, str | None]) -> Task:
        return self._change({"secrets": {**self.secrets, **secrets}})

    def set_service(self, service: ServiceSpec | Mapping[str, Any] | None) -> Task:
        return self._change({"service": service})

    def set_inputs(self, inputs: str, estimated_size_gigabytes: float) -> Task:
        return self._change({"inputs": {inputs: estimated_size_gigabytes}})

    def set_outputs(self, outputs: str, estimated_size_gigabytes: float) -> Task:
        return self._change({"outputs": {outputs: estimated_size_gigabytes}})

    def digest(self) -> str:
        """SHA-256 (hex) of what the task means: the order of its fields and how values were spelled do not
        count. Secrets enter by a hash of their values."""
        config = self.to_yaml_config()
        if self.secrets:
            values = self.secret_values()
            config["secrets"] = {
                name: hashlib.sha256(f"{name}={values[name]}".encode()).hexdigest()
                if name in values
                else plain(reference)
                for name, reference in self.secrets.items()
            }
        canonical = json.dumps(config, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()
