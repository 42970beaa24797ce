"""Our lines in a user's ``authorized_keys``: added, replaced and removed without touching any other."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import List, Tuple

from .files import Json


def with_keys(text: str, mark: str, keys: List[Json]) -> str:
    """``text`` with exactly ``keys`` (``user``, ``key``) under ``mark``; all other lines stay as they are."""
    kept = [line for line in text.splitlines(keepends=True) if not _is_ours(line, mark)]
    if keys and kept and not kept[-1].endswith("\n"):
        kept[-1] += "\n"
    return "".join(kept) + "".join(f"{entry['key']} {mark}:{_word(entry['user'])}\n" for entry in keys)


def write_keys(path: str, mark: str, keys: List[Json]) -> None:
    """Changes the file at ``path`` where it must; made with its folder if it is absent. Raises OSError."""
    path = os.path.realpath(path)
    before, mode, owner = _read(path)
    after = with_keys(before, mark, keys)
    if after == before:
        return
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    fresh = f"{path}.{mark.replace(':', '-')}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(fresh)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as out:
        out.write(after)
        os.fchmod(out.fileno(), mode)
        if owner != (os.geteuid(), os.getegid()):
            os.fchown(out.fileno(), *owner)
    os.replace(fresh, path)


def _read(path: str) -> Tuple[str, int, Tuple[int, int]]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as stream:
            found = os.fstat(stream.fileno())
            return stream.read(), stat.S_IMODE(found.st_mode), (found.st_uid, found.st_gid)
    except FileNotFoundError:
        return "", 0o600, (os.geteuid(), os.getegid())


def _is_ours(line: str, mark: str) -> bool:
    words = line.split()
    return len(words) == 3 and words[2].startswith(f"{mark}:")


def _word(user: str) -> str:
    return "".join(sign if sign.isalnum() or sign in "-_.@" else "_" for sign in str(user)) or "user"
