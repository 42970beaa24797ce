"""Refreshing the catalog: fetch each part, keep what could not be fetched, refuse what shrank.

The last good rows of every part (a cloud, or a region of a large one) stay in a file of their own. A fetch
that fails leaves its file alone, with the age it had; the catalog is all files together, over the rows that
shipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from stix.catalog.row import CatalogRow
from stix.catalog.row_bytes import RowBytesError, dump_rows, load_rows
from stix.catalog.source import WHOLE_CLOUD, Source
from stix.model.errors import ConflictError, StixError
from stix.ports.object_store import ObjectNotFoundError

__all__ = [
    "MOST_SHRINK",
    "Files",
    "PartReport",
    "ShrankError",
    "current_rows",
    "forbid_shrink",
    "publishable_rows",
    "record_published",
    "refresh",
    "refresh_part",
]

MOST_SHRINK = 0.3
"""A catalog or a price list that lost more than this share of its rows is not believed."""
_PREFIX = "catalog/rows/"
_PUBLISHED = "catalog/published-rows"


class ShrankError(ConflictError):
    """Over 30 % of the rows are gone, as when an API changed. ``details`` has the counts."""

    default_code = "catalog_shrank"


class Files(Protocol):
    """The part of ``ObjectStore`` that a refresh uses."""

    def put(self, key: str, data: bytes) -> None: ...

    def get(self, key: str) -> bytes: ...

    def keys(self, prefix: str) -> Iterator[str]: ...


@dataclass(frozen=True, slots=True)
class PartReport:
    """What became of a part: ``rows`` that it has now, fetched just now unless there is an ``error``."""

    cloud: str
    part: str
    rows: int
    error: str = ""
    left_out: Mapping[str, int] = field(default_factory=dict)


def refresh_part(
    files: Files, source: Source, part: str, baseline: Iterable[CatalogRow], *, allow_shrink: bool = False
) -> PartReport:
    """Fetch a part and keep its rows. A failure that has a name leaves the rows there were and is reported.

    ``baseline``: the rows that shipped, which count as the part's until it was fetched once.
    """
    before = _part_rows(files, source.cloud, part)
    if before is None:
        before = [row for row in baseline if _covers(source.cloud, part, row)]
    try:
        fetched = source.fetch(part)
        if not source.moving:
            forbid_shrink(len(before), len(fetched.rows), _called(source.cloud, part), allow=allow_shrink)
    except StixError as exc:
        return PartReport(source.cloud, part, len(before), error=str(exc))
    files.put(_key(source.cloud, part), dump_rows(fetched.rows))
    return PartReport(source.cloud, part, len(fetched.rows), left_out=fetched.left_out)


def refresh(
    files: Files,
    sources: Iterable[Source],
    baseline: Iterable[CatalogRow],
    *,
    allow_shrink: bool = False,
    progress: Callable[[PartReport], None] = lambda _: None,
) -> list[PartReport]:
    """Every part of the sources, one after the other. ``progress`` hears of each as it is done."""
    shipped = list(baseline)
    reports = []
    for source in sources:
        try:
            parts = source.parts()
        except StixError as exc:
            rows = sum(row.cloud == source.cloud for row in current_rows(files, shipped))
            reports.append(PartReport(source.cloud, WHOLE_CLOUD, rows, error=str(exc)))
            progress(reports[-1])
            continue
        for part in parts:
            reports.append(refresh_part(files, source, part, shipped, allow_shrink=allow_shrink))
            progress(reports[-1])
    return reports


def current_rows(files: Files, baseline: Iterable[CatalogRow]) -> list[CatalogRow]:
    """The whole catalog: the last good rows of each part, and the shipped ones of parts never fetched."""
    rows: list[CatalogRow] = []
    fetched: set[tuple[str, str]] = set()
    for key in sorted(files.keys(_PREFIX)):
        place = _place(key)
        if place is None:
            continue
        part = _part_rows(files, *place)
        if part is not None:
            fetched.add(place)
            rows.extend(part)
    rows.extend(
        row
        for row in baseline
        if (row.cloud, WHOLE_CLOUD) not in fetched and (row.cloud, row.region) not in fetched
    )
    return rows


def publishable_rows(
    files: Files, baseline: Iterable[CatalogRow], *, allow_shrink: bool = False
) -> list[CatalogRow]:
    """``current_rows``, to be published. Raises ``ShrankError`` for far fewer than were published last."""
    rows = current_rows(files, baseline)
    try:
        before = int(files.get(_PUBLISHED))
    except (ObjectNotFoundError, ValueError):
        before = 0
    forbid_shrink(before, len(rows), "The catalog", allow=allow_shrink)
    return rows


def record_published(files: Files, rows: int) -> None:
    """Remember how many rows were published, for the next ``publishable_rows``."""
    files.put(_PUBLISHED, str(rows).encode())


def forbid_shrink(before: int, after: int, what: str, *, allow: bool = False) -> None:
    """Raises ``ShrankError`` when ``after`` is less than 70 % of ``before``, unless it is allowed."""
    if not allow and after < before * (1 - MOST_SHRINK):
        raise ShrankError(
            f"{what} has {after} offers where it had {before}: over {MOST_SHRINK:.0%} fewer.",
            hint="If that is right, refresh with the option that allows it to shrink.",
            details={"before": before, "after": after},
        )


def _part_rows(files: Files, cloud: str, part: str) -> list[CatalogRow] | None:
    """None for a part without a file, or with one that cannot be read: it is then as if never fetched."""
    try:
        return load_rows(files.get(_key(cloud, part)))
    except (ObjectNotFoundError, RowBytesError):
        return None


def _covers(cloud: str, part: str, row: CatalogRow) -> bool:
    return row.cloud == cloud and part in (WHOLE_CLOUD, row.region)


def _called(cloud: str, part: str) -> str:
    return f"The price list of {cloud}/{part}" if part else f"The price list of {cloud}"


def _key(cloud: str, part: str) -> str:
    return f"{_PREFIX}{cloud}/{part or '_'}.csv.gz"


def _place(key: str) -> tuple[str, str] | None:
    cloud, slash, name = key.removeprefix(_PREFIX).partition("/")
    part = name.removesuffix(".csv.gz")
    return (cloud, "" if part == "_" else part) if slash and part != name else None
