"""The files of a refresh in a folder of this machine, for a command line without a control plane."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from stix.ports.object_store import ObjectNotFoundError

__all__ = ["FolderFiles", "write_whole"]


def write_whole(target: Path, data: bytes) -> None:
    """Put ``data`` there in one step: a reader sees the file of before or the new one, whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".new-", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


class FolderFiles:
    """Keys are paths below ``folder``. A put replaces the whole file atomically."""

    def __init__(self, folder: Path):
        self._folder = folder

    def put(self, key: str, data: bytes) -> None:
        write_whole(self._folder / key, data)

    def get(self, key: str) -> bytes:
        """Raises ``ObjectNotFoundError``."""
        try:
            return (self._folder / key).read_bytes()
        except FileNotFoundError as exc:
            raise ObjectNotFoundError(key) from exc

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys below ``prefix``, in order."""
        found = (
            path.relative_to(self._folder).as_posix()
            for path in self._folder.rglob("*")
            if path.is_file() and not path.name.startswith(".")
        )
        yield from sorted(key for key in found if key.startswith(prefix))
