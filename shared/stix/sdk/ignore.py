"""Which files of a folder stay behind: ``.skyignore`` and ``.stixignore``, or else git's own rules."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from stix.sdk.gitignore import IgnorePattern, parse_line

__all__ = ["IgnoreRules"]

_OWN_FILES = (".skyignore", ".stixignore")


@dataclass(frozen=True, slots=True)
class _Scope:
    """Patterns for what is below ``base``, which is relative to the top: ``""`` or ``a/b/``."""

    base: str
    patterns: tuple[IgnorePattern, ...]


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """The rules that hold in one folder of a packed tree.

    ``top`` is the folder of the repository, or the packed one where there is none; ``prefix`` leads from it
    to the packed root (``""`` or ``a/b/``). Paths given to the methods are relative to the packed root.
    """

    top: Path
    prefix: str = ""
    nested: bool = False
    scopes: tuple[_Scope, ...] = ()

    @classmethod
    def of(cls, root: Path) -> IgnoreRules:
        """The rules at ``root``. A ``.skyignore`` or ``.stixignore`` there replaces git's; both count."""
        own = [root / name for name in _OWN_FILES if (root / name).is_file()]
        if own:
            return cls(root, scopes=tuple(_Scope("", _read(file)) for file in own))
        top = next((folder for folder in (root, *root.parents) if (folder / ".git").exists()), root)
        outer = cls(top, nested=True, scopes=(_Scope("", _read(top / ".git" / "info" / "exclude")),))
        path = ""
        for part in root.relative_to(top).parts:
            outer = outer.enter(path)
            path = f"{path}/{part}" if path else part
            if outer.ignores(path, is_folder=True):
                # Git ignores it as a whole, and it was asked for by name: the outer rules say nothing.
                return cls(root, nested=True)
        return replace(outer, prefix=f"{path}/" if path else "")

    def enter(self, folder: str) -> IgnoreRules:
        """The rules inside ``folder`` (``""`` is the root): its own ``.gitignore`` comes on top."""
        base = f"{self.prefix}{folder}/" if folder else self.prefix
        patterns = _read(self.top / base / ".gitignore") if self.nested else ()
        return replace(self, scopes=(*self.scopes, _Scope(base, patterns))) if patterns else self

    def ignores(self, path: str, *, is_folder: bool) -> bool:
        """The innermost file with a match decides, in it the last match. ``.git`` always stays behind."""
        if path.rpartition("/")[2] == ".git":
            return True
        full = self.prefix + path
        for scope in reversed(self.scopes):
            below = full[len(scope.base) :]
            for pattern in reversed(scope.patterns):
                if pattern.matches(below, is_folder=is_folder):
                    return pattern.ignore
        return False


def _read(file: Path) -> tuple[IgnorePattern, ...]:
    """The patterns of ``file``; none where there is no such file."""
    try:
        text = os.fsdecode(file.read_bytes()).removeprefix("\ufeff")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return ()
    return tuple(pattern for line in text.split("\n") if (pattern := parse_line(line)))
