"""What reaches a machine from elsewhere: the workdir, files, buckets and volumes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stix.model.infra import parse_infra
from stix.model.plain import given_fields
from stix.model.problems import refuse, refuse_all, shown
from stix.model.quantities import parse_gigabytes
from stix.model.shapes import at_path, each, flag, free_mapping, mapping, named, text
from stix.model.storage import Storage, check_url, is_url, parse_storage

__all__ = [
    "GitWorkdir",
    "Volume",
    "VolumeMount",
    "parse_file_mounts",
    "parse_volume_mounts",
    "parse_volumes",
    "parse_workdir",
]

_GIT_URL = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*://|[A-Za-z0-9_.-]+@[A-Za-z0-9_.-]+:)\S+", re.ASCII)
_SUB_PATH = re.compile(r"[A-Za-z0-9._-][A-Za-z0-9./_-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class GitWorkdir:
    """A clone of ``url`` at ``ref``: a branch, a tag or a commit; None is the default branch."""

    url: str
    ref: str | None = None

    def to_config(self) -> dict[str, Any]:
        return given_fields(self)


def _git_url(value: Any) -> str:
    hint = "Write https://host/owner/repository.git, ssh://... or git@host:owner/repository.git."
    url = str(text("the URL of a git repository", hint)(value)).strip()
    if not _GIT_URL.fullmatch(url) and "$" not in url:
        raise refuse(f"{shown(value)} is not the URL of a git repository.", hint, value=value)
    return url


_git = mapping(
    "workdir", {"url": _git_url, "ref": text("a branch, tag or commit", longest=255)}, required=("url",)
)
_folder = text("a folder", "Write a local folder, such as .")


def parse_workdir(value: Any) -> str | GitWorkdir | None:
    """A local folder, or ``{url, ref}`` of a git repository."""
    if value is None or isinstance(value, GitWorkdir):
        return value
    if isinstance(value, Mapping):
        return GitWorkdir(**_git(value))
    if is_url(value):
        hint = f"Write it as a mapping, workdir: {{url: {shown(value).strip(chr(34))}, ref: main}}."
        raise refuse(f"{shown(value)} is not a local folder.", hint, value=value)
    return str(_folder(value))


def parse_file_mounts(value: Any) -> dict[str, str | Storage]:
    """Path on the machine to a local file or folder, the URL of a bucket or file, or a ``Storage``."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        hint = "Write file_mounts as /path/on/the/machine: ./local/path."
        raise refuse(f"{shown(value)} is not a mapping.", hint, value=value)
    mounts: dict[str, str | Storage] = {}
    problems = []
    for target, source in value.items():
        at = (target if isinstance(target, str) else shown(target),)
        _, wrong = at_path(_target, target, at)
        mounts[str(target)], below = at_path(_mounted, source, at)
        problems += wrong or below
    if problems:
        raise refuse_all(problems)
    return mounts


def _target(value: Any) -> str:
    cleaned = value.strip().rstrip("/") if isinstance(value, str) else ""
    if cleaned in ("", "~", ".") or "\0" in cleaned or ".." in cleaned.split("/"):
        hint = "Write an absolute path, or one below ~/ or the workdir, without .. in it."
        raise refuse("not a place on the machine for a file.", hint)
    return str(text("a path on the machine")(value))


def _mounted(value: Any) -> str | Storage:
    if isinstance(value, (Mapping, Storage)):
        return parse_storage(value)
    if is_url(value):
        return check_url(value)
    return str(text("a local path", "Write a file or folder of this machine, or a bucket's URL.")(value))


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume mounted on every node: one that exists (``name``), one made for the task (``size``, GB), or a
    folder of the host."""

    name: str | None = None
    sub_path: str | None = None
    size: int | None = None
    type: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    host_path: str | None = None

    def to_config(self) -> str | dict[str, Any]:
        config = given_fields(self)
        return self.name if self.name is not None and len(config) == 1 else config


def _sub_path(value: Any) -> str:
    if not isinstance(value, str) or not _SUB_PATH.fullmatch(value) or ".." in value.split("/"):
        hint = "Write a relative path of letters, digits and . _ - /."
        raise refuse(f"{shown(value)} is not a path within a volume.", hint, value=value)
    return value


_name = text("the name of a volume", longest=253)
_VOLUME = mapping(
    "a volume",
    {
        "name": _name,
        "sub_path": _sub_path,
        "size": parse_gigabytes,
        "type": text("a type of volume"),
        "labels": named(text("a label's text"), "name: text"),
        "config": free_mapping("config"),
        "host_path": text("a path of the host"),
    },
)


def _volume(value: Any) -> Volume:
    if isinstance(value, Volume):
        return value
    if not isinstance(value, Mapping):
        return Volume(name=str(_name(value)))
    volume = Volume(**_VOLUME(value))
    origins = [name for name in ("name", "size", "host_path") if getattr(volume, name) is not None]
    if len(origins) != 1:
        found = " and ".join(origins) or "none of them"
        hint = "Write the name of a volume, the size of a new one, or a host_path."
        raise refuse(f"a volume has one of name, size and host_path, and here is {found}.", hint)
    return volume


_volumes = named(_volume, "/path/on/the/machine: volume", key=_target, most=100)


def parse_volumes(value: Any) -> dict[str, Volume]:
    """Path on the machine to a volume's name, ``{name, sub_path}``, ``{size, ...}`` or ``{host_path}``."""
    return {} if value is None else _volumes(value)


@dataclass(frozen=True, slots=True)
class VolumeMount:
    """A volume whose place is known already, as SkyPilot's tools write it."""

    path: str
    volume_name: str
    is_ephemeral: bool = False
    sub_path: str | None = None
    volume_config: Mapping[str, Any] = field(default_factory=dict)


def _place(value: Any) -> Any:
    return str(parse_infra(value))


_VOLUME_MOUNT = mapping(
    "a volume mount",
    {
        "path": text("a path on the machine"),
        "volume_name": _name,
        "is_ephemeral": flag,
        "sub_path": _sub_path,
        "volume_config": mapping(
            "volume_config",
            {"cloud": _place, "region": text("a region"), "zone": text("a zone")},
            others=True,
        ),
    },
    required=("path", "volume_name"),
)
_volume_mounts = each(
    lambda value: value if isinstance(value, VolumeMount) else VolumeMount(**_VOLUME_MOUNT(value)),
    "volume mounts",
    most=100,
)


def parse_volume_mounts(value: Any) -> tuple[VolumeMount, ...]:
    return () if value is None else _volume_mounts(value)
