"""One line of a ``.gitignore``, matched as git matches it (https://git-scm.com/docs/gitignore).

A pattern judges one entry of a folder by its own path, never by a parent's: whoever walks the tree does not
enter an ignored folder, and that is how git ignores what is inside. A matcher that also judges by parents
gets the usual allow list (``*``, ``!*/``, ``!*.py``) wrong.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["IgnorePattern", "parse_line"]

_SPECIAL = re.compile(r"[*?\[\\]")
_CLASSES = {
    "alnum": "a-zA-Z0-9",
    "alpha": "a-zA-Z",
    "blank": " \\t",
    "digit": "0-9",
    "lower": "a-z",
    "punct": re.escape("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"),
    "space": "\\s",
    "upper": "A-Z",
    "xdigit": "0-9a-fA-F",
}


@dataclass(frozen=True, slots=True)
class IgnorePattern:
    """``anchored`` patterns see the path below their file's folder, others the entry's name alone."""

    regex: re.Pattern[str]
    ignore: bool
    anchored: bool
    folders_only: bool

    def matches(self, path: str, *, is_folder: bool) -> bool:
        if self.folders_only and not is_folder:
            return False
        return self.regex.fullmatch(path if self.anchored else path.rpartition("/")[2]) is not None


def parse_line(line: str) -> IgnorePattern | None:
    """None for a blank line, a comment, and what can match nothing."""
    text = _without_trailing_spaces(line.removesuffix("\r"))
    if not text or text.startswith("#"):
        return None
    ignore = not text.startswith("!")
    text = text if ignore else text[1:]
    folders_only = text.endswith("/")
    text = text[:-1] if folders_only else text
    anchored = "/" in text
    text = text.removeprefix("/")
    regex = _regex(text, anchored=anchored) if text else None
    return IgnorePattern(regex, ignore, anchored, folders_only) if regex else None


def _without_trailing_spaces(line: str) -> str:
    stripped = line.rstrip(" ")
    escapes = len(stripped) - len(stripped.rstrip("\\"))
    return stripped + " " if escapes % 2 and stripped != line else stripped


def _regex(pattern: str, *, anchored: bool) -> re.Pattern[str] | None:
    """None for a pattern that git takes for broken: an open bracket, or a backslash at the end."""
    out, at = "", 0
    while at < len(pattern):
        char = pattern[at]
        if char == "*":
            run = len(pattern) - at - len(pattern[at:].lstrip("*"))
            piece, at = _stars(pattern, at, run, anchored=anchored)
        elif char == "?":
            piece, at = "[^/]", at + 1
        elif char == "[":
            bracket = _bracket(pattern, at)
            if bracket is None:
                return None
            piece, at = bracket
        elif char == "\\":
            if at + 1 == len(pattern):
                return None
            piece, at = re.escape(pattern[at + 1]), at + 2
        else:
            piece, at = re.escape(char), at + 1
        out += piece
    return re.compile(out, re.DOTALL)


def _stars(pattern: str, at: int, run: int, *, anchored: bool) -> tuple[str, int]:
    """The regex for ``run`` stars at ``at`` and where to go on. Two or more between slashes span folders."""
    end = at + run
    # Git compares the plain text before the first special character apart, so that stars right after it are
    # at the beginning of what is left: `b**/a` also matches `ba`.
    starts = pattern[at - 1 : at] == "/" or not _SPECIAL.search(pattern, 0, at)
    if anchored and run >= 2 and starts and end == len(pattern):
        return ".*", end
    if anchored and run >= 2 and starts and pattern[end] == "/":
        return "(?:.*/)?", end + 1
    return "[^/]*", end


def _bracket(pattern: str, start: int) -> tuple[str, int] | None:
    """The regex for a bracket expression and where to go on; None when it is never closed."""
    at = start + 1
    negated = pattern[at : at + 1] in ("!", "^")
    at += negated
    members, first = "", at
    while at < len(pattern) and (pattern[at] != "]" or at == first):
        named = re.compile(r"\[:([a-z]+):\]").match(pattern, at)
        if named:
            if named[1] not in _CLASSES:
                return None
            members, at = members + _CLASSES[named[1]], named.end()
            continue
        low, at = _literal(pattern, at)
        if pattern[at : at + 1] == "-" and pattern[at + 1 : at + 2] not in ("", "]"):
            high, at = _literal(pattern, at + 1)
            # As git does: of a range that runs backwards, its first character still counts.
            members += f"{re.escape(low)}-{re.escape(high)}" if low <= high else re.escape(low)
        else:
            members += re.escape(low)
    if at >= len(pattern):
        return None
    if negated:
        return f"[^/{members}]", at + 1
    return f"(?!/)[{members}]" if members else "(?!)", at + 1


def _literal(pattern: str, at: int) -> tuple[str, int]:
    if pattern[at] == "\\" and at + 1 < len(pattern):
        return pattern[at + 1], at + 2
    return pattern[at], at + 1
