"""Which fields a mapping may hold, and their other names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

from pydantic import ValidationError

from stix.model.names import did_you_mean, nearest
from stix.model.problems import Problem, problems_in, refuse, refuse_all, shown

__all__ = ["AUTOSTOP", "RESOURCES", "TASK", "Section"]

T = TypeVar("T")


@dataclass(frozen=True)
class Section:
    """One mapping of the task YAML.

    Attributes:
        what: how errors call it.
        known: fields that are understood, in the order in which they are written.
        aliases: other names of known fields.
        ignored: fields that may be there and are left out: SkyPilot writes them for itself.
        others: whether unknown fields are kept, unless one looks like a misspelt known one.
    """

    what: str
    known: tuple[str, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)
    ignored: frozenset[str] = frozenset()
    others: bool = False

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self.known)

    def read(self, data: Any, handler: Callable[[Any], T]) -> T:
        """Check the field names of ``data``, then hand the known ones to ``handler`` (a pydantic wrap
        validator's). All problems, of names and of values, are raised together."""
        if not isinstance(data, Mapping):
            raise refuse(
                f"{shown(data)} is not a mapping of fields.", f"Write one field of {self.what} a line."
            )
        kept, problems, written_as = self._sift(data)
        try:
            value = handler(kept)
        except ValidationError as error:
            for one in problems_in(error):
                head = one.path[0] if one.path else None
                alias = written_as.get(head) if isinstance(head, str) else None
                problems.append(replace(one, path=(alias, *one.path[1:])) if alias else one)
        if problems:
            raise refuse_all(problems)
        return value

    def _sift(self, data: Mapping[Any, Any]) -> tuple[dict[str, Any], list[Problem], dict[str, str]]:
        kept: dict[str, Any] = {}
        problems: list[Problem] = []
        written_as: dict[str, str] = {}
        if data.keys() <= self._names:
            return dict(data), problems, written_as
        for key, value in data.items():
            if not isinstance(key, str):
                problems.append(Problem((shown(key),), "a field's name must be text.", "Quote it."))
                continue
            name = self.aliases.get(key, key)
            if name in self.known and name in kept:
                other = written_as.get(name, name)
                text = f'"{key}" and "{other}" are two names of one field.'
                problems.append(Problem((key,), text, f'Keep "{name}".'))
            elif name in self.known:
                kept[name] = value
                if name != key:
                    written_as[name] = key
            elif key in self.ignored:
                continue
            elif self.others and nearest(key, (*self.known, *self.aliases)) is None:
                kept[key] = value
            else:
                hint = did_you_mean(key, (*self.known, *self.aliases))
                problems.append(Problem((key,), f"unknown field {shown(key)} of {self.what}.", hint))
        return kept, problems, written_as


TASK = Section(
    what="the task",
    known=(
        "name",
        "workdir",
        "num_nodes",
        "resources",
        "depends_on",
        "estimated_duration",
        "deadline",
        "max_duration",
        "max_cost",
        "optimize",
        "envs",
        "secrets",
        "managed_secrets",
        "file_mounts",
        "volumes",
        "volume_mounts",
        "inputs",
        "outputs",
        "service",
        "pool",
        "config",
        "event_callback",
        "api_server_access",
        "setup",
        "run",
    ),
    ignored=frozenset({"file_mounts_mapping", "_metadata"}),
)

RESOURCES = Section(
    what="resources",
    known=(
        "infra",
        "cloud",
        "region",
        "zone",
        "instance_type",
        "cpus",
        "memory",
        "accelerators",
        "accelerator_args",
        "use_spot",
        "job_recovery",
        "max_hourly_cost",
        "disk_size",
        "disk_tier",
        "local_disk",
        "network_tier",
        "volumes",
        "image_id",
        "ports",
        "labels",
        "autostop",
        "priority",
        "priority_class",
        "any_of",
        "ordered",
        "_cluster_config_overrides",
    ),
    aliases={"gpus": "accelerators", "spot_recovery": "job_recovery"},
    ignored=frozenset(
        {"ephemeral_storage", "_is_image_managed", "_requires_fuse", "_no_missing_accel_warnings"}
    ),
)

AUTOSTOP = Section(
    what="autostop",
    known=("idle_minutes", "down", "wait_for", "hook", "hook_timeout"),
)
