"""Unpacks an archive that may be hostile: into a staging folder first, then over the target.

The same rules as a careful copy: nothing absolute, no parent steps, no device, no link that leaves the tree.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from typing import List, Tuple


class BadArchiveError(Exception):
    """The archive is damaged or tries to write outside its target; the message names the member."""


def extract(archive: str, staging: str) -> None:
    """Fills the absent folder ``staging``; on BadArchiveError nothing is left of it."""
    os.makedirs(staging, mode=0o700)
    try:
        with tarfile.open(archive, "r:gz") as tar:
            _extract_members(tar, staging)
    except (tarfile.TarError, EOFError, OSError, ValueError) as exc:
        shutil.rmtree(staging, ignore_errors=True)
        raise BadArchiveError(f"The archive cannot be unpacked: {exc}.") from exc
    except BadArchiveError:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _extract_members(tar: tarfile.TarFile, root: str) -> None:
    links: List[Tuple[str, tarfile.TarInfo]] = []
    folders: List[Tuple[str, int]] = []
    for member in tar:
        path = os.path.join(root, *_safe_parts(member.name, member.name))
        if member.isdir():
            os.makedirs(path, mode=0o700, exist_ok=True)
            folders.append((path, member.mode & 0o777))
        elif member.isreg():
            os.makedirs(os.path.dirname(path), exist_ok=True)
            _write_member(tar, member, path)
        elif member.issym():
            links.append((path, member))
        elif member.islnk():
            source = os.path.join(root, *_safe_parts(member.linkname, member.name))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.link(source, path, follow_symlinks=False)
        else:
            raise BadArchiveError(
                f"The archive's member {member.name!r} is neither a file, a folder nor a link."
            )
    # Links come last, so that nothing above was written through one.
    for path, member in links:
        if os.path.isabs(member.linkname):
            raise BadArchiveError(
                f"The archive's link {member.name!r} points to the absolute {member.linkname!r}."
            )
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(member.linkname, path)
    real_root = os.path.realpath(root)
    for path, member in links:
        # The resolved path, not the written one: a chain of links can climb where no single one seems to.
        target = os.path.realpath(path)
        if target != real_root and not target.startswith(real_root + os.sep):
            raise BadArchiveError(
                f"The archive's link {member.name!r} leaves the archive: {member.linkname!r}."
            )
    for path, mode in reversed(folders):
        os.chmod(path, mode | 0o700)


def _safe_parts(name: str, member: str) -> List[str]:
    if name.startswith("/") or "\0" in name:
        raise BadArchiveError(f"The archive's member {member!r} has an absolute path.")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise BadArchiveError(f"The archive's member {member!r} climbs out of the archive.")
    return parts


def _write_member(tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
    source = tar.extractfile(member)
    assert source is not None
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    with source, os.fdopen(descriptor, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 18)
        os.fchmod(descriptor, member.mode & 0o777)


def merge(staging: str, target: str) -> None:
    """Moves the staged tree over ``target``: what is there and not in the archive stays."""
    if os.path.islink(target) or (os.path.exists(target) and not os.path.isdir(target)):
        os.unlink(target)
    if not os.path.exists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.move(staging, target)
        return
    for entry in os.scandir(staging):
        place = os.path.join(target, entry.name)
        if entry.is_dir(follow_symlinks=False):
            merge(entry.path, place)
        else:
            place_file(entry.path, place)
    shutil.rmtree(staging, ignore_errors=True)


def place_file(source: str, target: str) -> None:
    """Replaces ``target``, whatever it is, by the file or link ``source``."""
    if os.path.isdir(target) and not os.path.islink(target):
        shutil.rmtree(target)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    try:
        os.replace(source, target)
    except OSError:  # Another file system.
        if os.path.lexists(target):
            os.unlink(target)
        shutil.move(source, target)
