"""Which fields a mapping may hold, which of them are understood today, and their other names.

A field that SkyPilot's task YAML has and that is not understood yet is refused as a gap, not as a typo. To
make one work, move its name from ``later`` to ``known`` and add the field to the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pydantic import ValidationError

from stix.model.names import did_you_mean
from stix.model.problems import Problem, problems_in, refuse, refuse_all, shown

__all__ = ["AUTOSTOP", "RESOURCES", "TASK", "Section"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Section:
    """One mapping of the task YAML.

    Attributes:
        what: how errors call it.
        known: fields that are understood, in the order in which they are written.
        later: fields of SkyPilot's that are recognised and refused.
        aliases: other names of known fields.
    """

    what: str
    known: tuple[str, ...]
    later: frozenset[str]
    aliases: Mapping[str, str] = field(default_factory=dict)

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
            elif key in self.later:
                text = f'"{key}" is known from SkyPilot and not supported yet.'
                problems.append(Problem((key,), text, "Remove it."))
            else:
                hint = did_you_mean(
                    key, (*self.known, *self.aliases, *(n for n in self.later if n[0] != "_"))
                )
                problems.append(Problem((key,), f"unknown field {shown(key)} of {self.what}.", hint))
        return kept, problems, written_as


TASK = Section(
    what="the task",
    known=(
        "name",
        "workdir",
        "num_nodes",
        "resources",
        "envs",
        "secrets",
        "file_mounts",
        "setup",
        "run",
    ),
    later=frozenset(
        {
            "managed_secrets",
            "volumes",
            "volume_mounts",
            "service",
            "pool",
            "config",
            "event_callback",
            "inputs",
            "outputs",
            "api_server_access",
            "file_mounts_mapping",
            "execution",
            "primary_tasks",
            "termination_delay",
            "inter_connection",
            "_metadata",
        }
    ),
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
        "use_spot",
        "ports",
        "labels",
        "autostop",
    ),
    later=frozenset(
        {
            "accelerator_args",
            "job_recovery",
            "spot_recovery",
            "any_of",
            "ordered",
            "disk_size",
            "disk_tier",
            "network_tier",
            "local_disk",
            "max_hourly_cost",
            "image_id",
            "priority",
            "priority_class",
            "volumes",
            "ephemeral_storage",
            "_cluster_config_overrides",
            "_docker_login_config",
            "_is_image_managed",
            "_requires_fuse",
            "_no_missing_accel_warnings",
        }
    ),
    aliases={"gpus": "accelerators"},
)

AUTOSTOP = Section(
    what="autostop",
    known=("idle_minutes", "down", "wait_for"),
    later=frozenset({"hook", "hook_timeout"}),
)
