"""The catalog of a home folder: rows that were fetched or imported, over those that shipped."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from stix.catalog.folder_files import FolderFiles
from stix.catalog.refresh import PartReport, current_rows, publishable_rows, record_published, refresh
from stix.catalog.row import CatalogRow
from stix.catalog.row_bytes import dump_rows
from stix.catalog.snapshot import snapshot_rows, use_rows
from stix.catalog.source import Source

__all__ = ["refresh_clouds", "replace_clouds"]


def refresh_clouds(
    home: Path,
    sources: Iterable[Source],
    *,
    allow_shrink: bool = False,
    progress: Callable[[PartReport], None] = lambda _: None,
) -> tuple[list[PartReport], int]:
    """Fetch and put into use; what became of each part, and the number of offers now.

    Where nothing at all was fetched the catalog stays as it is. Raises ``ShrankError``.
    """
    shipped = snapshot_rows()
    files = FolderFiles(home)
    reports = refresh(files, sources, shipped, allow_shrink=allow_shrink, progress=progress)
    if all(report.error for report in reports):
        return reports, len(current_rows(files, shipped))
    return reports, _use(home, files, shipped, allow_shrink=allow_shrink)


def replace_clouds(home: Path, clouds: Mapping[str, Iterable[CatalogRow]]) -> int:
    """Put ``clouds`` in the place of all that is known of them, shipped offers too, even where that is less;
    the number of offers now."""
    files = FolderFiles(home)
    for cloud, rows in clouds.items():
        # Its regions may have been fetched one by one before.
        shutil.rmtree(home / "catalog" / "rows" / cloud, ignore_errors=True)
        files.put(f"catalog/rows/{cloud}/_.csv.gz", dump_rows(rows))
    return _use(home, files, snapshot_rows(), allow_shrink=True)


def _use(home: Path, files: FolderFiles, shipped: list[CatalogRow], *, allow_shrink: bool) -> int:
    rows = publishable_rows(files, shipped, allow_shrink=allow_shrink)
    use_rows(home, rows)
    record_published(files, len(rows))
    return len(rows)
