"""Secret values as files that only their owner can read."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from stix.model.errors import UnavailableError

__all__ = ["FileSecrets"]

_LONGEST_NAME = 200


class FileSecrets:
    """One file (mode 0600) per reference in a folder of mode 0700.

    Nothing encrypts them beyond what the disk does: whoever can read the owner's files can read the owner's
    keys as well. A put is atomic and durable. Raises ``UnavailableError`` when the folder cannot be used.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        self._folder = Path(folder)

    def put(self, reference: str, values: Mapping[str, str]) -> None:
        path = self._path(reference)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(prefix=".", dir=self._folder)  # created with mode 0600
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    json.dump(dict(values), file)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(temporary)
                raise
            self._sync_folder()
        except OSError as exc:
            raise self._unavailable(exc) from exc

    def get(self, reference: str) -> dict[str, str]:
        try:
            text = self._path(reference).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise KeyError(reference) from None
        except OSError as exc:
            raise self._unavailable(exc) from exc
        return {str(name): str(value) for name, value in json.loads(text).items()}

    def delete(self, reference: str) -> None:
        try:
            self._path(reference).unlink(missing_ok=True)
        except OSError as exc:
            raise self._unavailable(exc) from exc

    def _path(self, reference: str) -> Path:
        """Readable where possible. A quoted name has no ``/``, and with the suffix none is ``..``."""
        name = quote(reference, safe="")
        if len(name) > _LONGEST_NAME:
            name = hashlib.sha256(reference.encode()).hexdigest()
        return self._folder / f"{name}.json"

    def _sync_folder(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _unavailable(self, exc: OSError) -> UnavailableError:
        return UnavailableError(
            f"The folder of secrets {self._folder} cannot be used: {exc.strerror or exc}.",
            hint="Make it a folder that only you may read and write, on a disk with space.",
        )
