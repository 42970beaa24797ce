"""The object store of the embedded runtime: files in a folder, signed URLs that our own server answers."""

from __future__ import annotations

import hashlib
import math
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from stix.adapters.object_keys import check_key, check_prefix, check_signing
from stix.adapters.signed_paths import Permission, UrlSigner
from stix.model.errors import InvalidInputError, UnavailableError
from stix.ports.object_store import ObjectNotFoundError, SignedUrl

__all__ = ["LocalObjectStore", "ObjectWriter", "SignedObject"]

_STALE_SECONDS = 24 * 3600
_PLACE_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class SignedObject:
    """A request that carried a valid permission. For a GET ``path`` exists and has ``size`` bytes; for a PUT
    hand ``key``, ``size`` and ``sha256`` to ``LocalObjectStore.writer``."""

    method: str
    key: str
    path: Path
    size: int
    sha256: str | None


class LocalObjectStore:
    """``ObjectStore`` over the folder ``root``, for any number of threads and processes.

    A key is a file below ``root/objects``; it appears whole and durable, by a rename, or not at all. Unlike
    in S3 a key cannot also be the folder of others (``a`` and ``a/b``): that is a ``ValueError``.

    ``base_url`` is where our server listens; pass a callable where the port is known late.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        base_url: str | Callable[[], str],
        signing_key: bytes,
        *,
        clock: Callable[[], float] = time.time,
    ):
        self._objects = Path(root) / "objects"
        self._incoming = Path(root) / "incoming"
        self._base_url = base_url
        self._signer = UrlSigner(signing_key)
        self._clock = clock
        with _translated(self._objects):
            self._objects.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._drop_stale()

    def put(self, key: str, data: bytes) -> None:
        with self.writer(key, len(data)) as writer:
            writer.write(data)

    def get(self, key: str) -> bytes:
        path = self._path(key)
        with _translated(path):
            try:
                return path.read_bytes()
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as exc:
                raise ObjectNotFoundError(key) from exc

    def size(self, key: str) -> int | None:
        path = self._path(key)
        with _translated(path):
            try:
                return path.stat().st_size if path.is_file() else None
            except FileNotFoundError:
                return None

    def delete(self, key: str) -> None:
        path = self._path(key)
        with _translated(path):
            if path.is_dir():
                return
            with suppress(FileNotFoundError, NotADirectoryError):
                path.unlink()
                _sync_folder(path.parent)
            self._drop_empty_folders(path.parent)

    def keys(self, prefix: str) -> Iterator[str]:
        check_prefix(prefix)
        with _translated(self._objects):
            yield from _keys_below(self._objects, "", prefix)

    def sign_get(self, key: str, *, expires_seconds: int) -> SignedUrl:
        check_signing(key, expires_seconds)
        permission = Permission("GET", key, self._expiry(expires_seconds))
        return SignedUrl(self._url(permission), "GET")

    def sign_put(self, key: str, *, size: int, sha256: str | None = None, expires_seconds: int) -> SignedUrl:
        check_signing(key, expires_seconds, size, sha256)
        permission = Permission("PUT", key, self._expiry(expires_seconds), size, sha256)
        return SignedUrl(self._url(permission), "PUT", {"Content-Length": str(size)})

    def open_signed(self, method: str, path: str, query: str, now: float) -> SignedObject:
        """What a request to our server may do; ``path`` and ``query`` as they came, percent-encoded.

        Raises ``ForbiddenError`` for a link that is not ours, changed or expired, ``ObjectNotFoundError`` for
        a GET of nothing.
        """
        permission = self._signer.check(method, path, query, now)
        file = self._path(permission.key)
        size = permission.size if method == "PUT" else self.size(permission.key)
        if size is None:
            raise ObjectNotFoundError(permission.key)
        return SignedObject(method, permission.key, file, size, permission.sha256)

    @contextmanager
    def writer(self, key: str, size: int, sha256: str | None = None) -> Iterator[ObjectWriter]:
        """Write the object piece by piece; it replaces what was there when the block ends, if and only if it
        has ``size`` bytes and, where given, that SHA-256. Raises ``InvalidInputError`` otherwise."""
        path = self._path(key)
        temporary = self._incoming / secrets.token_hex(16)
        with _translated(temporary):
            file = open(temporary, "xb")  # noqa: SIM115 - closed below, where its errors are translated too
        try:
            writer = ObjectWriter(file, key, size)
            yield writer
            writer.verify(sha256)
            with _translated(path):
                file.flush()
                os.fsync(file.fileno())
                file.close()
                self._place(temporary, path, key)
        finally:
            with suppress(OSError):
                file.close()
            temporary.unlink(missing_ok=True)

    def _place(self, temporary: Path, path: Path, key: str) -> None:
        for _ in range(_PLACE_ATTEMPTS):
            try:
                _make_folders(path.parent, self._objects)
                os.replace(temporary, path)
            except FileNotFoundError:
                continue  # A delete dropped the empty folder in between: make it again.
            except (FileExistsError, IsADirectoryError, NotADirectoryError) as exc:
                raise ValueError(
                    f"object key {key!r} is in the way of another: one of them is the other's folder"
                ) from exc
            with suppress(FileNotFoundError):
                _sync_folder(path.parent)
            return
        raise UnavailableError(f"The folder {path.parent} is deleted all the time by others.")

    def _path(self, key: str) -> Path:
        check_key(key)
        return self._objects.joinpath(*key.split("/"))

    def _url(self, permission: Permission) -> str:
        base = self._base_url if isinstance(self._base_url, str) else self._base_url()
        return base.rstrip("/") + self._signer.target(permission)

    def _expiry(self, seconds: int) -> int:
        return math.ceil(self._clock()) + seconds

    def _drop_empty_folders(self, folder: Path) -> None:
        while folder != self._objects:
            try:
                folder.rmdir()
            except OSError:
                return  # Not empty, or gone already.
            folder = folder.parent

    def _drop_stale(self) -> None:
        """Remove what writers left behind that were killed; a living one touches its file all the time."""
        for file in self._incoming.iterdir():
            with suppress(FileNotFoundError):
                if file.stat().st_mtime < self._clock() - _STALE_SECONDS:
                    file.unlink()


class ObjectWriter:
    """Takes the content of one object; refuses more than it was promised as soon as it comes."""

    def __init__(self, file: BinaryIO, key: str, size: int):
        self._file = file
        self._key = key
        self._size = size
        self._written = 0
        self._hash = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self._written += len(data)
        if self._written > self._size:
            raise InvalidInputError(f"The upload of {self._key} is larger than its {self._size} bytes.")
        with _translated(Path(self._file.name)):
            self._file.write(data)
        self._hash.update(data)

    def verify(self, sha256: str | None) -> None:
        """Raises ``InvalidInputError`` unless the content is complete and is what was promised."""
        if self._written != self._size:
            raise InvalidInputError(
                f"The upload of {self._key} ended after {self._written} of {self._size} bytes."
            )
        if sha256 is not None and self._hash.hexdigest() != sha256:
            raise InvalidInputError(
                f"The upload of {self._key} has SHA-256 {self._hash.hexdigest()}, not {sha256} as announced."
            )


def _keys_below(folder: Path, parent: str, prefix: str) -> Iterator[str]:
    """Keys in the order of their bytes. A folder sorts as its name with the ``/`` that its keys carry."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in entries)
    except FileNotFoundError:
        return
    for name in names:
        key = parent + name
        if key.startswith(prefix) and not name.endswith("/"):
            yield key
        elif name.endswith("/") and (key.startswith(prefix) or prefix.startswith(key)):
            yield from _keys_below(folder / name, key, prefix)


def _make_folders(folder: Path, root: Path) -> None:
    """Make the folder and those above it, each durable in its parent."""
    missing = []
    while folder != root and not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for folder in reversed(missing):
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            if folder.is_file():
                raise
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Make the folder's names durable, where the system can (Windows cannot open a folder)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise UnavailableError(
            f"The file {path} cannot be used: {exc.strerror or exc}.",
            hint="Check that the disk has space and that the folder is yours.",
        ) from exc
