"""A catalog index in an object store: immutable files by their hash, and a pointer to the current one."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

from stix.catalog.folder_files import write_whole
from stix.model.errors import UnavailableError
from stix.ports.object_store import ObjectNotFoundError, ObjectStore

__all__ = ["POINTER", "cached_index", "publish_index"]

POINTER = "catalog/current.json"
_FILES = "catalog/index"
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


def publish_index(store: ObjectStore, path: str | os.PathLike[str]) -> str:
    """Put the index at ``path`` into the store and make it the current one; its SHA-256 (hex).

    The pointer is written last and in one step: a reader sees the index of before or the new one, whole.
    Earlier indexes stay, for readers that have just read their pointer.
    """
    data = Path(path).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    key = f"{_FILES}/{digest}.index"
    if store.size(key) != len(data):
        store.put(key, data)
    store.put(POINTER, json.dumps({"sha256": digest, "size": len(data)}).encode())
    return digest


def cached_index(store: ObjectStore, folder: str | os.PathLike[str]) -> Path | None:
    """The current index as a file in ``folder``, fetched only where it is not there yet; None where nothing
    is published. Older files of the folder go. Raises ``UnavailableError`` for one that is damaged in the
    store."""
    try:
        pointer = json.loads(store.get(POINTER))
        digest = str(pointer["sha256"])
    except ObjectNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as exc:
        raise UnavailableError(f"The catalog's pointer {POINTER} cannot be read.") from exc
    if not _DIGEST.fullmatch(digest):
        raise UnavailableError(f"The catalog's pointer {POINTER} names no index.")
    target = Path(folder) / f"{digest}.index"
    if not target.is_file():
        _fetch(store, digest, target)
    return target


def _fetch(store: ObjectStore, digest: str, target: Path) -> None:
    try:
        data = store.get(f"{_FILES}/{digest}.index")
    except ObjectNotFoundError as exc:
        raise UnavailableError(f"The catalog {digest} is not in the store.") from exc
    if hashlib.sha256(data).hexdigest() != digest:
        raise UnavailableError(f"The catalog {digest} is damaged in the store.", hint="Publish it again.")
    write_whole(target, data)
    for other in target.parent.glob("*.index"):
        if other != target:
            # Whoever has it open keeps it until it is closed.
            other.unlink(missing_ok=True)
