"""Tables that a command makes, put into the page that shows them."""

from __future__ import annotations

import argparse
from pathlib import Path


def write_or_print(
    parser: argparse.ArgumentParser, page: Path | None, marks: tuple[str, str], text: str
) -> None:
    """Between the two marks of ``page``, or printed without one; ends with an error where it lacks them."""
    if page is None:
        print(text)
        return
    before, begin, rest = page.read_text(encoding="utf-8").partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not (begin and end):
        parser.error(f"{page} has no lines {marks[0]} and {marks[1]}")
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")
