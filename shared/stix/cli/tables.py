"""Plain tables that fit a terminal, and JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from stix.cli.session import Session

__all__ = ["Column", "output_option", "paint_status", "print_json", "say_folded", "shorten", "table"]

_LEAST = 8
_GAP = "  "
_COLOURS = {
    "green": {"UP", "READY", "RUNNING", "SUCCEEDED", "enabled"},
    "yellow": {
        "INIT",
        "PENDING",
        "SETTING_UP",
        "AUTOSTOPPING",
        "UNREACHABLE",
        "STARTING",
        "RECOVERING",
        "CANCELLING",
        "NOT_READY",
        "NO_REPLICA",
        "PREEMPTED",
        "PROVISIONING",
        "REPLICA_INIT",
        "SHUTTING_DOWN",
    },
    "red": {
        "FAILED",
        "FAILED_SETUP",
        "FAILED_DRIVER",
        "FAILED_PRECHECKS",
        "FAILED_NO_RESOURCE",
        "FAILED_CONTROLLER",
        "FAILED_CLEANUP",
        "FAILED_INITIAL_DELAY",
        "FAILED_PROBING",
        "FAILED_PROVISION",
    },
}

output_option = click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", help="How to print it."
)


@dataclass(frozen=True, slots=True)
class Column:
    """``shrinks``: gives way, by shortening in the middle, where the table is too wide."""

    title: str
    shrinks: bool = False
    right: bool = False
    status: bool = False


def table(session: Session, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print a table no wider than the terminal where its shrinking columns allow it."""
    widths = [max([len(column.title), *(len(row[at]) for row in rows)]) for at, column in enumerate(columns)]
    _fit(widths, columns, session.width)
    session.say(_line([column.title for column in columns], widths, columns, lambda text, column: text))
    for row in rows:
        session.say(_line(row, widths, columns, lambda text, column: _paint(session, text, column)))


def _fit(widths: list[int], columns: Sequence[Column], room: int) -> None:
    shrinking = [at for at, column in enumerate(columns) if column.shrinks]
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - room
    while excess > 0:
        widest = max(shrinking, key=lambda at: widths[at], default=None)
        if widest is None or widths[widest] <= _LEAST:
            return
        widths[widest] -= 1
        excess -= 1


def _line(
    cells: Sequence[str],
    widths: Sequence[int],
    columns: Sequence[Column],
    paint: Callable[[str, Column], str],
) -> str:
    parts = []
    for at, (cell, width, column) in enumerate(zip(cells, widths, columns, strict=True)):
        text = shorten(cell, width)
        padding = " " * (width - len(text))
        last = at == len(columns) - 1
        text = paint(text, column)
        parts.append(padding + text if column.right else text + ("" if last else padding))
    return _GAP.join(parts).rstrip()


def shorten(text: str, width: int) -> str:
    """``text`` in at most ``width`` characters; the middle goes, beginnings and endings tell things apart."""
    if len(text) <= width:
        return text
    if width < 5:
        return text[:width]
    left = (width - 1) // 2
    return f"{text[:left]}..{text[len(text) - (width - left - 2) :]}"


def say_folded(session: Session, text: str) -> None:
    """Sentences, folded at the terminal's width; further lines are indented by two more."""
    from textwrap import wrap

    bare = text.lstrip()
    indent = " " * (len(text) - len(bare))
    room = max(40, session.width)
    for line in wrap(bare, room, initial_indent=indent, subsequent_indent=indent + "  "):
        session.say(line)


def _paint(session: Session, text: str, column: Column) -> str:
    return paint_status(session, text) if column.status else text


def paint_status(session: Session, text: str) -> str:
    if not session.colour:
        return text
    colour = next((colour for colour, names in _COLOURS.items() if text in names), None)
    return click.style(text, fg=colour) if colour else text


def print_json(session: Session, document: Any) -> None:
    session.say(json.dumps(document, indent=2))
