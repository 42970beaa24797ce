"""What file_mounts may bring from elsewhere: URLs, and buckets with settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stix.model.names import did_you_mean
from stix.model.plain import given_fields
from stix.model.problems import Problem, refuse, refuse_all, shown
from stix.model.quantities import parse_gigabytes
from stix.model.shapes import Parser, choice, each, flag, mapping, text, whole

__all__ = ["URL_SCHEMES", "Storage", "check_url", "is_url", "parse_storage"]

URL_SCHEMES = (
    "s3",
    "gs",
    "https",
    "http",
    "r2",
    "cos",
    "oci",
    "nebius",
    "cw",
    "vastdata",
    "hf",
)
STORES = ("S3", "GCS", "AZURE", "R2", "IBM", "OCI", "NEBIUS", "COREWEAVE", "VASTDATA", "HF", "VOLUME")
MODES = ("MOUNT", "COPY", "MOUNT_CACHED")
TYPES = ("MODEL_CHECKPOINT_RO", "MODEL_CHECKPOINT_RW", "DATASET_RO", "DATASET_RW")

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)


def is_url(value: Any) -> bool:
    return isinstance(value, str) and _URL.match(value) is not None


def check_url(value: str) -> str:
    """The URL of a bucket, an object or a file. Raises for a scheme that nothing can fetch."""
    found = _URL.fullmatch(value)
    scheme = found[1].lower() if found else ""
    if scheme not in URL_SCHEMES:
        raise refuse(f"{shown(value)} begins with no known scheme.", did_you_mean(scheme, URL_SCHEMES))
    if not found or not found[2].strip("/ "):
        raise refuse(f"{shown(value)} names no bucket.", f"Write {scheme}://bucket/path.", value=value)
    return value


@dataclass(frozen=True, slots=True)
class Storage:
    """A bucket, or local files that go to one, mounted or copied to a path of the machine.

    ``sub_path`` is a folder within the bucket.
    """

    name: str | None = None
    source: str | tuple[str, ...] | None = None
    store: str | None = None
    persistent: bool = True
    mode: str = "MOUNT"
    type: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    sub_path: str | None = None

    def to_config(self) -> dict[str, Any]:
        config = given_fields(self)
        if "sub_path" in config:
            config["_bucket_sub_path"] = config.pop("sub_path")
        return config


def _pattern(pattern: str, what: str, hint: str) -> Parser:
    shape = re.compile(pattern, re.ASCII)

    def parse(value: Any) -> str:
        given = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if not isinstance(given, str) or len(given) > 64 or not shape.fullmatch(given):
            raise refuse(f"{shown(value)} is not {what}.", hint, value=value)
        return given

    return parse


_size = _pattern(r"[0-9]+[bkmgtpBKMGTP]?", "a size", 'Write a number and a unit: "64M", "10G".')
_time = _pattern(
    r"(?:[-+]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:ms|[smhdwMy]))+|[-+]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)",
    "a length of time",
    'Write a number and a unit: "30s", "1h".',
)
_CONFIG = mapping(
    "a storage's config",
    {
        "disk_size": parse_gigabytes,
        "disk_tier": text("a disk tier"),
        "storage_type": text("a storage type"),
        "attach_mode": text("an attach mode"),
        "mount_cached": mapping(
            "mount_cached",
            {
                "transfers": whole(1),
                "buffer_size": _size,
                "vfs_cache_max_size": _size,
                "vfs_cache_max_age": _time,
                "vfs_read_ahead": _size,
                "vfs_read_chunk_size": _size,
                "vfs_read_chunk_streams": whole(0),
                "vfs_write_back": _time,
                "read_only": flag,
            },
        ),
        "mount": mapping(
            "mount", {"read_only": flag, "hf_mount_args": each(text("an argument"), "arguments")}
        ),
    },
    others=True,
)


def _source(value: Any) -> str | tuple[str, ...]:
    if isinstance(value, (list, tuple)):
        sources: tuple[str, ...] = each(_one_source, "local paths", least=1)(value)
        return sources
    return _one_source(value)


def _one_source(value: Any) -> str:
    hint = "Write a local path or a bucket's URL, such as s3://bucket/path."
    given = str(text("a source", hint)(value))
    return check_url(given) if is_url(given) else given


_STORAGE = mapping(
    "a storage",
    {
        "name": text("a bucket's name", longest=255),
        "source": _source,
        "store": choice("a store", STORES),
        "persistent": flag,
        "mode": choice("a mode of storage", MODES),
        "type": choice("a type of storage", TYPES),
        "config": _CONFIG,
        "_bucket_sub_path": text("a path in a bucket"),
    },
    ignored=("_is_sky_managed", "_force_delete"),
)


def parse_storage(value: Any) -> Storage:
    """``{name, source, store, persistent, mode, type, config}`` with a name or a source."""
    if isinstance(value, Storage):
        return value
    fields = _STORAGE(value)
    if "_bucket_sub_path" in fields:
        fields["sub_path"] = fields.pop("_bucket_sub_path")
    storage = Storage(**fields)
    remote = [one for one in _sources(storage) if is_url(one)]
    problems = []
    if storage.name is None and storage.source is None:
        text = "a storage needs a name or a source."
        problems.append(Problem((), text, "Add source: s3://bucket, or name: for a new bucket."))
    if storage.name is not None and remote:
        text = f"the name is in the source already, {shown(remote[0])}."
        problems.append(Problem(("name",), text, "Leave out the name, or the source."))
    if len(_sources(storage)) > 1 and remote:
        text = f"{shown(remote[0])} is not a local path, and only those can be given in a list."
        problems.append(Problem(("source",), text, "Mount each bucket at a path of its own."))
    if storage.mode == "MOUNT_CACHED" and "mount" in storage.config:
        problems.append(Problem(("config", "mount"), "the mode is MOUNT_CACHED.", "Write mount_cached."))
    if storage.mode != "MOUNT_CACHED" and "mount_cached" in storage.config:
        text = f"the mode is {storage.mode}."
        problems.append(Problem(("config", "mount_cached"), text, "Write mode: MOUNT_CACHED."))
    if problems:
        raise refuse_all(problems)
    return storage


def _sources(storage: Storage) -> tuple[str, ...]:
    return (storage.source,) if isinstance(storage.source, str) else storage.source or ()
