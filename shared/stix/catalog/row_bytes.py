"""Rows as one object of the store: gzipped CSV with a header, the same bytes for the same rows.

The shipped file's schema is this version's own; these outlive upgrades, so columns are found by name.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable
from dataclasses import fields

from stix.catalog.row import CatalogRow

__all__ = ["RowBytesError", "dump_rows", "load_rows"]

_NAMES = tuple(field.name for field in fields(CatalogRow))
_TEXTS = frozenset({"cloud", "region", "zone", "instance_type", "accelerator", "arch", "source"})
_ABSENT = frozenset({"price", "spot_price"})


class RowBytesError(ValueError):
    """The bytes are not a whole object of rows."""


def dump_rows(rows: Iterable[CatalogRow]) -> bytes:
    """Sorted; a price that is None is an empty field."""
    ordered = sorted(rows, key=lambda row: (row.cloud, row.region, row.zone, row.instance_type))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_NAMES)
    for row in ordered:
        values = (getattr(row, name) for name in _NAMES)
        writer.writerow("" if value is None else value for value in values)
    return gzip.compress(text.getvalue().encode(), compresslevel=6, mtime=0)


def load_rows(data: bytes) -> list[CatalogRow]:
    """Columns that this version does not know are passed over. Raises ``RowBytesError``."""
    try:
        reader = csv.DictReader(io.StringIO(gzip.decompress(data).decode()))
        if reader.fieldnames is None:
            raise RowBytesError("not catalog rows: there is no header.")
        return [_row(record) for record in reader]
    except (OSError, EOFError, TypeError, ValueError) as exc:
        raise RowBytesError(f"not catalog rows: {exc}") from exc


def _row(record: dict[str, str]) -> CatalogRow:
    values: dict[str, str | float | None] = {}
    for name in _NAMES:
        if name not in record:
            continue  # a field that is younger than the object has its default
        text = record[name]
        if name in _TEXTS:
            values[name] = text
        elif name in _ABSENT and not text:
            values[name] = None
        else:
            values[name] = float(text)
    return CatalogRow(**values)  # type: ignore[arg-type]
