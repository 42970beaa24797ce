"""Parsers of the fields of resources that are small records of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stix.model.durations import Seconds, duration_text, parse_duration
from stix.model.names import did_you_mean
from stix.model.problems import Problem, refuse, refuse_all, shown
from stix.model.quantities import number_text, parse_gigabytes
from stix.model.shapes import choice, each, flag, mapping, named, number, text, whole

__all__ = [
    "DEFAULT_DISK_GB",
    "DISK_TIERS",
    "AttachedDisk",
    "JobRecovery",
    "LocalDisk",
    "parse_accelerator_args",
    "parse_attached_disks",
    "parse_disk_tier",
    "parse_hourly_cost",
    "parse_image_id",
    "parse_instance_type",
    "parse_job_recovery",
    "parse_labels",
    "parse_local_disk",
    "parse_network_tier",
    "parse_priority",
    "parse_priority_class",
    "parse_use_spot",
]

DEFAULT_DISK_GB = 256
"""The size of the disk where ``disk_size`` is not given, on clouds whose machines have a disk of any size."""
DISK_TIERS = ("low", "medium", "high", "ultra", "best", "none")

_INSTANCE_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}", re.ASCII)
_LABEL_LIMITS = (128, 256)
_RESERVED_LABELS = ("stix-", "aws:")


def parse_instance_type(value: Any) -> str | None:
    if value is None or (isinstance(value, str) and _INSTANCE_TYPE.fullmatch(value.strip())):
        return value and value.strip()
    raise refuse(
        f"{shown(value)} is not an instance type.",
        "Write the provider's name for it, such as m7i.large.",
        value=value,
    )


def parse_use_spot(value: Any) -> bool:
    return False if value is None else flag(value)


def parse_labels(value: Any) -> dict[str, str]:
    """Names to text, at most 128 and 256 characters; numbers become text."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise refuse(f"{shown(value)} is not a mapping.", "Write labels as name: text.", value=value)
    most_key, most_value = _LABEL_LIMITS
    labels, problems = {}, []
    for key, label in value.items():
        if not isinstance(key, str) or not 1 <= len(key) <= most_key:
            problem = Problem(
                (shown(key),), "a label's name must be text.", f"At most {most_key} characters."
            )
        elif key.lower().startswith(_RESERVED_LABELS):
            given = f"the label {shown(key)} begins with a reserved prefix."
            problem = Problem((key,), given, f"Reserved are {' and '.join(_RESERVED_LABELS)}")
        elif isinstance(label, bool) or not isinstance(label, (str, int, float)):
            problem = Problem((key,), f"{shown(label)} is not text.", "Quote it.", shown(label))
        elif len(label if isinstance(label, str) else shown(label)) > most_value:
            given = f"{shown(label)} is longer than {most_value} characters."
            problem = Problem((key,), given, "Shorten it.", shown(label))
        else:
            labels[key] = label if isinstance(label, str) else str(label)
            continue
        problems.append(problem)
    if problems:
        raise refuse_all(problems)
    return labels


_disk_tier = choice("a disk tier", DISK_TIERS)
_network_tier = choice("a network tier", ("standard", "best"))
_hourly_cost = number(above=True, unit="USD")
_priority = whole(-1000, 1000)
_priority_class = text("the name of a priority class", longest=253)


def parse_disk_tier(value: Any) -> str | None:
    return None if value is None else _disk_tier(value)


def parse_network_tier(value: Any) -> str | None:
    return None if value is None else _network_tier(value)


def parse_hourly_cost(value: Any) -> float | None:
    """USD per hour for each node: its spot price with ``use_spot``, else its price on demand."""
    return None if value is None else _hourly_cost(value)


def parse_priority(value: Any) -> int | None:
    return None if value is None else _priority(value)


def parse_priority_class(value: Any) -> str | None:
    return None if value is None else _priority_class(value)


@dataclass(frozen=True, slots=True)
class LocalDisk:
    """Instance storage: ``kind`` is ``nvme`` or ``ssd`` (either will do); ``size_gb`` of it exactly or at
    least, None for any size."""

    kind: str
    size_gb: float | None = None
    at_least: bool = False

    def __str__(self) -> str:
        return (
            self.kind
            if self.size_gb is None
            else f"{self.kind}:{number_text(self.size_gb)}{'+' * self.at_least}"
        )

    def to_config(self) -> str:
        return str(self)


_LOCAL_DISK = re.compile(r"([A-Za-z]+)(?:\s*:\s*([0-9]{1,7}(?:\.[0-9]{1,3})?)(?:GB|G)?\s*(\+?))?", re.ASCII)


def parse_local_disk(value: Any) -> LocalDisk | None:
    """``nvme``, ``ssd``, ``nvme:1000`` (GB exactly), ``nvme:1000+`` (at least)."""
    if value is None or isinstance(value, LocalDisk):
        return value
    found = _LOCAL_DISK.fullmatch(value.strip()) if isinstance(value, str) else None
    if not found:
        hint = 'Write nvme or ssd, and a size in GB if it matters: nvme:1000, "nvme:1000+".'
        raise refuse(f"{shown(value)} is not a local disk.", hint, value=value)
    kind, size, plus = found.groups()
    if kind.lower() not in ("nvme", "ssd"):
        hint = did_you_mean(kind, ("nvme", "ssd"))
        raise refuse(f"{shown(kind)} is not a kind of local disk.", hint, value=value)
    if size is not None and float(size) < 1:
        raise refuse(f"{shown(value)} is smaller than 1 GB.", "Write a size in GB.", value=value)
    return LocalDisk(kind.lower(), None if size is None else float(size), bool(plus))


_IMAGE_HINT = "Write an image's id, docker:NAME, or one id for each region: {us-east-1: ami-...}."
_image = text("an image's id", _IMAGE_HINT, longest=1024)
_images = named(_image, "region: id", least=1)


def parse_image_id(value: Any) -> str | dict[str, str] | None:
    """``ami-...``, ``projects/...``, ``skypilot:tag``, ``docker:image``, or ``{region: id}``, in which
    ``docker`` may stand for a region."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        images: dict[str, str] = _images(value)
        return images
    found = _image(value).strip()
    if found == "docker:":
        raise refuse('"docker:" names no image.', "Write docker:NAME, such as docker:ubuntu:24.04.")
    return str(found)


_ACCELERATOR_ARGS = mapping(
    "accelerator_args",
    {
        "runtime_version": text("a runtime version"),
        "tpu_name": text("a TPU's name"),
        "tpu_vm": flag,
        "gcp_queued_resource": flag,
    },
)


def parse_accelerator_args(value: Any) -> dict[str, Any]:
    return {} if value is None else _ACCELERATOR_ARGS(value)


@dataclass(frozen=True, slots=True)
class JobRecovery:
    """How a managed job comes back: after a preemption by ``strategy``, after an error of its own at most
    ``max_restarts_on_errors`` times, and always after one of ``recover_on_exit_codes``. ``changeover`` is the
    longest that a loss takes from its work, ``checkpoint_interval`` how often its checkpoints are stored.
    ``preemption`` is a script that a machine runs once its cloud has said that it takes it, ``replace`` which
    machines of a gang are replaced when one is lost: ``all`` or those that ``failed``.
    ``others`` are settings of strategies that are not ours."""

    strategy: str | None = None
    max_restarts_on_errors: int = 0
    recover_on_exit_codes: tuple[int, ...] = ()
    others: Mapping[str, Any] = field(default_factory=dict)
    changeover: Seconds | None = None
    checkpoint_interval: Seconds | None = None
    preemption: str | None = None
    replace: str | None = None

    def to_config(self) -> dict[str, Any]:
        return {
            "strategy": self.strategy,
            "max_restarts_on_errors": self.max_restarts_on_errors,
            "recover_on_exit_codes": list(self.recover_on_exit_codes),
            **{name: duration_text(value) for name in _LENGTHS if (value := getattr(self, name)) is not None},
            **{name: value for name in _TEXTS if (value := getattr(self, name)) is not None},
            **self.others,
        }


_LENGTHS = ("changeover", "checkpoint_interval")
_TEXTS = ("preemption", "replace")
_SLICED = re.compile(r"sliced:[1-9][0-9]?", re.ASCII)
_named_strategy = choice(
    "a recovery strategy",
    (
        *("EAGER_NEXT_REGION", "FAILOVER", "none"),
        *("late-uniform", "history", "uniform", "uniform-plain", "greedy", "sliced:8"),
    ),
)


def _strategy(value: Any) -> str:
    """One of the names, or ``sliced:N`` with 1 to 99 slices."""
    if isinstance(value, str) and _SLICED.fullmatch(value):
        return value
    return str(_named_strategy(value))


_exit_code = whole(0, 255)
_exit_codes = each(_exit_code, "exit codes", most=256)
_JOB_RECOVERY = mapping(
    "job_recovery",
    {
        "strategy": _strategy,
        "max_restarts_on_errors": whole(0),
        "recover_on_exit_codes": lambda value: (
            _exit_codes(value) if isinstance(value, (list, tuple)) else (_exit_code(value),)
        ),
        **dict.fromkeys(_LENGTHS, parse_duration),
        "replace": choice("which machines are replaced", ("all", "failed")),
        "preemption": text("a script", "Write the commands as text after |.", longest=16384),
    },
    others=True,
)


def parse_job_recovery(value: Any) -> JobRecovery | None:
    """A strategy's name, or ``{strategy, max_restarts_on_errors, recover_on_exit_codes, changeover,
    checkpoint_interval}``."""
    if value is None or isinstance(value, JobRecovery):
        return value
    if isinstance(value, Mapping):
        given = _JOB_RECOVERY(value)
        known = {
            name: given.pop(name)
            for name in (
                "strategy",
                "max_restarts_on_errors",
                "recover_on_exit_codes",
                *_LENGTHS,
                *_TEXTS,
            )
            if name in given
        }
        return JobRecovery(**known, others=given)
    return JobRecovery(_strategy(value))


@dataclass(frozen=True, slots=True)
class AttachedDisk:
    """A disk beside the boot disk, mounted at ``path``."""

    path: str
    name: str = ""
    storage_type: str = "network"
    attach_mode: str = "read_write"
    disk_size: int | None = None
    disk_tier: str | None = None
    auto_delete: bool = False


_ATTACHED_DISK = mapping(
    "a volume",
    {
        "path": text("a path on the machine"),
        "name": text("a volume's name"),
        "storage_type": choice("a storage type", ("network", "instance")),
        "attach_mode": choice("an attach mode", ("read_write", "read_only")),
        "disk_size": parse_gigabytes,
        "disk_tier": _disk_tier,
        "auto_delete": flag,
    },
    required=("path",),
)
_attached_disks = each(
    lambda value: value if isinstance(value, AttachedDisk) else AttachedDisk(**_ATTACHED_DISK(value)),
    "volumes, each with its path",
    most=100,
)


def parse_attached_disks(value: Any) -> tuple[AttachedDisk, ...]:
    return () if value is None else _attached_disks(value)
