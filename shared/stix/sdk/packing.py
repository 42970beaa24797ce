"""Packs a folder or file of this machine into a tar.gz whose bytes depend on its content alone.

In: names, content, permissions (without write for group and others, which is the umask's doing) and symbolic
links that stay inside. Out: times, owners, the order on disk, ``.git``, and what the ignore files name.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from stix.model.errors import InvalidInputError, UnavailableError
from stix.sdk.ignore import IgnoreRules

__all__ = ["Packed", "pack"]

_LEVEL = 1
_MODE = 0o755
_MOST_NAMED = 5
# Never follow a link or wait for a pipe's writer when an entry was swapped since it was listed.
_OPEN = (
    os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
)


@dataclass(frozen=True, slots=True)
class Packed:
    """An archive on this machine; whoever asked for it deletes ``path``.

    Attributes:
        sha256: of the archive, hex.
        size: of the archive, bytes.
        files: regular files in it.
        content_bytes: their total size before compression.
        warnings: what was left out and why, one sentence each.
    """

    path: Path
    sha256: str
    size: int
    files: int
    content_bytes: int
    warnings: tuple[str, ...] = ()


def pack(source: str | Path, *, field: str = "workdir", into: str | Path | None = None) -> Packed:
    """Pack a folder's content, or a single file under its own name, into a temporary file in ``into``.

    Memory use does not depend on the size. ``field`` is how errors call the source. Raises
    ``InvalidInputError`` for a source that does not exist, a file that cannot be read or that shrinks while
    it is read, and links that leave the folder; ``UnavailableError`` when the archive cannot be written.
    """
    named = Path(source).expanduser()
    root = Path(os.path.realpath(named))
    try:
        kind = root.stat().st_mode
    except FileNotFoundError as exc:
        hint = f"Create it, or correct the path; it is relative to {Path.cwd()}."
        raise InvalidInputError(f'{field}: "{source}" does not exist.', hint=hint) from exc
    except OSError as exc:
        raise InvalidInputError(f'{field}: "{source}" cannot be read: {exc.strerror}.') from exc
    if not (stat.S_ISDIR(kind) or stat.S_ISREG(kind)):
        raise InvalidInputError(f'{field}: "{source}" is neither a folder nor a file.', hint="Name one.")
    name = ""
    try:
        handle, name = tempfile.mkstemp(prefix="stix-", suffix=".tar.gz", dir=into)
        with os.fdopen(handle, "wb") as out:
            packing = _Packing(root, field, out)
            if stat.S_ISDIR(kind):
                packing.folder("", IgnoreRules.of(root))
                packing.refuse_links()
            else:
                packing.root = root.parent
                packing.file(named.name or root.name, root)
            packing.close()
        return packing.result(Path(name))
    except BaseException as exc:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        if isinstance(exc, OSError):
            message = f"{field}: packing into {into or tempfile.gettempdir()} failed: {exc.strerror}."
            raise UnavailableError(message, hint="Make room there, or set TMPDIR to another folder.") from exc
        raise


class _HashingFile(io.RawIOBase):
    """Passes writes on and keeps their SHA-256 and number of bytes."""

    def __init__(self, out: BinaryIO):
        self.out = out
        self.sha256 = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.out.write(data)
        self.sha256.update(data)
        self.size += len(data)
        return len(data)


@dataclass(slots=True)
class _Packing:
    """One archive in the making."""

    root: Path
    name: str
    out: BinaryIO
    hashing: _HashingFile = field(init=False)
    gzip: gzip.GzipFile = field(init=False)
    tar: tarfile.TarFile = field(init=False)
    files: int = 0
    content_bytes: int = 0
    warnings: list[str] = field(default_factory=list)
    bad_links: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hashing = _HashingFile(self.out)
        self.gzip = gzip.GzipFile("", "wb", _LEVEL, self.hashing, mtime=0)
        # GNU format takes any byte in a name and any length, and writes no extra header for a plain file.
        self.tar = tarfile.open(  # noqa: SIM115 - close() closes it
            mode="w", fileobj=self.gzip, format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape"
        )

    def close(self) -> None:
        self.tar.close()
        self.gzip.close()

    def result(self, path: Path) -> Packed:
        return Packed(
            path=path,
            sha256=self.hashing.sha256.hexdigest(),
            size=self.hashing.size,
            files=self.files,
            content_bytes=self.content_bytes,
            warnings=tuple(self.warnings),
        )

    def folder(self, folder: str, rules: IgnoreRules) -> None:
        """Everything below ``folder`` that is not ignored, in the order of the names' bytes."""
        rules = rules.enter(folder)
        for path, mode in self._entries(folder):
            is_folder = stat.S_ISDIR(mode)
            if rules.ignores(path, is_folder=is_folder):
                continue
            if is_folder:
                self._add(path, tarfile.DIRTYPE, mode)
                self.folder(path, rules)
            elif stat.S_ISLNK(mode):
                self._link(path)
            elif stat.S_ISREG(mode):
                self.file(path, self.root / path)
            else:
                self.warnings.append(f"{path} was left out: it is a socket, a pipe or a device.")

    def _entries(self, folder: str) -> Iterator[tuple[str, int]]:
        try:
            names = sorted(os.listdir(self.root / folder), key=os.fsencode)
        except FileNotFoundError:
            self.warnings.append(f"{folder} was left out: it vanished while it was packed.")
            return
        except OSError as exc:
            raise self._unreadable(folder or ".", exc) from exc
        for name in names:
            path = f"{folder}/{name}" if folder else name
            try:
                yield path, os.lstat(self.root / path).st_mode
            except FileNotFoundError:
                self.warnings.append(f"{path} was left out: it vanished while it was packed.")

    def file(self, path: str, source: Path) -> None:
        """One regular file, as it is when it is opened."""
        try:
            content = open(os.open(source, _OPEN), "rb")  # noqa: SIM115 - closed below; the open itself is caught
        except FileNotFoundError:
            self.warnings.append(f"{path} was left out: it vanished while it was packed.")
            return
        except OSError as exc:
            raise self._unreadable(path, exc) from exc
        with content:
            found = os.fstat(content.fileno())
            try:
                self._add(path, tarfile.REGTYPE, found.st_mode, size=found.st_size, content=content)
            except OSError as exc:
                if exc.errno is not None:
                    raise
                # tarfile's own error, without a number: the file ended before its size.
                hint = "Pack again when nothing writes to it, or name it in .stixignore."
                raise InvalidInputError(
                    f"{self.name}: {path} shrank while it was packed.", hint=hint
                ) from exc
        self.files += 1
        self.content_bytes += found.st_size

    def _link(self, path: str) -> None:
        try:
            target = os.readlink(self.root / path)
        except FileNotFoundError:
            self.warnings.append(f"{path} was left out: it vanished while it was packed.")
            return
        lexical = os.path.normpath(os.path.join(os.path.dirname(path), target))
        # Through other links, `..` may lead elsewhere than it reads.
        real = Path(os.path.realpath(self.root / path))
        if os.path.isabs(target) or lexical.split(os.sep)[0] == ".." or not real.is_relative_to(self.root):
            self.bad_links.append(f"{path} -> {target}")
            return
        self._add(path, tarfile.SYMTYPE, 0o777, target=target)

    def _add(
        self,
        path: str,
        kind: bytes,
        mode: int,
        *,
        size: int = 0,
        target: str = "",
        content: BinaryIO | None = None,
    ) -> None:
        member = tarfile.TarInfo(path)
        member.type = kind
        member.mode = 0o777 if kind == tarfile.SYMTYPE else stat.S_IMODE(mode) & _MODE
        member.size = size
        member.linkname = target
        self.tar.addfile(member, content)
        # The archive is never listed: without this, memory would grow with the number of files.
        self.tar.members.clear()  # type: ignore[attr-defined]

    def refuse_links(self) -> None:
        """Raise when a link was found that would point elsewhere on the machine."""
        if not self.bad_links:
            return
        named = ", ".join(self.bad_links[:_MOST_NAMED])
        rest = len(self.bad_links) - _MOST_NAMED
        more = f" and {rest} more" if rest > 0 else ""
        raise InvalidInputError(
            f"{self.name}: symbolic links leave the folder or are absolute: {named}{more}.",
            hint="Make them relative and inside, copy what they name, or list them in .stixignore.",
        )

    def _unreadable(self, path: str, error: OSError) -> InvalidInputError:
        message = f"{self.name}: {path} cannot be read: {error.strerror}."
        return InvalidInputError(message, hint="Allow reading it, or name it in .stixignore.")
